/** Collects the queues that have something to write and flushes them together, once per turn of the event loop. */

export interface Flushable {
  flush(): void
}

export class TickFlush {
  #marked: Flushable[] = []

  /** Flushes `queue` at the end of this turn. A queue marks itself once per flush. */
  mark(queue: Flushable): void {
    if (this.#marked.length === 0) setImmediate(() => this.flush())
    this.#marked.push(queue)
  }

  /** Flushes now. */
  flush(): void {
    const marked = this.#marked
    this.#marked = []
    for (const queue of marked) queue.flush()
  }
}
