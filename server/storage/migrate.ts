/**
 * Brings a database to the newest schema: forward only, each step in its own transaction under one advisory lock.
 *
 * The lock and the reading of what has been applied are separate statements: in one statement the read would see
 * the database as it was before the wait for the lock, and the step would run twice.
 */
import { sql } from 'kysely'
import type { Transaction } from 'kysely'
import { ClavigerError } from '../../shared/errors.ts'
import type { Database } from './database.ts'
import { MIGRATIONS } from './migrations/index.ts'
import type { Migration } from './migrations/migration.ts'
import type { Schema } from './schema.ts'

/** “clav” and “migr” as two int4: no other use of this database takes them. */
const LOCK = sql`pg_advisory_xact_lock(${sql.lit(0x63_6c_61_76)}, ${sql.lit(0x6d_69_67_72)})`

const HISTORY = sql`create table if not exists schema_migrations
  (version int primary key, name text not null, applied_at timestamptz not null default now())`

/**
 * Applies the steps that are missing; several processes may call it at once.
 *
 * @returns the versions this call applied.
 * @throws ClavigerError `database_newer` if the database has steps this program does not know.
 */
export async function migrate(database: Database, migrations: readonly Migration[] = MIGRATIONS): Promise<readonly number[]> {
  const applied: number[] = []
  for (const migration of migrations) {
    if (await applyOnce(database, migration, migrations)) applied.push(migration.version)
  }
  return applied
}

function applyOnce(database: Database, migration: Migration, known: readonly Migration[]): Promise<boolean> {
  return database.kysely.transaction().execute(async (transaction) => {
    await sql`select ${LOCK}`.execute(transaction)
    if ((await readHistory(transaction, known)).has(migration.version)) return false
    for (const statement of migration.statements) await sql.raw(statement).execute(transaction)
    await transaction.insertInto('schema_migrations').values({ version: migration.version, name: migration.name }).execute()
    return true
  })
}

async function readHistory(transaction: Transaction<Schema>, known: readonly Migration[]): Promise<ReadonlySet<number>> {
  await HISTORY.execute(transaction)
  const rows = await transaction.selectFrom('schema_migrations').select(['version', 'name']).orderBy('version').execute()
  for (const row of rows) {
    if (!known.some((migration) => migration.version === row.version && migration.name === row.name)) {
      throw unknownStep(row.version, row.name, known.length)
    }
  }
  return new Set(rows.map((row) => row.version))
}

function unknownStep(version: number, name: string, known: number): ClavigerError {
  return new ClavigerError('database_newer', `The database has schema step ${version} (${name}), this program knows ${known}; update it.`)
}
