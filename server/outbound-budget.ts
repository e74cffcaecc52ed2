/**
 * The bound on what all sessions of a process have buffered: past it the largest are closed first.
 *
 * Queues report themselves when they change; small ones are not tracked one by one, since there are many.
 */

/** Buffered bytes below which a queue is not worth tracking. */
export const TRACKED_BYTES_MIN = 64 * 1024

export interface Buffering {
  /** Ends the session of this queue. */
  overflow(): void
}

export class OutboundBudget {
  readonly #bytesMax: number
  readonly #bytesByQueue = new Map<Buffering, number>()
  #total = 0

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax
  }

  /** Bytes buffered by the tracked queues. */
  get bufferedBytes(): number {
    return this.#total
  }

  /** Says how much `queue` has buffered now. */
  report(queue: Buffering, bytes: number): void {
    const before = this.#bytesByQueue.get(queue)
    if (before === undefined && bytes < TRACKED_BYTES_MIN) return
    this.#total += (bytes < TRACKED_BYTES_MIN ? 0 : bytes) - (before ?? 0)
    if (bytes < TRACKED_BYTES_MIN) this.#bytesByQueue.delete(queue)
    else this.#bytesByQueue.set(queue, bytes)
    if (this.#total > this.#bytesMax) this.#closeLargest()
  }

  #closeLargest(): void {
    const largest = [...this.#bytesByQueue].reduce((most, entry) => (entry[1] > most[1] ? entry : most))
    // Forgotten first: closing reports zero, and must not find the bound exceeded again.
    this.#bytesByQueue.delete(largest[0])
    this.#total -= largest[1]
    largest[0].overflow()
  }
}
