/** Work that nobody waits for and that must come about all the same: tried until it does, after longer and longer pauses. */
import { hasCode } from '../shared/errors.ts'
import { retryDelayMs } from './backoff.ts'

/** What retrying needs to know. */
export interface RetryParts {
  /** Whether it is done. */
  readonly task: () => Promise<boolean>
  /** Uniform in [0, 1). */
  readonly random: () => number
}

/** One piece of work, under way or not; it ends with the group it is for. */
export class Retry {
  readonly #parts: RetryParts
  #isOn = false
  #failures = 0
  #timer: ReturnType<typeof setTimeout> | undefined

  constructor(parts: RetryParts) {
    this.#parts = parts
  }

  /** Starts, at once; does nothing if it is under way. */
  start(): void {
    if (this.#isOn) return
    this.#isOn = true
    this.#failures = 0
    void this.#try()
  }

  /** Calls it off. */
  stop(): void {
    this.#isOn = false
    clearTimeout(this.#timer)
  }

  async #try(): Promise<void> {
    const isDone = await this.#parts
      .task()
      .catch((error: unknown) => hasCode(error, 'closed', 'group_stopped', 'fork', 'rollback', 'not_a_member', 'unknown_group'))
    if (isDone || !this.#isOn) return this.stop()
    this.#failures += 1
    this.#timer = setTimeout(() => void this.#try(), retryDelayMs(this.#failures, this.#parts.random))
  }
}
