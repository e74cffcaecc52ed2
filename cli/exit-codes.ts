/** Exit codes of `claviger`: what a script may tell apart. The README lists them. */
import type { ErrorCode } from '../shared/errors.ts'
import { ClavigerError } from '../shared/errors.ts'

export const EXIT_CODES = {
  ok: 0,
  /** Something failed that has no code of its own; the message says what. */
  failure: 1,
  /** Wrong command, flag, or setting. */
  usage: 2,
  /** The port is taken. */
  portInUse: 3,
  /** The database or the data directory cannot be used. */
  database: 4,
  /** Ended by a second Ctrl-C, before everything was finished. */
  interrupted: 130,
} as const

export type ExitCode = (typeof EXIT_CODES)[keyof typeof EXIT_CODES]

const EXIT_CODE_BY_ERROR: Partial<Record<ErrorCode, ExitCode>> = {
  config_invalid: EXIT_CODES.usage,
  port_in_use: EXIT_CODES.portInUse,
  database_unreachable: EXIT_CODES.database,
  database_foreign: EXIT_CODES.database,
  database_newer: EXIT_CODES.database,
  database_platform: EXIT_CODES.database,
  database_version: EXIT_CODES.database,
  database_start_failed: EXIT_CODES.database,
  storage_full: EXIT_CODES.database,
  server_unavailable: EXIT_CODES.database,
}

/** The code that stands for an error. */
export function exitCodeOf(error: unknown): ExitCode {
  return (error instanceof ClavigerError ? EXIT_CODE_BY_ERROR[error.code] : undefined) ?? EXIT_CODES.failure
}
