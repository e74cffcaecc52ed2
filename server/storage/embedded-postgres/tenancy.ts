/**
 * One process’s hold on the server: a connection with a shared advisory lock, given back when the process ends,
 * however it ends. The last one to leave gets the exclusive lock and stops the server.
 */
import { realpath } from 'node:fs/promises'
import pg from 'pg'
import type { Credentials } from './credentials.ts'
import { startFailure } from './failure.ts'

/** “clav” and “host” as two int4. */
const LOCK = '1668047222, 1752134516'

/** The database the server works in. The lock and the marker are in `postgres`, apart from its tables. */
export const DATABASE_NAME = 'claviger'
export const MAINTENANCE_DATABASE = 'postgres'

/** What an attempt to move in met. */
export type Contact =
  | { readonly state: 'held'; readonly tenancy: Tenancy }
  /** Nobody listens. */
  | { readonly state: 'absent' }
  /** Starting, or about to stop: look again. */
  | { readonly state: 'busy' }
  | { readonly state: 'foreign'; readonly reason: string }

export interface Tenancy {
  /** Resolves when the connection is lost, or given back. */
  readonly lost: Promise<void>
  /**
   * Gives the hold back. If nobody else has one, `stopServer` runs while newcomers are kept out.
   *
   * @returns whether this was the last.
   */
  leave(stopServer: () => Promise<void>): Promise<boolean>
}

export interface Address {
  readonly url: string
  readonly dataDirectory: string
  readonly credentials: Credentials
}

/** Connects, makes sure the server is ours, and takes the shared lock. */
export async function moveIn(address: Address): Promise<Contact> {
  const client = new pg.Client({ connectionString: address.url, application_name: 'claviger tenancy', keepAlive: true })
  const lost = new Promise<void>((resolve) => client.once('end', () => resolve()))
  client.on('error', () => undefined) // 'end' follows, and is what is waited for.
  try {
    await client.connect()
    const refusal = await findRefusal(client, address)
    if (refusal !== null) return await refuse(client, { state: 'foreign', reason: refusal })
    if (!(await tryLock(client, 'pg_try_advisory_lock_shared'))) return await refuse(client, { state: 'busy' })
    await ensureDatabase(client)
    return { state: 'held', tenancy: { lost, leave: (stopServer) => leave(client, stopServer) } }
  } catch (error) {
    await client.end().catch(() => undefined)
    return contactOf(error)
  }
}

async function refuse(client: pg.Client, contact: Contact): Promise<Contact> {
  await client.end().catch(() => undefined)
  return contact
}

/** Password right, directory right, marker right: ours. A cluster that was made but never marked is marked now. */
async function findRefusal(client: pg.Client, { dataDirectory, credentials }: Address): Promise<string | null> {
  const directory = await client.query<{ data_directory: string }>('show data_directory')
  const served = directory.rows[0]?.data_directory ?? ''
  if ((await realpath(served).catch(() => served)) !== dataDirectory) return `it serves ${served}`
  await client.query('create table if not exists claviger_cluster (id text primary key)')
  await client.query('insert into claviger_cluster select $1 where not exists (select from claviger_cluster)', [credentials.id])
  const marker = await client.query<{ id: string }>('select id from claviger_cluster')
  return marker.rows.some(({ id }) => id === credentials.id) ? null : 'it carries another mark'
}

async function tryLock(client: pg.Client, attempt: 'pg_try_advisory_lock_shared' | 'pg_try_advisory_lock'): Promise<boolean> {
  const { rows } = await client.query<{ taken: boolean }>(`select ${attempt}(${LOCK}) as taken`)
  return rows[0]?.taken === true
}

async function ensureDatabase(client: pg.Client): Promise<void> {
  const { rowCount } = await client.query('select from pg_database where datname = $1', [DATABASE_NAME])
  if (rowCount === 0) await client.query(`create database ${DATABASE_NAME} template template0`)
}

async function leave(client: pg.Client, stopServer: () => Promise<void>): Promise<boolean> {
  try {
    await client.query(`select pg_advisory_unlock_shared(${LOCK})`)
    const last = await tryLock(client, 'pg_try_advisory_lock')
    if (last) await stopServer()
    return last
  } finally {
    await client.end().catch(() => undefined)
  }
}

/** Codes that pass: starting up or shutting down, ended by a shutdown, no free connection. */
const BUSY = new Set(['57P03', '57P01', '57P02', '53300', 'ECONNRESET', 'EPIPE', 'EAGAIN'])
const ABSENT = new Set(['ENOENT', 'ECONNREFUSED'])
const FOREIGN = new Set(['28P01', '28000', '3D000'])

function contactOf(error: unknown): Contact {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  const message = error instanceof Error ? error.message : String(error)
  if (ABSENT.has(code)) return { state: 'absent' }
  if (BUSY.has(code) || message.startsWith('Connection terminated')) return { state: 'busy' }
  if (FOREIGN.has(code)) return { state: 'foreign', reason: 'it does not take our password' }
  throw startFailure(message, error)
}
