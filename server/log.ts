/**
 * JSON logs. What is logged is named field by field: never parameters, tokens, keys, bytes or whole messages.
 *
 * As a second line of defence byte arrays are replaced by their length, and errors by code, message and stack.
 */
import { pino } from 'pino'
import type { Logger } from 'pino'

export const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'silent'] as const
export type LogLevel = (typeof LOG_LEVELS)[number]

/** Plain facts of one event. */
export type LogFacts = Readonly<Record<string, string | number | boolean | null | undefined | readonly string[]>>

export interface Log {
  debug(facts: LogFacts, event: string): void
  info(facts: LogFacts, event: string): void
  warn(facts: LogFacts, event: string): void
  /** @param error - what failed; its causes are logged too. */
  error(facts: LogFacts & { readonly error?: never }, event: string, error?: unknown): void
}

/** A log that writes one JSON object a line. */
export function createLog(level: LogLevel, destination?: { write(line: string): void }): Log {
  const options = { level, base: null, timestamp: pino.stdTimeFunctions.isoTime, messageKey: 'event' }
  return wrap(destination === undefined ? pino(options) : pino(options, destination))
}

function wrap(logger: Logger): Log {
  return {
    debug: (facts, event) => logger.debug(plain(facts), event),
    info: (facts, event) => logger.info(plain(facts), event),
    warn: (facts, event) => logger.warn(plain(facts), event),
    error: (facts, event, error) =>
      logger.error({ ...plain(facts), ...(error === undefined ? {} : { error: describeError(error) }) }, event),
  }
}

function plain(facts: LogFacts): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(facts).map(([key, value]) => [key, value instanceof Uint8Array ? `${value.length} bytes` : value]),
  )
}

/** Levels of `cause` that are logged. */
const CAUSES_MAX = 4

/** Code, message and stack, without the other fields of an error: PostgreSQL puts values there (`detail`, `where`). */
export function describeError(error: unknown, depth = 0): Record<string, unknown> {
  if (!(error instanceof Error)) return { kind: typeof error }
  const code = 'code' in error && typeof error.code === 'string' ? { code: error.code } : {}
  const cause = error.cause === undefined || depth >= CAUSES_MAX ? {} : { cause: describeError(error.cause, depth + 1) }
  return { name: error.name, message: error.message, ...code, ...cause, stack: error.stack }
}
