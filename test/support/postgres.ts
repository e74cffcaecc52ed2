/**
 * A fresh, migrated database for each test file, cloned from one template in about 50 ms.
 *
 * The cluster is started once by `global-setup.ts`; where it is comes through vitest’s `provide`/`inject`.
 */
import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { inject } from 'vitest'

declare module 'vitest' {
  interface ProvidedContext {
    /** URL of the maintenance database of the test cluster. */
    readonly postgresUrl: string
  }
}

/** The database that has every migration and nothing else. */
export const TEMPLATE_DATABASE = 'claviger_template'

export interface FreshDatabase {
  /** For `openDatabase`. */
  readonly url: string
  /** Ends the connections that are left and drops the database. */
  drop(): Promise<void>
}

/** Clones the migrated template. */
export function freshDatabase(): Promise<FreshDatabase> {
  return createDatabase(`template ${TEMPLATE_DATABASE}`)
}

/** A database without any table, for tests of the migrations themselves. */
export function emptyDatabase(): Promise<FreshDatabase> {
  return createDatabase('template template0')
}

/** A copy of a database that may be in use: whoever is connected has to connect again. */
export async function copyDatabase(url: string): Promise<FreshDatabase> {
  const clusterUrl = inject('postgresUrl')
  const name = new URL(url).pathname.slice(1)
  await execute(clusterUrl, `alter database ${name} allow_connections false`)
  try {
    await execute(clusterUrl, `select pg_terminate_backend(pid) from pg_stat_activity where datname = '${name}'`)
    return await createDatabase(`template ${name}`)
  } finally {
    await execute(clusterUrl, `alter database ${name} allow_connections true`)
  }
}

async function createDatabase(from: string): Promise<FreshDatabase> {
  const clusterUrl = inject('postgresUrl')
  const name = `test_${randomBytes(8).toString('hex')}`
  await execute(clusterUrl, `create database ${name} ${from}`)
  return {
    url: databaseUrl(clusterUrl, name),
    drop: () => execute(clusterUrl, `drop database if exists ${name} with (force)`),
  }
}

/** The same server, another database. */
export function databaseUrl(clusterUrl: string, name: string): string {
  const url = new URL(clusterUrl)
  url.pathname = `/${name}`
  return url.href
}

async function execute(url: string, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    await client.query(statement)
  } finally {
    await client.end()
  }
}
