/** Changes as an async iterator: buffered per reader, ended by `return` or an `AbortSignal`. */
import type { GroupChange } from './changes.ts'

/** Changes a slow reader may fall behind before the oldest are dropped. */
const BUFFERED_CHANGES_MAX = 10_000

export class ChangeQueue implements AsyncIterableIterator<GroupChange> {
  readonly #buffer: GroupChange[] = []
  readonly #onEnd: () => void
  #waiting: ((result: IteratorResult<GroupChange>) => void) | null = null
  #isEnded = false

  constructor(onEnd: () => void) {
    this.#onEnd = onEnd
  }

  push(change: GroupChange): void {
    const waiting = this.#waiting
    this.#waiting = null
    if (waiting !== null) waiting({ value: change, done: false })
    else if (this.#buffer.push(change) > BUFFERED_CHANGES_MAX) this.#buffer.shift()
  }

  next(): Promise<IteratorResult<GroupChange>> {
    const change = this.#buffer.shift()
    if (change !== undefined) return Promise.resolve({ value: change, done: false })
    if (this.#isEnded) return Promise.resolve({ value: undefined, done: true })
    return new Promise((resolve) => {
      this.#waiting = resolve
    })
  }

  return(): Promise<IteratorResult<GroupChange>> {
    this.end()
    return Promise.resolve({ value: undefined, done: true })
  }

  end(): void {
    if (this.#isEnded) return
    this.#isEnded = true
    this.#onEnd()
    this.#waiting?.({ value: undefined, done: true })
    this.#waiting = null
  }

  [Symbol.asyncIterator](): this {
    return this
  }
}
