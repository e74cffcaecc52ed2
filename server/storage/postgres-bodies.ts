/** Bodies in PostgreSQL, in rows of 1 MiB. */
import type { PoolClient } from 'pg'
import { concat, equalBytes } from '../../shared/bytes.ts'
import { ClavigerError } from '../../shared/errors.ts'
import type { PrincipalId } from '../../shared/ids.ts'
import { HASH_BYTES } from '../../shared/ids.ts'
import { BODY_BYTES_MAX, BODY_PART_BYTES, ORPHAN_MS, UPLOAD_MS } from '../../shared/limits.ts'
import { SEALED_CHUNK_BYTES } from '../../shared/objects/body-layout.ts'
import type { BodyName, BodyStore, ByteRange } from './body-store.ts'
import type { Database } from './database.ts'
import type { BodyState } from './schema.ts'
import { all, execute, first, statement } from './statement.ts'
import { withStorageErrors } from './storage-error.ts'
import { transact } from './transaction.ts'

/** How long what nothing refers to is kept. */
export interface BodyRetention {
  readonly orphanMs?: number
  readonly uploadMs?: number
}

interface BodyRow {
  state: BodyState
  owner: Uint8Array
}

/** Parts of the longest body; its ciphertext is a little longer than what it holds. */
const PARTS_MAX = Math.ceil((2 * BODY_BYTES_MAX) / BODY_PART_BYTES)
/** Missing parts that an error names. */
const MISSING_NAMED_MAX = 64
/** Parts deleted in one transaction. */
const COLLECTED_PARTS_MAX = 64

/** The length is known when the upload ends. */
const INSERT = statement(
  'body_insert',
  `insert into bodies (group_id, body_id, state, bytes, owner) values ($1, $2, 'uploading', 0, $3) on conflict do nothing`,
)
const LOCK = statement<BodyRow>('body_lock', 'select state, owner from bodies where group_id = $1 and body_id = $2 for no key update')
const TOUCH = statement('body_touch', 'update bodies set since = now() where group_id = $1 and body_id = $2')
const LIST_PARTS = statement<{ part: number; bytes: number }>(
  'body_list_parts',
  'select part, octet_length(data) as bytes from body_parts where group_id = $1 and body_id = $2 order by part',
)
/** SHARE on the body keeps the collector and the end of the upload out; parts go beside each other. */
const WRITE_PART = statement(
  'body_write_part',
  `with body as materialized (
     select from bodies where group_id = $1 and body_id = $2 and owner = $3 and state = 'uploading' for share)
   insert into body_parts (group_id, body_id, part, data) select $1, $2, $4::int, $5 from body
   on conflict (group_id, body_id, part) do update set data = excluded.data`,
)
const COMPLETE = statement(
  'body_complete',
  `update bodies set state = 'complete', hashes = $3, bytes = $4, since = now() where group_id = $1 and body_id = $2`,
)
/** A reader keeps an orphan: who has the header may read to the end. */
const READ = statement<{ part: number | null; data: Uint8Array }>(
  'body_read',
  `with body as materialized (select state, since from bodies where group_id = $1 and body_id = $2 and state in ('live', 'orphan')),
   kept as (update bodies set since = now() where group_id = $1 and body_id = $2 and state = 'orphan' and since < now() - interval '1 minute')
   select p.part, p.data from body left join lateral (
     select part, substring(data from greatest($3::bigint - part::bigint * ${BODY_PART_BYTES}, 0)::int + 1
       for (least($3::bigint + $4::bigint, (part + 1)::bigint * ${BODY_PART_BYTES}) - greatest($3::bigint, part::bigint * ${BODY_PART_BYTES}))::int) as data
     from body_parts where group_id = $1 and body_id = $2
       and part between $3::bigint / ${BODY_PART_BYTES} and ($3::bigint + $4::bigint - 1) / ${BODY_PART_BYTES}) p on true
   order by p.part`,
)
const READ_HASHES = statement<{ data: Uint8Array }>(
  'body_read_hashes',
  `select substring(hashes from $3::int + 1 for $4::int) as data from bodies where group_id = $1 and body_id = $2 and state in ('live', 'orphan')`,
)
const FIND_COLLECTABLE = statement<{ group_id: Uint8Array; body_id: Uint8Array }>(
  'body_find_collectable',
  `select group_id, body_id from bodies where state <> 'live'
     and since < now() - case state when 'orphan' then $1::float8 else $2::float8 end * interval '1 millisecond'
   order by since limit 1 for update skip locked`,
)
/** What has lost parts is nobody’s body any more: no write may adopt it, no reader take it for a shortened one. The rest is due at once. */
const WITHDRAW = statement(
  'body_withdraw',
  `update bodies set state = 'uploading', hashes = null, since = 'epoch' where group_id = $1 and body_id = $2`,
)
const DELETE_PARTS = statement(
  'body_delete_parts',
  `delete from body_parts where group_id = $1 and body_id = $2
     and part in (select part from body_parts where group_id = $1 and body_id = $2 order by part limit ${COLLECTED_PARTS_MAX})`,
)
const DELETE = statement('body_delete', 'delete from bodies where group_id = $1 and body_id = $2')

