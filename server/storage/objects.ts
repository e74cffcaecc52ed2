/**
 * Reading objects: header, body and where the DEK is, with the head of the same moment.
 *
 * A DEK is in the loose row of its generation if there is one, else in the page whose bounds hold the object's id.
 */
import type { BodyId, GroupId, ObjectId, PageId } from '../../shared/ids.ts'
import { asBodyId, asObjectId, asPageId } from '../../shared/ids.ts'
import { OBJECTS_ANSWER_BYTES } from '../../shared/limits.ts'
import { findEntry } from '../../shared/objects/page.ts'
import type { Database } from './database.ts'
import { positionOf } from './groups.ts'
import { all, askedRows, statement } from './statement.ts'
import { withStorageErrors } from './storage-error.ts'

/** Where a DEK is sealed. */
export type StoredDek =
  | { readonly kind: 'loose'; readonly epoch: number; readonly seal: Uint8Array }
  | { readonly kind: 'page'; readonly pageId: PageId; readonly epoch: number; readonly entries: Uint8Array; readonly sealed: Uint8Array }
  /** A page the reader has open, or that this answer holds already with an earlier object. */
  | { readonly kind: 'known'; readonly pageId: PageId }

export interface StoredObjectRow {
  readonly version: number
  readonly generation: number
  readonly live: boolean
  readonly header: Uint8Array
  readonly headerHash: Uint8Array
  /** Of the newest change. */
  readonly change: number
  /** Inline ciphertext. */
  readonly body: Uint8Array | null
  readonly bodyId: BodyId | null
  readonly bodyBytes: number
  /** Null for tombstones, and where no seal of the DEK is left. */
  readonly dek: StoredDek | null
}

/** Answers in the order asked, null where there is no such object; `seq` is the head they were read at. */
export interface ObjectsRead<T> {
  readonly seq: number
  readonly epoch: number
  readonly objects: readonly (T | null)[]
}

/** What a referee needs of an object to judge its next version. */
export interface ObjectState {
  readonly version: number
  readonly generation: number
  readonly live: boolean
  readonly header: Uint8Array
  readonly headerHash: Uint8Array
  readonly change: number
}

interface HeaderRow {
  head_seq: number
  head_epoch: number
  version: number | null
  generation: number
  live: boolean
  header: Uint8Array
  header_hash: Uint8Array
  change_seq: number
}

interface ObjectRow extends HeaderRow {
  object_id: Uint8Array
  body: Uint8Array | null
  body_id: Uint8Array | null
  body_bytes: number
  loose_epoch: number | null
  seal: Uint8Array | null
  page_id: Uint8Array | null
  page_epoch: number | null
  entries: Uint8Array | null
  sealed: Uint8Array | null
}

const HEADER_COLUMNS = `g.head_seq, g.epoch as head_epoch, o.version, o.generation, o.live, o.header, o.header_hash, o.change_seq`

const READ_HEADERS = statement<HeaderRow>(
  'object_headers',
  `with ${askedRows('$2')}
   select ${HEADER_COLUMNS} from groups g cross join x left join objects o on o.group_id = x.group_id and o.object_id = x.object_id
   where g.group_id = $1 order by x.n`,
)

/**
 * A page is sent with the first object that needs it, unless the reader has it open; one that may no longer have the entry,
 * because the DEK is listed as unopenable, is sent for itself. Lengths are known without reading what they are of, so that
 * an answer is cut before the rest of it is in anybody’s memory.
 */
