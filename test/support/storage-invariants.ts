/**
 * The full check of a group's rows, in one snapshot of the database:
 * every live DEK has exactly one place, pages partition the id space, nothing is sealed under a retired epoch.
 */
import type { Database } from '../../server/storage/database.ts'
import { compareBytes, concat, equalBytes } from '../../shared/bytes.ts'
import type { GroupId } from '../../shared/ids.ts'
import { asObjectId, idKey } from '../../shared/ids.ts'
import type { Pair } from '../../shared/objects/page.ts'
import { decodeEntries, pairKey } from '../../shared/objects/page.ts'

interface ObjectRow {
  object_id: Uint8Array
  version: number
  generation: number
  live: boolean
  change_seq: number
  header_hash: Uint8Array
  body: Uint8Array | null
  body_id: Uint8Array | null
}

interface SealRow {
  object_id: Uint8Array
  generation: number
  epoch: number
  seal: Uint8Array | null
}

interface PageRow {
  lo: Uint8Array
  hi: Uint8Array | null
  page_id: Uint8Array
  epoch: number
  count: number
  entries: Uint8Array
  sealed: Uint8Array
}

/** Everything of one group at one moment. */
export interface GroupRows {
  readonly group: { head_seq: number; epoch: number; retired_through: number; change_seq: number }
  readonly objects: readonly ObjectRow[]
  readonly loose: readonly SealRow[]
  readonly pages: readonly PageRow[]
  readonly unopenable: readonly SealRow[]
  readonly bodies: readonly { body_id: Uint8Array; state: string }[]
  readonly commits: readonly { seq: number; change_seq: number; epoch: number }[]
  /** Counts of rows that a retire deletes, under retired epochs. */
  readonly undead: Readonly<Record<string, number>>
}

const QUERIES = {
  objects: 'select * from objects where group_id = $1 order by object_id',
  loose: 'select * from loose_deks where group_id = $1',
  pages: 'select * from key_pages where group_id = $1 order by lo',
  unopenable: 'select * from unopenable_deks where group_id = $1',
  bodies: 'select body_id, state from bodies where group_id = $1',
  commits: 'select seq, change_seq, epoch from commits where group_id = $1 order by seq',
} as const

const UNDEAD = `select (select count(*) from wraps where group_id = $1 and epoch <= $2) as wraps,
  (select count(*) from links where group_id = $1 and link_to <= $2) as links,
  (select count(*) from superseded_deks where group_id = $1 and epoch <= $2) as superseded_deks,
  (select count(*) from superseded_pages where group_id = $1 and epoch <= $2) as superseded_pages,
  (select count(*) from loose_deks where group_id = $1 and epoch <= $2) as loose,
  (select count(*) from key_pages where group_id = $1 and epoch <= $2) as pages,
  (select count(*) from unopenable_deks where group_id = $1 and epoch <= $2 and seal is not null) as unopenable,
  (select count(*) from epochs where group_id = $1 and epoch <= $2 and not retired) as epochs`

/** Reads everything of a group in one snapshot. */
export async function readGroupRows(database: Database, group: GroupId): Promise<GroupRows> {
  const connection = await database.pool.connect()
  try {
    await connection.query('begin isolation level repeatable read read only')
    const read = async <Row>(text: string, ...values: readonly unknown[]): Promise<Row[]> =>
      (await connection.query(text, [group, ...values])).rows as Row[]
    const [state] = await read<GroupRows['group']>('select head_seq, epoch, retired_through, change_seq from groups where group_id = $1')
    if (state === undefined) throw new Error('no such group')
    const [undead = {}] = await read<Record<string, number>>(UNDEAD, state.retired_through)
    const rows = {
      group: state,
      undead,
      objects: await read<ObjectRow>(QUERIES.objects),
      loose: await read<SealRow>(QUERIES.loose),
      pages: await read<PageRow>(QUERIES.pages),
      unopenable: await read<SealRow>(QUERIES.unopenable),
      bodies: await read<{ body_id: Uint8Array; state: string }>(QUERIES.bodies),
      commits: await read<GroupRows['commits'][number]>(QUERIES.commits),
    }
    await connection.query('commit')
    return rows
  } finally {
    connection.release()
  }
}

