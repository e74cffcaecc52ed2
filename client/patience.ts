/** How often, and after what pause, something is tried again that failed for a passing reason. */
import type { ErrorCode } from '../shared/errors.ts'
import { hasCode } from '../shared/errors.ts'
import { retryDelayMs } from './backoff.ts'
import type { Connection } from './connection.ts'

/** What passes by itself: a lost connection, or a server that cannot act now. */
const PASSING: readonly ErrorCode[] = ['disconnected', 'timeout', 'server_unavailable', 'server_draining', 'rate_limited']
/** Tries before the failure itself is told; with the pauses between them a few seconds. */
const TRIES_MAX = 6

/** What patience needs to know of a client. */
export interface PatienceParts {
  readonly connection: Pick<Connection, 'whenOpen'>
  /** Uniform in [0, 1). */
  readonly random: () => number
}

/** The patience of one task. */
export class Patience {
  readonly #parts: PatienceParts
  readonly #signal: AbortSignal | undefined
  #failures = 0

  constructor(parts: PatienceParts, signal?: AbortSignal) {
    this.#parts = parts
    this.#signal = signal
  }

  /**
   * Waits until another try makes sense: for the next session, or for a server that is there and cannot act, a while longer
   * each time.
   *
   * @throws `error` itself if it does not pass or has come too often; the signal’s reason.
   */
  async outlast(error: unknown): Promise<void> {
    this.#failures += 1
    if (!hasCode(error, ...PASSING) || this.#failures >= TRIES_MAX) throw error
    if (!hasCode(error, 'disconnected', 'timeout')) await pause(retryDelayMs(this.#failures, this.#parts.random), this.#signal)
    await this.#parts.connection.whenOpen(this.#signal === undefined ? {} : { signal: this.#signal })
  }
}

/** Runs an idempotent task until it succeeds or fails for good. */
export async function withPatience<T>(parts: PatienceParts, task: () => Promise<T>, signal?: AbortSignal): Promise<T> {
  const patience = new Patience(parts, signal)
  for (;;) {
    signal?.throwIfAborted()
    try {
      return await task()
    } catch (error) {
      await patience.outlast(error)
    }
  }
}

/** Resolves after `ms`. @throws the signal’s reason. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const done = (): void => {
      signal?.removeEventListener('abort', aborted)
      resolve()
    }
    const timer = setTimeout(done, ms)
    const aborted = (): void => {
      clearTimeout(timer)
      reject(signal?.reason)
    }
    if (signal?.aborted === true) aborted()
    else signal?.addEventListener('abort', aborted, { once: true })
  })
}
