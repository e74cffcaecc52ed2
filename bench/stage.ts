/** A real PostgreSQL that syncs to disk, and a real server before it, each in a process of its own. */
import { fork } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import type { ServerLimits } from '../server/index.ts'
import type { Database } from '../server/storage/database.ts'
import { openDatabase } from '../server/storage/database.ts'
import { startEmbeddedPostgres } from '../server/storage/embedded-postgres/index.ts'
import { withDirectory } from './directory.ts'
import type { ServerStats } from './server-process.ts'

export interface Stage {
  /** Of the PostgreSQL that the server uses. */
  readonly databaseUrl: string
  /** A pool of our own to it, for the bare SQL that is compared. */
  readonly database: Database
  readonly server: RunningServer
}

export interface RunningServer {
  /** What clients dial. */
  readonly url: string
  stats(): Promise<ServerStats>
}

/** Nothing a benchmark does should be held back by limits meant for strangers. */
const UNLIMITED: Partial<ServerLimits> = {
  requestsPerSecond: 1_000_000,
  requestsBurst: 1_000_000,
  connectionsPerSecond: 1_000_000,
  connectionsBurst: 1_000_000,
}

/** Runs `use` with a fresh database and server. */
export async function withStage<T>(use: (stage: Stage) => Promise<T>): Promise<T> {
  return withPostgres(async (databaseUrl) => {
    const { child, server } = await startServerProcess(databaseUrl)
    const database = openDatabase({ url: databaseUrl, poolSize: 10 })
    try {
      return await use({ databaseUrl, database, server })
    } finally {
      await database.close()
      await stopProcess(child)
    }
  })
}

/** Runs `use` with the URL of an empty database. */
export function withPostgres<T>(use: (databaseUrl: string) => Promise<T>): Promise<T> {
  return withDirectory(async (directory) => {
    const postgres = await startEmbeddedPostgres({
      directory,
      log: { info: () => undefined, warn: (facts, message) => console.error(message, facts) },
    })
    try {
      return await use(postgres.url)
    } finally {
      await postgres.stop()
    }
  })
}

async function startServerProcess(databaseUrl: string): Promise<{ child: ChildProcess; server: RunningServer }> {
  const path = fileURLToPath(new URL('server-process.js', import.meta.url))
  const child = fork(path, [JSON.stringify(UNLIMITED)], {
    serialization: 'advanced',
    execArgv: ['--expose-gc'],
    // Not as an argument: it holds the password, and process titles are for everybody to read.
    env: { ...process.env, DATABASE_URL: databaseUrl },
  })
  const url = await nextMessage<string>(child)
  const stats = (): Promise<ServerStats> => {
    const answered = nextMessage<ServerStats>(child)
    child.send('stats')
    return answered
  }
  return { child, server: { url, stats } }
}

async function nextMessage<T>(child: ChildProcess): Promise<T> {
  const ended = once(child, 'exit').then(() => {
    throw new Error('the server process ended')
  })
  const [message] = (await Promise.race([once(child, 'message'), ended])) as [{ readonly value: T }]
  return message.value
}

async function stopProcess(child: ChildProcess): Promise<void> {
  const exit = once(child, 'exit')
  child.disconnect()
  await exit
}

/** Version of a database, for the conditions of a report. */
export async function databaseVersion(): Promise<string> {
  return withPostgres(async (url) => {
    const client = new pg.Client({ connectionString: url })
    await client.connect()
    const { rows } = await client.query<{ version: string; fsync: string }>(
      "select current_setting('server_version') as version, current_setting('fsync') as fsync",
    )
    await client.end()
    return `${rows[0]?.version ?? 'unknown'}, fsync ${rows[0]?.fsync ?? 'unknown'}`
  })
}
