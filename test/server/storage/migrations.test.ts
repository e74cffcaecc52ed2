/** The schema: migrated once whoever asks, and fit for distribution by group. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openDatabase } from '../../../server/storage/database.ts'
import type { Database } from '../../../server/storage/database.ts'
import { migrate } from '../../../server/storage/migrate.ts'
import { initialSchemaStatements } from '../../../server/storage/migrations/0001-initial-schema.ts'
import { MIGRATIONS } from '../../../server/storage/migrations/index.ts'
import { emptyDatabase, freshDatabase } from '../../support/postgres.ts'
import type { FreshDatabase } from '../../support/postgres.ts'

const LATEST = MIGRATIONS.map(({ version }) => version)

describe('migrations', () => {
  let fresh: FreshDatabase
  let database: Database

  beforeAll(async () => {
    fresh = await emptyDatabase()
    database = openDatabase(fresh.url)
  })

  afterAll(async () => {
    await database.close()
    await fresh.drop()
  })

  test('are numbered from one without gaps', () => {
    expect(LATEST).toEqual(MIGRATIONS.map((_, index) => index + 1))
  })

  test('run once when three processes start together', async () => {
    const applied = await Promise.all([migrate(database), migrate(database), migrate(database)])
    expect(applied.flat()).toEqual(LATEST)
    expect(await migrate(database)).toEqual([])
  })

  test('that fail half-way leave nothing behind', async () => {
    const broken = { version: LATEST.length + 1, name: 'broken', statements: ['create table half_made (a int)', 'select nonsense'] }
    await expect(migrate(database, [...MIGRATIONS, broken])).rejects.toThrow(/nonsense/)
    expect((await database.pool.query(`select to_regclass('half_made') as found`)).rows).toEqual([{ found: null }])
  })

  test('of a newer program make an older one stop', async () => {
    const newer = { version: LATEST.length + 1, name: 'from-the-future', statements: [] }
    await migrate(database, [...MIGRATIONS, newer])
    await expect(migrate(database)).rejects.toMatchObject({ code: 'database_newer' })
  })
})

describe('the schema', () => {
  test('can be partitioned by hash of the group', async () => {
    const fresh = await emptyDatabase()
    const database = openDatabase(fresh.url)
    for (const statement of initialSchemaStatements(4)) await database.pool.query(statement)
    const { rows } = await database.pool.query(`select count(*) as partitioned from pg_partitioned_table`)
    await database.close()
    await fresh.drop()
    expect(rows).toEqual([{ partitioned: 21 }])
  })

  test('has the group first in every key of a table that has one', async () => {
    const fresh = await freshDatabase()
    const database = openDatabase(fresh.url)
    const { rows } = await database.pool.query(`
      select i.indexrelid::regclass::text as key from pg_index i join pg_class c on c.oid = i.indrelid
      join pg_namespace n on n.oid = c.relnamespace and n.nspname = 'public'
      join pg_attribute g on g.attrelid = c.oid and g.attname = 'group_id'
      where i.indisunique and i.indkey[0] <> g.attnum`)
    await database.close()
    await fresh.drop()
    expect(rows).toEqual([{ key: 'identity_groups_pkey' }])
  })
})
