/**
 * Reading ranges of the id space for a rewrap or a compaction: pages, the loose DEKs between them, and what is dead.
 *
 * A range starts with the page that holds `lo`, so a reader whose boundaries were replaced meanwhile only sees more.
 * Loose DEKs are bounded: a range that has more ends at an object, in the middle of its last page, and the
 * reader goes on from there after having cut the page.
 */
import type { GroupId, ObjectId, PageId } from '../../shared/ids.ts'
import { asObjectId, asPageId, HASH_BYTES, OBJECT_ID_BYTES } from '../../shared/ids.ts'
import { compareBytes, concat } from '../../shared/bytes.ts'
import { PAGE_DEKS_MAX, RANGE_PAGES_MAX } from '../../shared/limits.ts'
import { comparePairs, decodePairs, encodePairs, ENTRY_BYTES, PAIR_BYTES } from '../../shared/objects/page.ts'
import type { Database } from './database.ts'
import { all, first, statement } from './statement.ts'
import { withStorageErrors } from './storage-error.ts'

/** Loose DEKs in one range: as many as its pages may hold. */
export const RANGE_LOOSE_MAX = RANGE_PAGES_MAX * PAGE_DEKS_MAX

/** A key page as stored. */
export interface StoredPage {
  readonly lo: Uint8Array
  readonly hi: Uint8Array | null
  readonly pageId: PageId
  readonly epoch: number
  readonly entries: Uint8Array
  readonly sealed: Uint8Array
}

export interface StoredLooseDek {
  readonly object: ObjectId
  readonly generation: number
  readonly epoch: number
  readonly seal: Uint8Array
  /** Of the object's header; zeros if the generation is dead. */
  readonly headerHash: Uint8Array
}

export interface PageRange {
  /** The current epoch, and the head it was read at. */
  readonly epoch: number
  readonly seq: number
  readonly pages: readonly StoredPage[]
  readonly loose: readonly StoredLooseDek[]
  /** Packed pairs of what nothing needs any more; empty if not asked for. */
  readonly dead: Uint8Array
  /** Where the next range starts, null at the end. */
  readonly next: Uint8Array | null
}

export interface RangeRequest {
  readonly lo: Uint8Array
  readonly pagesMax: number
  readonly looseMax?: number
  /** Whether dead entries are looked for: needed to shrink, superfluous to move to a new epoch. */
  readonly dead: boolean
}

interface RangeRow {
  head_epoch: number
  head_seq: number
  lo: Uint8Array
  hi: Uint8Array | null
  page_id: Uint8Array | null
  epoch: number
  entries: Uint8Array
  sealed: Uint8Array
}

interface LooseRow {
  object_id: Uint8Array
  generation: number
  epoch: number
  seal: Uint8Array
  header_hash: Uint8Array | null
}

const READ_PAGES = statement<RangeRow>(
  'range_pages',
  `select g.epoch as head_epoch, g.head_seq, k.lo, k.hi, k.page_id, k.epoch, k.entries, k.sealed from groups g
   left join lateral (
     select * from key_pages where group_id = $1
       and lo >= (select lo from key_pages where group_id = $1 and lo <= $2 order by lo desc limit 1) order by lo limit $3) k on true
   where g.group_id = $1 order by k.lo`,
)

/** An open end as a bound above every id: `$3 is null or …` would keep a prepared statement’s general plan off the index. */
const END = String.raw`coalesce($3::bytea, '\x${'ff'.repeat(OBJECT_ID_BYTES + 1)}'::bytea)`

/**
 * Of one object either all generations are read or none, which is why one more than fits is asked for.
 *
 * Bounded before it is joined: right after many writes, without statistics, all loose DEKs of the group would be joined
 * for every range (280 instead of 60 ms of 100 000).
 */
const READ_LOOSE = statement<LooseRow>(
  'range_loose',
  `with l as materialized (
     select group_id, object_id, generation, epoch, seal from loose_deks where group_id = $1 and object_id >= $2 and object_id < ${END}
     order by group_id, object_id, generation limit $4 + 1)
   select l.object_id, l.generation, l.epoch, l.seal, o.header_hash from l
   left join objects o on o.group_id = l.group_id and o.object_id = l.object_id and o.generation = l.generation and o.live
   order by l.object_id, l.generation`,
)

