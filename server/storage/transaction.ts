/**
 * One transaction on one connection, with one bounded repetition after a collision.
 *
 * Always READ COMMITTED, whatever the database's default: every statement after the lock on the group sees all that
 * was committed before the lock was given, which is what the fences rely on.
 */
import type { PoolClient } from 'pg'
import type { Database } from './database.ts'
import { isUnanswered, retryCollision, withStorageErrors } from './storage-error.ts'

const BEGIN = 'begin isolation level read committed'

/** Commits what `work` did, or nothing of it if it throws. `work` may run twice. */
export function transact<T>(database: Database, work: (connection: PoolClient) => Promise<T>): Promise<T> {
  return withStorageErrors(() => retryCollision(() => runOnce(database, work)))
}

async function runOnce<T>(database: Database, work: (connection: PoolClient) => Promise<T>): Promise<T> {
  const connection = await database.pool.connect()
  let broken: Error | undefined
  // A connection that breaks between two statements says so by an event; the next statement fails with it.
  const onError = (error: Error): void => void (broken = error)
  connection.on('error', onError)
  try {
    await connection.query(BEGIN)
    const result = await work(connection)
    await connection.query('commit')
    return result
  } catch (error) {
    if (isUnanswered(error)) broken ??= asError(error)
    else await connection.query('rollback').catch((failure: unknown) => (broken ??= asError(failure)))
    throw error
  } finally {
    connection.off('error', onError)
    connection.release(broken)
  }
}

function asError(failure: unknown): Error {
  return failure instanceof Error ? failure : new Error('the rollback failed', { cause: failure })
}