/** The default body store. */
export class PostgresBodies implements BodyStore {
  readonly #database: Database
  readonly #orphanMs: number
  readonly #uploadMs: number

  constructor(database: Database, { orphanMs = ORPHAN_MS, uploadMs = UPLOAD_MS }: BodyRetention = {}) {
    this.#database = database
    this.#orphanMs = orphanMs
    this.#uploadMs = uploadMs
  }

  begin({ group, bodyId }: BodyName, { owner }: { readonly owner: PrincipalId }): Promise<readonly number[]> {
    return transact(this.#database, async (connection) => {
      await execute(connection, INSERT, [group, bodyId, owner])
      const body = await first(connection, LOCK, [group, bodyId])
      const isSame = body !== null && equalBytes(body.owner, owner) && (body.state === 'uploading' || body.state === 'complete')
      if (!isSame) throw new ClavigerError('body_invalid', 'a body’s name is used for one upload')
      await execute(connection, TOUCH, [group, bodyId])
      return (await all(connection, LIST_PARTS, [group, bodyId])).map(({ part }) => part)
    })
  }

  writePart(
    { group, bodyId }: BodyName,
    { part, data, owner }: { readonly part: number; readonly data: Uint8Array; readonly owner: PrincipalId },
  ): Promise<void> {
    if (part >= PARTS_MAX) throw new ClavigerError('limit_exceeded', 'the body is too long')
    if (data.length < 1 || data.length > BODY_PART_BYTES)
      throw new ClavigerError('malformed', `a part must be 1 to ${BODY_PART_BYTES} bytes`)
    return withStorageErrors(async () => {
      if ((await execute(this.#database.pool, WRITE_PART, [group, bodyId, owner, part, data])) === 0)
        throw new ClavigerError('not_found', 'no such upload')
    })
  }

  complete({ group, bodyId }: BodyName, { hashes, owner }: { readonly hashes: Uint8Array; readonly owner: PrincipalId }): Promise<void> {
    return transact(this.#database, async (connection) => {
      const body = await first(connection, LOCK, [group, bodyId])
      if (body === null || !equalBytes(body.owner, owner)) throw new ClavigerError('not_found', 'no such upload')
      if (body.state === 'complete') return
      if (body.state !== 'uploading') throw new ClavigerError('not_found', 'no such upload')
      const bytes = await lengthOf(connection, { group, bodyId })
      if (hashes.length !== Math.ceil(bytes / SEALED_CHUNK_BYTES) * HASH_BYTES)
        throw new ClavigerError('body_invalid', 'the list must have one hash for each chunk')
      await execute(connection, COMPLETE, [group, bodyId, hashes, bytes])
    })
  }

  read({ group, bodyId }: BodyName, { offset, bytes }: ByteRange): Promise<Uint8Array> {
    return withStorageErrors(async () => {
      const rows = await all(this.#database.pool, READ, [group, bodyId, offset, bytes])
      if (rows.length === 0) throw new ClavigerError('not_found', 'no such body')
      return concat(...rows.flatMap(({ part, data }) => (part === null ? [] : [data])))
    })
  }

  readHashes({ group, bodyId }: BodyName, { offset, bytes }: ByteRange): Promise<Uint8Array> {
    return withStorageErrors(async () => {
      const row = await first(this.#database.pool, READ_HASHES, [group, bodyId, offset, bytes])
      if (row === null) throw new ClavigerError('not_found', 'no such body')
      return row.data
    })
  }

  /** The body's row goes last, so that a crash leaves nothing that no row names. */
  collect(): Promise<boolean> {
    return transact(this.#database, async (connection) => {
      const body = await first(connection, FIND_COLLECTABLE, [this.#orphanMs, this.#uploadMs])
      if (body === null) return false
      const deleted = await execute(connection, DELETE_PARTS, [body.group_id, body.body_id])
      await execute(connection, deleted < COLLECTED_PARTS_MAX ? DELETE : WITHDRAW, [body.group_id, body.body_id])
      return true
    })
  }
}

/** The length of an upload. @throws ClavigerError `body_incomplete` unless its parts are whole: none is missing, all but the last are full. */
async function lengthOf(connection: PoolClient, { group, bodyId }: BodyName): Promise<number> {
  const parts = await all(connection, LIST_PARTS, [group, bodyId])
  const bytesByPart = new Map(parts.map(({ part, bytes }) => [part, bytes]))
  const last = parts.at(-1)?.part ?? 0
  const missing: number[] = []
  for (let part = 0; part <= last && missing.length < MISSING_NAMED_MAX; part += 1) {
    const bytes = bytesByPart.get(part) ?? 0
    if (bytes === 0 || (part < last && bytes < BODY_PART_BYTES)) missing.push(part)
  }
  if (missing.length > 0) throw new ClavigerError('body_incomplete', undefined, { data: { missing } })
  return last * BODY_PART_BYTES + (bytesByPart.get(last) ?? 0)
}