/**
 * What is wrong with a group's rows, in sentences; empty if nothing is.
 *
 * @param mayBeShadowed - DEKs that were resealed: only they may be loose and in a page at once.
 */
export function findViolations(rows: GroupRows, mayBeShadowed: (pair: Pair) => boolean): string[] {
  return [
    ...partitionViolations(rows),
    ...placeViolations(rows, mayBeShadowed),
    ...epochViolations(rows),
    ...orderViolations(rows),
    ...bodyViolations(rows),
  ]
}

function partitionViolations({ pages }: GroupRows): string[] {
  const found: string[] = []
  if (pages[0]?.lo.length !== 0) found.push('the first page does not start the id space')
  for (const [index, { hi, lo }] of pages.entries()) {
    const next = pages[index + 1]
    const isJoined = next === undefined ? hi === null : hi !== null && equalBytes(hi, next.lo) && compareBytes(lo, hi) < 0
    if (!isJoined) found.push(`page ${index} of ${pages.length} does not join the next`)
  }
  return found
}

function placeViolations({ objects, loose, pages, unopenable }: GroupRows, mayBeShadowed: (pair: Pair) => boolean): string[] {
  const found: string[] = []
  const looseKeys = new Set(loose.map(keyOf))
  const listedKeys = new Set(unopenable.map(keyOf))
  const paged = new Map<string, Uint8Array>()
  for (const page of pages) {
    const entries = decodeEntries(page.entries)
    if (entries.length !== page.count) found.push('a page has not as many entries as it says')
    for (const entry of entries) {
      if (compareBytes(entry.object, page.lo) < 0 || (page.hi !== null && compareBytes(entry.object, page.hi) >= 0))
        found.push('an entry is outside its page')
      if (paged.has(pairKey(entry))) found.push(`a DEK is in two pages: ${pairKey(entry)}`)
      paged.set(pairKey(entry), entry.headerHash)
    }
  }
  for (const row of objects) {
    if (!row.live) continue
    const key = keyOf(row)
    const hash = paged.get(key)
    const places = Number(looseKeys.has(key)) + Number(hash !== undefined)
    if (places === 0 && !listedKeys.has(key)) found.push(`a live DEK is nowhere: ${key}`)
    if (places === 2 && !mayBeShadowed(pairOf(row))) found.push(`a live DEK is doubled: ${key}`)
    if (hash !== undefined && !equalBytes(hash, row.header_hash)) found.push(`a page vouches for another header: ${key}`)
  }
  return found
}

function epochViolations({ group, loose, pages, undead }: GroupRows): string[] {
  const found = Object.entries(undead).flatMap(([table, count]) => (count > 0 ? [`${count} ${table} are under retired epochs`] : []))
  if ([...loose, ...pages].some(({ epoch }) => epoch > group.epoch)) found.push('something is sealed under an epoch that is not open')
  return found
}

function orderViolations({ group, objects, commits }: GroupRows): string[] {
  const found: string[] = []
  const changes = [...objects.map((row) => row.change_seq), ...commits.map((row) => row.change_seq)]
  if (new Set(changes).size !== changes.length) found.push('two changes have one number')
  if (changes.some((change) => change > group.change_seq)) found.push('a change is beyond the cursor')
  for (const [index, commit] of commits.entries()) {
    const before = commits[index - 1]
    if (commit.seq !== index) found.push(`commit ${index} is missing`)
    if (before !== undefined && (before.change_seq >= commit.change_seq || before.epoch > commit.epoch))
      found.push(`commit ${index} is out of order`)
  }
  if (commits.length !== group.head_seq + 1) found.push('the head is not the last commit')
  return found
}