const READ_OBJECTS = statement<ObjectRow>(
  'object_read',
  `with ${askedRows('$2')},
   found as materialized (
     select x.n, x.group_id, x.object_id, o.version, o.generation, o.live, o.header, o.header_hash, o.change_seq, o.body, o.body_id, o.body_bytes,
       l.epoch as loose_epoch, l.seal, p.lo, u.object_id is not null as listed,
       row_number() over (partition by p.lo, u.object_id is null order by x.n) as nth
     from x
     left join objects o on o.group_id = x.group_id and o.object_id = x.object_id
     left join loose_deks l on l.group_id = x.group_id and l.object_id = x.object_id and l.generation = o.generation
     left join unopenable_deks u on u.group_id = x.group_id and u.object_id = x.object_id and u.generation = o.generation
     left join lateral (
       select k.lo from key_pages k where k.group_id = x.group_id and k.lo <= x.object_id order by k.lo desc limit 1) p on o.live and l.seal is null),
   placed as (
     select o.*, k.page_id, k.epoch as page_epoch, x.entries, x.sealed,
       sum(coalesce(octet_length(o.header), 0) + coalesce(octet_length(o.body), 0)
         + coalesce(octet_length(x.entries) + octet_length(x.sealed), 0)) over (order by o.n rows unbounded preceding) as bytes
     from found o left join key_pages k on k.group_id = o.group_id and k.lo = o.lo
       left join lateral (select k.entries, k.sealed where (o.nth = 1 or o.listed) and k.page_id <> all($3::bytea[])) x on true)
   select ${HEADER_COLUMNS}, o.object_id, o.body, o.body_id, o.body_bytes, o.loose_epoch, o.seal, o.page_id, o.page_epoch, o.entries, o.sealed
   from groups g cross join placed o
   where g.group_id = $1 and (o.n = 1 or o.bytes <= $4) order by o.n`,
)

/**
 * Objects with bodies and DEKs.
 *
 * @param asked - `openPages`: pages the reader has, which are named instead of sent.
 * @returns as many of the first ones as fit into an answer, at least one; null if there is no such group.
 */
export function readObjects(
  database: Database,
  group: GroupId,
  asked: { readonly objects: readonly ObjectId[]; readonly openPages?: readonly PageId[]; readonly bytesMax?: number },
): Promise<ObjectsRead<StoredObjectRow> | null> {
  return withStorageErrors(async () => {
    const rows = await all(database.pool, READ_OBJECTS, [
      group,
      asked.objects,
      asked.openPages ?? [],
      asked.bytesMax ?? OBJECTS_ANSWER_BYTES,
    ])
    return await withHead(database, group, rows, toObject)
  })
}

/** Headers alone. @returns null if there is no such group. */
export function readHeaders(database: Database, group: GroupId, objects: readonly ObjectId[]): Promise<ObjectsRead<ObjectState> | null> {
  return withStorageErrors(async () => {
    const rows = await all(database.pool, READ_HEADERS, [group, objects])
    return await withHead(database, group, rows, toState)
  })
}

async function withHead<Row extends HeaderRow, T>(
  database: Database,
  group: GroupId,
  rows: readonly Row[],
  read: (row: Row & { version: number }) => T,
): Promise<ObjectsRead<T> | null> {
  const [head] = rows
  if (head === undefined) {
    const position = await positionOf(database.pool, group)
    return position === null ? null : { seq: position.seq, epoch: position.epoch, objects: [] }
  }
  const objects = rows.map((row) => (row.version === null ? null : read({ ...row, version: row.version })))
  return { seq: head.head_seq, epoch: head.head_epoch, objects }
}

function toState(row: HeaderRow & { version: number }): ObjectState {
  return {
    version: row.version,
    generation: row.generation,
    live: row.live,
    header: row.header,
    headerHash: row.header_hash,
    change: row.change_seq,
  }
}

function toObject(row: ObjectRow & { version: number }): StoredObjectRow {
  return {
    ...toState(row),
    body: row.body,
    bodyId: row.body_id === null ? null : asBodyId(row.body_id),
    bodyBytes: row.body_bytes,
    dek: toDek(row),
  }
}

function toDek(row: ObjectRow): StoredDek | null {
  if (!row.live) return null
  if (row.seal !== null && row.loose_epoch !== null) return { kind: 'loose', epoch: row.loose_epoch, seal: row.seal }
  if (row.page_id === null || row.page_epoch === null) return null
  const pageId = asPageId(row.page_id)
  if (row.entries === null || row.sealed === null) return { kind: 'known', pageId }
  if (findEntry(row.entries, asObjectId(row.object_id), row.generation) === null) return null
  return { kind: 'page', pageId, epoch: row.page_epoch, entries: row.entries, sealed: row.sealed }
}
