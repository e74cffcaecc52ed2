/**
 * What the database's failures mean to a client.
 *
 * A lost connection leaves open whether the transaction took place: the client finds out by the compare-and-set of
 * its next attempt (its own header comes back in `version_conflict`, its own commit is the head).
 */
import { ClavigerError } from '../../shared/errors.ts'

/** Two transactions met in a way that only a repetition resolves (serialization failure, deadlock). */
const COLLISIONS: ReadonlySet<string> = new Set(['40001', '40P01'])
const DISK_FULL = '53100'
const UNIQUE_VIOLATION = '23505'

/** Too many connections, shutdown, crash recovery, a statement or connection ended from outside. */
const UNAVAILABLE: ReadonlySet<string> = new Set(['53300', '57014', '57P01', '57P02', '57P03', '25006'])
const SOCKET_FAILURES: ReadonlySet<string> = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ENOENT',
  'EPIPE',
  'ETIMEDOUT',
  'ENOTFOUND',
  'EAI_AGAIN',
])
/** The driver gives these no code. */
const DRIVER_FAILURE =
  /^(Connection terminated|Query read timeout|timeout exceeded when trying to connect|Client has encountered a connection error|Client was closed)/

/** Runs `work` and turns the database's own failures into ours; a ClavigerError passes unchanged. */
export async function withStorageErrors<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    throw storageError(error)
  }
}

/** Repeats `work` once after a collision: locks are taken in one order, so a second one is a fault worth seeing. */
export async function retryCollision<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (!isCollision(error)) throw error
    return await work()
  }
}

export function isCollision(error: unknown): boolean {
  return COLLISIONS.has(codeOf(error))
}

/** Whether the server has not answered in time: nothing more comes over that connection. */
export function isUnanswered(error: unknown): boolean {
  return error instanceof Error && error.message === 'Query read timeout'
}

/** Whether a row with this key exists already. */
export function isUniqueViolation(error: unknown): boolean {
  return codeOf(error) === UNIQUE_VIOLATION
}

function storageError(error: unknown): unknown {
  const code = codeOf(error)
  if (code === DISK_FULL) return new ClavigerError('storage_full', undefined, { cause: error })
  if (isCollision(error) || isUnavailable(error, code)) return new ClavigerError('server_unavailable', undefined, { cause: error })
  return error
}

function isUnavailable(error: unknown, code: string): boolean {
  if (UNAVAILABLE.has(code) || SOCKET_FAILURES.has(code) || code.startsWith('08')) return true
  return error instanceof Error && DRIVER_FAILURE.test(error.message)
}

function codeOf(error: unknown): string {
  if (!(error instanceof Error) || error instanceof ClavigerError || !('code' in error)) return ''
  return typeof error.code === 'string' ? error.code : ''
}