function bodyViolations({ objects, bodies }: GroupRows): string[] {
  const found: string[] = []
  const states = new Map(bodies.map(({ body_id, state }) => [idKey(body_id), state]))
  const used = new Set<string>()
  for (const { live, body, body_id } of objects) {
    if (live !== (body !== null || body_id !== null)) found.push('an object has not the body its state asks for')
    if (body_id === null) continue
    used.add(idKey(body_id))
    if (states.get(idKey(body_id)) !== 'live') found.push(`the body of an object is ${states.get(idKey(body_id)) ?? 'gone'}`)
  }
  for (const [key, state] of states) if (state === 'live' && !used.has(key)) found.push('a live body has no object')
  return found
}

function pairOf(row: { object_id: Uint8Array; generation: number }): Pair {
  return { object: asObjectId(row.object_id), generation: row.generation }
}

function keyOf(row: { object_id: Uint8Array; generation: number }): string {
  return pairKey(pairOf(row))
}

/** Marks that stand for DEKs: what is sealed says which DEK it is, so that a wrong one is seen. */
export function markOf(pair: Pair): Uint8Array {
  const mark = new Uint8Array(32)
  mark.set(pair.object)
  new DataView(mark.buffer).setUint32(16, pair.generation)
  return mark
}

/** A loose seal that says what it is: nonce space, mark, epoch. `broken`: it does not open. */
export function looseSeal(pair: Pair, epoch: number, { broken = false } = {}): Uint8Array {
  const seal = concat(new Uint8Array(24), markOf(pair), new Uint8Array(16))
  new DataView(seal.buffer).setUint32(0, epoch)
  if (broken) seal[24] = (seal[24] ?? 0) ^ 0xff
  return seal
}

/** The mark inside a loose seal. */
export function openLoose(seal: Uint8Array): Uint8Array {
  return seal.slice(24, 56)
}

/** A page's seal that says what it holds. */
export function pageSeal(marks: readonly Uint8Array[], epoch: number): Uint8Array {
  if (marks.length === 0) return new Uint8Array(0)
  const sealed = concat(new Uint8Array(24), ...marks, new Uint8Array(16))
  new DataView(sealed.buffer).setUint32(0, epoch)
  return sealed
}

/** The marks inside a page's seal. */
export function openPage(sealed: Uint8Array): Uint8Array[] {
  return Array.from({ length: Math.max(0, (sealed.length - 40) / 32) }, (_, index) => sealed.slice(24 + 32 * index, 56 + 32 * index))
}

/** The epoch that a mark's seal was made under. */
export function epochOfSeal(seal: Uint8Array): number {
  return new DataView(seal.buffer, seal.byteOffset).getUint32(0)
}

/** Seals that hold another DEK than they should, or were made under another epoch than their row says. */
export function findWrongSeals(rows: GroupRows, mayBeBroken: (pair: Pair) => boolean): string[] {
  const found: string[] = []
  for (const row of rows.loose) {
    if (row.seal === null) continue
    if (epochOfSeal(row.seal) !== row.epoch) found.push('a loose seal is of another epoch than its row')
    if (!equalBytes(openLoose(row.seal), markOf(pairOf(row))) && !mayBeBroken(pairOf(row)))
      found.push(`a loose seal holds another DEK: ${keyOf(row)}`)
  }
  for (const page of rows.pages) {
    if (page.count === 0) continue
    if (epochOfSeal(page.sealed) !== page.epoch) found.push('a page is of another epoch than its row')
    const marks = openPage(page.sealed)
    for (const [index, entry] of decodeEntries(page.entries).entries()) {
      if (!equalBytes(marks[index] ?? new Uint8Array(0), markOf(entry)) && !mayBeBroken(entry))
        found.push(`a page holds another DEK: ${pairKey(entry)}`)
    }
  }
  return found
}
