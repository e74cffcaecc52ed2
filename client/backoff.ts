/** How long to wait before connecting again: exponential with full jitter, so that a restarted server is not stampeded. */

/** Ceiling of the first jittered delay. */
export const RETRY_MS_MIN = 250
/** Ceiling of every delay: how long a client may stay away after the server is back. */
export const RETRY_MS_MAX = 30_000

/**
 * Milliseconds before attempt number `attempt`: none before the first, then uniform in [0, ceiling), the ceiling doubling.
 *
 * @param attempt - 0 for the first attempt after a session that had lasted.
 * @param random - uniform in [0, 1).
 */
export function retryDelayMs(attempt: number, random: () => number): number {
  if (attempt <= 0) return 0
  const ceiling = Math.min(RETRY_MS_MAX, RETRY_MS_MIN * 2 ** (attempt - 1))
  return Math.floor(random() * ceiling)
}
