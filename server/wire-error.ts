/**
 * Errors as clients see them: only codes marked `wire`, never a stack, a query or a value of ours.
 *
 * Anything else becomes `internal` with a random reference under which the log has the reason.
 */
import { toHex } from '../shared/bytes.ts'
import { randomBytes } from '../shared/crypto/public-crypto.ts'
import type { ErrorCode } from '../shared/errors.ts'
import { ClavigerError, ERRORS } from '../shared/errors.ts'

/** The part of an error that travels. */
export interface WireError {
  readonly code: ErrorCode
  readonly message: string
  readonly data: Record<string, unknown>
}

/** A wire error, and whether it is the server’s own failure. */
export interface Verdict {
  readonly wire: WireError
  /** The error to log; null if it is the client’s business only. */
  readonly failure: unknown
}

/** What a client is told about `error`. */
export function judgeError(error: unknown): Verdict {
  const known = error instanceof ClavigerError ? error : databaseError(error)
  if (known === null || !ERRORS[known.code].wire) return internal(error)
  const wire = { code: known.code, message: known.message, data: { ...known.data } }
  return { wire, failure: known === error ? null : error }
}

function internal(error: unknown): Verdict {
  const reference = toHex(randomBytes(8))
  return { wire: { code: 'internal', message: ERRORS.internal.advice, data: { reference } }, failure: error }
}

/** PostgreSQL’s error classes (appendix A of its manual) and Node’s socket errors that have a code of ours. */
const CODE_BY_STATE: readonly (readonly [RegExp, ErrorCode])[] = [
  [/^53100$/, 'storage_full'],
  [/^(08|53|57P|58)/, 'server_unavailable'],
  [/^57014$/, 'server_unavailable'],
  [/^(ECONN|EPIPE|ENOTFOUND|ETIMEDOUT|ENOENT|EAI_AGAIN)/, 'server_unavailable'],
]

const LOST_CONNECTION = /^(Connection terminated|timeout exceeded when trying to connect|Cannot use a pool after|Client has encountered a connection error)/

function databaseError(error: unknown): ClavigerError | null {
  if (!(error instanceof Error)) return null
  const state = 'code' in error && typeof error.code === 'string' ? error.code : ''
  const code = CODE_BY_STATE.find(([pattern]) => pattern.test(state))?.[1]
  if (code !== undefined) return new ClavigerError(code, undefined, { cause: error })
  return LOST_CONNECTION.test(error.message) ? new ClavigerError('server_unavailable', undefined, { cause: error }) : null
}
