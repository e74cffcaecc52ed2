/**
 * How many rows the hot statements read in a large group among many tiny ones, after statistics that know only the tiny ones.
 *
 * The planner then takes every group for tiny, and a statement that leaves it the choice reads the whole group for each row.
 */
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Database } from '../../../server/storage/database.ts'
import { openDatabase } from '../../../server/storage/database.ts'
import { readHeaders, readObjects } from '../../../server/storage/objects.ts'
import { readRange } from '../../../server/storage/page-ranges.ts'
import { replacePages } from '../../../server/storage/page-replace.ts'
import { reportUnopenable } from '../../../server/storage/unopenable.ts'
import type { WriteItem } from '../../../server/storage/writes.ts'
import { writeObjects } from '../../../server/storage/writes.ts'
import type { GroupId, IdentityId } from '../../../shared/ids.ts'
import type { FreshDatabase } from '../../support/postgres.ts'
import { freshDatabase } from '../../support/postgres.ts'
import { newGroup, newItem } from '../../support/storage-group.ts'
import { absorbAll } from '../../support/storage-pages.ts'

const LARGE_TABLES = ['objects', 'loose_deks', 'key_pages', 'bodies', 'unopenable_deks']
const TINY_GROUPS = 5000
const OBJECTS = 6000
/** Rows of one statement, enough runs of which make the driver’s prepared statement a general one. */
const ROWS = 50
const RUNS = 8

let fresh: FreshDatabase
/** One connection, so that all runs meet the same prepared statement. */
let database: Database
let group: GroupId
let alice: IdentityId
const items: WriteItem[] = []

beforeAll(async () => {
  fresh = await freshDatabase()
  database = openDatabase({ url: fresh.url, poolSize: 1 })
  for (const statement of tinyGroups()) await database.pool.query(statement)
  await database.pool.query('analyze')
  // The statistics stay as they are: the server would take new ones whenever it finds the time.
  for (const table of LARGE_TABLES) await database.pool.query(`alter table ${table} set (autovacuum_enabled = off)`)
  ;({ group, alice } = await newGroup(database))
  while (items.length < OBJECTS) {
    const batch = Array.from({ length: 500 }, () => newItem())
    items.push(...batch)
    await writeObjects(database, { group, seq: 0, epoch: 0, items: batch })
  }
})

afterAll(async () => {
  await database.close()
  await fresh.drop()
})

function tinyGroups(): string[] {
  const hash = 'sha256(n::text::bytea)'
  return [
    `insert into groups (group_id, suite, head_seq, head_hash, epoch, rekey_owed, change_seq, created_by)
     select ${hash}, 1, 0, ${hash}, 0, false, 2, ${hash} from generate_series(1, ${TINY_GROUPS}) n`,
    `insert into objects (group_id, object_id, version, generation, live, change_seq, header, header_hash, author, epoch, body)
     select ${hash}, substring(${hash} for 16), 1, 1, true, 2, ${hash}, ${hash}, ${hash}, 0, '' from generate_series(1, ${TINY_GROUPS}) n`,
    `insert into loose_deks select group_id, object_id, 1, 0, header from objects`,
    `insert into key_pages select group_id, '', null, object_id, 0, 0, '', '' from objects`,
  ]
}

/** Rows of the large tables that are read by `run`, called several times. */
async function rowsRead(run: (index: number) => Promise<unknown>): Promise<number> {
  const before = await rowsReadSoFar()
  for (let index = 0; index < RUNS; index += 1) await run(index)
  return (await rowsReadSoFar()) - before
}

async function rowsReadSoFar(): Promise<number> {
  await database.pool.query('select pg_stat_force_next_flush()')
  const { rows } = await database.pool.query<{ read: number }>(
    `select sum(coalesce(idx_tup_fetch, 0) + seq_tup_read)::bigint as read from pg_stat_user_tables
     where relname = any($1)`,
    [LARGE_TABLES],
  )
  return rows[0]?.read ?? 0
}

const some = (index: number): WriteItem[] => items.slice(index * ROWS, (index + 1) * ROWS)
const objectsOf = (index: number) => some(index).map(({ object }) => object)
/** A few rows of each of a few tables for every row that is asked for. */
const FEW = 20 * ROWS * RUNS

test('next versions read only the objects they replace', async () => {
  const replace = (index: number) =>
    writeObjects(database, { group, seq: 0, epoch: 0, items: objectsOf(index).map((object) => newItem({ object, expected: 1 })) })
  expect(await rowsRead(replace)).toBeLessThan(FEW)
})

test('reads, of headers too, read only the objects that are asked for', async () => {
  expect(await rowsRead((index) => readObjects(database, group, { objects: objectsOf(index) }))).toBeLessThan(FEW)
  expect(await rowsRead((index) => readHeaders(database, group, objectsOf(index)))).toBeLessThan(FEW)
})

test('a refused write reads only the headers it is told', async () => {
  expect(await rowsRead((index) => writeObjects(database, { group, seq: 0, epoch: 0, items: some(index) }))).toBeLessThan(FEW)
})

test('a report reads only the DEKs it names', async () => {
  const report = (index: number) =>
    reportUnopenable(database, {
      group,
      seq: 0,
      epoch: 0,
      reportedBy: alice,
      deks: objectsOf(RUNS + index).map((object) => ({ object, generation: 1 })),
    })
  expect(await rowsRead(report)).toBeLessThan(FEW)
})

test('a range of loose DEKs, and its replacement, read only that range', async () => {
  let lo = new Uint8Array(0)
  const rewrap = async (): Promise<void> => {
    const range = await readRange(database, group, { lo, pagesMax: 1, looseMax: ROWS, dead: false })
    if (range === null) throw new Error('no such group')
    await replacePages(database, absorbAll(group, range))
    lo = new Uint8Array(range.next ?? [])
  }
  expect(await rowsRead(rewrap)).toBeLessThan(FEW)
})
