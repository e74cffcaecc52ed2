/** What a rewrap is compared with: bare SQL that inserts the same page rows, and a rewrap that has one row for each DEK. */
import type { Database } from '../server/storage/database.ts'
import { all, execute, statement } from '../server/storage/statement.ts'
import { randomBytes } from '../shared/crypto/public-crypto.ts'
import { generateEpochSecret } from '../shared/group/epoch.ts'
import { asGroupId, asObjectId } from '../shared/ids.ts'
import type { EpochSealKeys } from '../shared/objects/dek.ts'
import { epochSealKeys, generateDek, openDek, sealDek } from '../shared/objects/dek.ts'
import { median } from './measure.ts'

/** As the rewrap job replaces them. */
export const PAGES_PER_STATEMENT = 50
export const ROWS_PER_UPDATE = 10_000

interface PageRow {
  group_id: Uint8Array
  lo: Uint8Array
  hi: Uint8Array | null
  page_id: Uint8Array
  epoch: number
  count: number
  entries: Uint8Array
  sealed: Uint8Array
}

const READ_PAGES = statement<PageRow>(
  'bench_read_pages',
  'select group_id, lo, hi, page_id, epoch, count, entries, sealed from key_pages order by lo',
)
const INSERT_PAGES = statement(
  'bench_insert_pages',
  `insert into bare_pages select * from unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::bytea[], $5::int[], $6::int[], $7::bytea[], $8::bytea[])`,
)

/** Inserts the rows of `key_pages` into a table like it. @returns the median of some runs. */
export async function insertPagesSeconds(database: Database, runs: number): Promise<number> {
  const { pool } = database
  const rows = (await all(pool, READ_PAGES, [])).filter(({ count }) => count > 0)
  await pool.query('create table bare_pages (like key_pages including all)')
  const times: number[] = []
  for (let run = 0; run < runs; run += 1) {
    await pool.query('truncate bare_pages')
    const started = performance.now()
    for (let from = 0; from < rows.length; from += PAGES_PER_STATEMENT) {
      const some = rows.slice(from, from + PAGES_PER_STATEMENT)
      const columns = ['group_id', 'lo', 'hi', 'page_id', 'epoch', 'count', 'entries', 'sealed'] as const
      await execute(
        pool,
        INSERT_PAGES,
        columns.map((column) => some.map((row) => row[column])),
      )
    }
    times.push((performance.now() - started) / 1000)
  }
  await pool.query('drop table bare_pages')
  return median(times)
}

interface SealRow {
  object_id: Uint8Array
  seal: Uint8Array
}

const READ_SEALS = statement<SealRow>(
  'bench_read_seals',
  'select object_id, seal from row_deks where group_id = $3 and object_id > $1 order by object_id limit $2',
)
const UPDATE_SEALS = statement(
  'bench_update_seals',
  'update row_deks r set epoch = $1, seal = x.seal from unnest($2::bytea[], $3::bytea[]) as x(object_id, seal) where r.group_id = $4 and r.object_id = x.object_id',
)
const INSERT_SEALS = statement(
  'bench_insert_seals',
  'insert into row_deks select $1, x.object_id, 1, 0, x.seal from unnest($2::bytea[], $3::bytea[]) as x(object_id, seal)',
)

/** Rewraps with one row a DEK. */
export async function rewrapRowsSeconds(database: Database, deks: number): Promise<number> {
  const { pool } = database
  const group = asGroupId(randomBytes(32))
  const keysOf = (epoch: number): EpochSealKeys => epochSealKeys(generateEpochSecret(), { group, epoch })
  const [old, current] = [keysOf(0), keysOf(1)]
  await pool.query(
    `create table row_deks (group_id bytea, object_id bytea, generation int, epoch int not null, seal bytea not null, primary key (group_id, object_id)) with (fillfactor=50)`,
  )
  for (let from = 0; from < deks; from += ROWS_PER_UPDATE) {
    const objects = Array.from({ length: Math.min(ROWS_PER_UPDATE, deks - from) }, () => asObjectId(randomBytes(16)))
    await execute(pool, INSERT_SEALS, [group, objects, objects.map((object) => sealDek(old, { object, generation: 1 }, generateDek()))])
  }
  await pool.query('vacuum analyze row_deks')
  const started = performance.now()
  let last: Uint8Array = new Uint8Array(0)
  for (;;) {
    const rows: readonly SealRow[] = await all(pool, READ_SEALS, [last, ROWS_PER_UPDATE, group])
    const end = rows.at(-1)
    if (end === undefined) break
    const seals = rows.map(({ object_id, seal }) => {
      const name = { object: asObjectId(object_id), generation: 1 }
      return sealDek(current, name, openDek(old, name, seal))
    })
    await execute(pool, UPDATE_SEALS, [1, rows.map(({ object_id }) => object_id), seals, group])
    last = end.object_id
  }
  const seconds = (performance.now() - started) / 1000
  await pool.query('drop table row_deks')
  return seconds
}
