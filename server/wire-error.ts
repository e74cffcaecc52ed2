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
  /** Under which the log has an `internal` error. */
  readonly reference: string | null
  /** The error to log; null if it is the client’s business only. */
  readonly failure: unknown
}

/** What a client is told about `error`. */
export function judgeError(error: unknown): Verdict {
  if (!(error instanceof ClavigerError) || !ERRORS[error.code].wire) return internal(error)
  const wire = { code: error.code, message: error.message, data: { ...error.data } }
  return { wire, reference: null, failure: OWN_FAILURES.has(error.code) ? error : null }
}

/** Codes that travel and that the operator should still read about. */
const OWN_FAILURES: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['internal', 'server_unavailable', 'storage_full'])

function internal(error: unknown): Verdict {
  const reference = toHex(randomBytes(8))
  return { wire: { code: 'internal', message: ERRORS.internal.advice, data: { reference } }, reference, failure: error }
}
