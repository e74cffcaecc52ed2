/** Time as a parameter: tests turn the hands themselves. */

export interface Clock {
  /** Milliseconds since 1970. */
  now(): number
  /** Calls `action` once after `delayMs`. @returns how to call it off. */
  after(delayMs: number, action: () => void): () => void
}

/** The machine’s clock. Its timers do not keep the process alive. */
export const systemClock: Clock = {
  now: () => Date.now(),
  after: (delayMs, action) => {
    const timer = setTimeout(action, delayMs)
    timer.unref()
    return () => clearTimeout(timer)
  },
}
