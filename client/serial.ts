/** Runs tasks one after another, in the order they were given. */
export class Serial {
  #last: Promise<unknown> = Promise.resolve()

  /** Runs `task` when all before it have settled. */
  run<T>(task: () => Promise<T>): Promise<T> {
    const result = this.#last.then(task, task)
    // What a task throws is its caller’s; the next one starts all the same.
    this.#last = result.catch(() => undefined)
    return result
  }
}
