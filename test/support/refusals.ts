/**
 * Saying which refusal a test expects.
 */
import type { ErrorCode } from '../../shared/errors.ts'
import { hasCode } from '../../shared/errors.ts'

/** A handler for `catch` that lets this code pass and nothing else. */
export function isClavigerCode(code: ErrorCode): (error: unknown) => void {
  return (error) => {
    if (!hasCode(error, code)) throw error
  }
}