/** The live pairs of a span, packed: the complement is found here, without a row for each. */
const READ_LIVE = statement<{ pairs: Uint8Array | null }>(
  'range_live',
  `select string_agg(object_id || int4send(generation), ''::bytea order by object_id) as pairs from objects
   where group_id = $1 and object_id >= $2 and object_id < ${END} and live`,
)

/**
 * Reads the range that starts with the page that holds `lo`. Its parts are read one after the other; what changes
 * between them is found when the range is replaced.
 *
 * @returns null if there is no such group.
 */
export function readRange(database: Database, group: GroupId, request: RangeRequest): Promise<PageRange | null> {
  return withStorageErrors(async () => {
    const rows = await all(database.pool, READ_PAGES, [group, request.lo, request.pagesMax])
    const [head] = rows
    if (head === undefined) return null
    const found = rows.flatMap(toPage)
    const { loose, next } = await readLoose(database, group, found, request.looseMax ?? RANGE_LOOSE_MAX)
    const pages = next === null ? found : found.filter(({ lo }, index) => index === 0 || compareBytes(lo, next) < 0)
    const dead = request.dead ? await readDead(database, group, { pages, loose }) : new Uint8Array(0)
    return { epoch: head.head_epoch, seq: head.head_seq, pages, loose, dead, next: next ?? found.at(-1)?.hi ?? null }
  })
}

/** The loose DEKs in the span of `pages`; `next` is set if there are more of them. */
async function readLoose(
  database: Database,
  group: GroupId,
  pages: readonly StoredPage[],
  looseMax: number,
): Promise<{ loose: StoredLooseDek[]; next: ObjectId | null }> {
  const [first_] = pages
  if (first_ === undefined) return { loose: [], next: null }
  const rows = await all(database.pool, READ_LOOSE, [group, first_.lo, pages.at(-1)?.hi ?? null, looseMax])
  const loose = rows.map(toLooseDek)
  const beyond = loose.length > looseMax ? loose.at(-1) : undefined
  if (beyond === undefined) return { loose, next: null }
  return { loose: loose.filter(({ object }) => compareBytes(object, beyond.object) < 0), next: beyond.object }
}

/** Pairs of pages and loose DEKs that are not live, in order. */
async function readDead(database: Database, group: GroupId, range: Pick<PageRange, 'pages' | 'loose'>): Promise<Uint8Array> {
  const [first_] = range.pages
  if (first_ === undefined) return new Uint8Array(0)
  const live = (await first(database.pool, READ_LIVE, [group, first_.lo, range.pages.at(-1)?.hi ?? null]))?.pairs ?? new Uint8Array(0)
  const dead = pairsMissing(concat(...range.pages.map(({ entries }) => entries)), ENTRY_BYTES, live)
  const deadLoose = range.loose.filter(({ headerHash }) => headerHash.every((byte) => byte === 0))
  if (deadLoose.length === 0) return dead
  return encodePairs([...decodePairs(dead), ...deadLoose])
}

/** The pairs of sorted `records` that are not among sorted `live` pairs. */
function pairsMissing(records: Uint8Array, recordBytes: number, live: Uint8Array): Uint8Array {
  const missing: Uint8Array[] = []
  let at = 0
  for (let start = 0; start < records.length; start += recordBytes) {
    while (at < live.length && comparePairs(live, at, records, start) < 0) at += PAIR_BYTES
    if (at >= live.length || comparePairs(live, at, records, start) !== 0) missing.push(records.subarray(start, start + PAIR_BYTES))
  }
  return concat(...missing)
}

function toPage(row: RangeRow): StoredPage[] {
  if (row.page_id === null) return []
  return [{ lo: row.lo, hi: row.hi, pageId: asPageId(row.page_id), epoch: row.epoch, entries: row.entries, sealed: row.sealed }]
}

function toLooseDek(row: LooseRow): StoredLooseDek {
  const headerHash = row.header_hash ?? new Uint8Array(HASH_BYTES)
  return { object: asObjectId(row.object_id), generation: row.generation, epoch: row.epoch, seal: row.seal, headerHash }
}
