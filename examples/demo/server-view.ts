/** What the server stores, seen from inside its database. */
import { createHash } from 'node:crypto'
import type pg from 'pg'
import type { Find, SecretSearch } from './secret-search.ts'

/** Rows and bytes of one table. */
export interface TableSize {
  readonly table: string
  readonly rows: number
  readonly bytes: number
}

/** All tables that hold anything, largest first. */
export async function tableSizes(database: pg.Pool): Promise<TableSize[]> {
  const sizes: TableSize[] = []
  for (const table of await tables(database)) {
    const { rows } = await database.query<{ rows: string; bytes: string }>(
      `select count(*) as rows, pg_total_relation_size('"${table}"') as bytes from "${table}"`,
    )
    const [row] = rows
    if (row !== undefined && Number(row.rows) > 0) sizes.push({ table, rows: Number(row.rows), bytes: Number(row.bytes) })
  }
  return sizes.toSorted((left, right) => right.bytes - left.bytes)
}

/** A hash of each stored body, by object and version, and whatever holds its bytes. */
export async function bodyHashes(database: pg.Pool): Promise<Map<string, string>> {
  const { rows } = await database.query<{ object: string; body: Buffer | null; body_id: Buffer | null }>(
    `select encode(object_id, 'hex') || '/' || version as object, body, body_id from objects where live and version > 0`,
  )
  const hashes = new Map<string, string>()
  for (const { object, body, body_id: id } of rows) {
    const hash = createHash('sha256')
    if (body !== null) hash.update(body)
    if (id !== null) {
      const parts = await database.query<{ data: Buffer }>('select data from body_parts where body_id = $1 order by part', [id])
      for (const { data } of parts.rows) hash.update(data)
    }
    hashes.set(object, hash.digest('hex'))
  }
  return hashes
}

/** Searches every row of every table. */
export async function searchDatabase(database: pg.Pool, search: SecretSearch): Promise<{ finds: Find[]; bytes: number }> {
  const finds: Find[] = []
  let bytes = 0
  for (const table of await tables(database)) {
    const { rows } = await database.query<Record<string, unknown>>(`select * from "${table}"`)
    for (const row of rows) {
      for (const [column, value] of Object.entries(row)) {
        const data = Buffer.isBuffer(value) ? value : Buffer.from(typeof value === 'string' ? value : JSON.stringify(value ?? ''))
        bytes += data.length
        finds.push(...search.search(data, `${table}.${column}`))
      }
    }
  }
  return { finds, bytes }
}

async function tables(database: pg.Pool): Promise<string[]> {
  const { rows } = await database.query<{ tablename: string }>("select tablename from pg_tables where schemaname = 'public' order by 1")
  return rows.map(({ tablename }) => tablename)
}
