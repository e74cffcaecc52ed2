/**
 * Replacing a range of key pages: the one transaction of rewraps and compactions.
 *
 * Invariant: every live (object, generation) has a loose seal, or is in exactly one page, or is listed as unopenable;
 * pages partition the id space; nothing is sealed under a retired epoch. Kept by: the group's row FOR KEY SHARE (a commit
 * that opens an epoch waits for us, or we see its epoch), the replaced pages FOR UPDATE in order of lo (two replaces that
 * touch one id share the page that holds it), and the set rule. Writes go on meanwhile; they only make entries dead.
 *
 * A DEK that was sealed loose again while a page has it too is read from its loose row. Such a page entry is shadowed: it
 * may be dropped while the loose row stays, and it counts once when that row is absorbed.
 */
import type { PoolClient } from 'pg'
import { concat, equalBytes } from '../../shared/bytes.ts'
import { ClavigerError } from '../../shared/errors.ts'
import type { GroupId, PageId } from '../../shared/ids.ts'
import { idKey } from '../../shared/ids.ts'
import { ENTRY_BYTES, PAIR_BYTES } from '../../shared/objects/page.ts'
import { areWithin, checkPartition } from '../../shared/objects/page-range.ts'
import type { Database } from './database.ts'
import type { Fence } from './fence.ts'
import { fenceError } from './fence.ts'
import { checkPairs, isSameBound, splitByPairs, unpackPairs } from './packed-pairs.ts'
import type { StoredPage } from './page-ranges.ts'
import type { RewrapProgress } from './rewrap-jobs.ts'
import { addDone } from './rewrap-jobs.ts'
import { checkSetRule } from './set-rule.ts'
import { all, execute, first, statement } from './statement.ts'
import { transact } from './transaction.ts'

/** A replacement, judged to come from an admin at `seq`. */
export interface Replacement extends Fence {
  readonly group: GroupId
  /** A contiguous run, in order. */
  readonly replaced: readonly { readonly lo: Uint8Array; readonly pageId: PageId }[]
  /** Packed pairs, sorted: loose seals the new pages take in, dead ones too. */
  readonly absorbed: Uint8Array
  /** The new pages, in order, between the same outer bounds. */
  readonly pages: readonly StoredPage[]
  /** Who does the job: its lease is renewed. */
  readonly leaseOwner: Uint8Array | null
}

interface LockedPage {
  lo: Uint8Array
  hi: Uint8Array | null
  page_id: Uint8Array
  epoch: number
  count: number
}

const LOCK_GROUP = statement(
  'replace_lock_group',
  'select from groups where group_id = $1 and epoch = $2 and head_seq = $3 and not rekey_owed for key share',
)
const LOCK_PAGES = statement<LockedPage>(
  'replace_lock_pages',
  'select lo, hi, page_id, epoch, count from key_pages where group_id = $1 and lo = any($2::bytea[]) order by lo for update',
)
const READ_ENTRIES = statement<{ entries: Uint8Array }>(
  'replace_read_entries',
  `select string_agg(entries, ''::bytea order by lo) as entries from key_pages where group_id = $1 and lo = any($2::bytea[])`,
)
/** The usual rewrap moves the same entries: then nothing of them is read back. */
const HAVE_SAME_ENTRIES = statement<{ same: boolean }>(
  'replace_same_entries',
  `select string_agg(entries, ''::bytea order by lo) = $3::bytea as same from key_pages where group_id = $1 and lo = any($2::bytea[])`,
)
const MOVE_PAGES = statement(
  'replace_move_pages',
  `with moved as (delete from key_pages where group_id = $1 and lo = any($2::bytea[]) returning *)
   insert into superseded_pages (group_id, page_id, lo, hi, epoch, count, entries, sealed)
   select group_id, page_id, lo, hi, epoch, count, entries, sealed from moved where count > 0 on conflict do nothing`,
)
/** Locks in order of id, as writes do. A seal that was superseded once under this epoch keeps its first copy. */
const MOVE_LOOSE = statement<{ missing: Uint8Array | null; old: number }>(
  'replace_move_loose',
  `with asked as materialized (select $1::bytea as group_id, p.* from (${unpackPairs('$2', PAIR_BYTES)}) p),
   locked as materialized (
     select l.group_id, l.object_id, l.generation from asked
     join loose_deks l on l.group_id = asked.group_id and l.object_id = asked.object_id and l.generation = asked.generation
     order by l.object_id, l.generation for update of l),
   moved as (
     delete from loose_deks l using locked
     where l.group_id = locked.group_id and l.object_id = locked.object_id and l.generation = locked.generation
     returning l.object_id, l.generation, l.epoch, l.seal),
   kept as (insert into superseded_deks (group_id, object_id, generation, epoch, seal) select $1, * from moved on conflict do nothing)
   select count(*) filter (where epoch < $3) as old,
     case when count(*) * ${PAIR_BYTES} < octet_length($2::bytea) then (
       select string_agg(object_id || int4send(generation), ''::bytea order by at) from asked where (object_id, generation) not in (select object_id, generation from moved)) end as missing
   from moved`,
)
const INSERT_PAGES = statement(
  'replace_insert_pages',
  `insert into key_pages (group_id, lo, hi, page_id, epoch, count, entries, sealed)
   select $1, x.lo, x.hi, x.page_id, $2, octet_length(x.entries) / ${ENTRY_BYTES}, x.entries, x.sealed
   from unnest($3::bytea[], $4::bytea[], $5::bytea[], $6::bytea[], $7::bytea[]) as x(lo, hi, page_id, entries, sealed)`,
)

/** Bytes of a sealed page beside its DEKs: nonce and tag. */
const SEAL_OVERHEAD_BYTES = 24 + 16
const DEK_BYTES = 32
const NONE = new Uint8Array(0)

/**
 * Replaces a run of pages, absorbing loose seals.
 *
 * @returns the progress of the job of this epoch.
 * @throws ClavigerError `malformed` (not a partition), `stale_epoch`, `stale_head`, `rekey_owed`, `page_conflict`, `set_rule`.
 */
export function replacePages(database: Database, replacement: Replacement): Promise<RewrapProgress> {
  checkReplacement(replacement)
  return transact(database, async (connection) => {
    if ((await first(connection, LOCK_GROUP, [replacement.group, replacement.epoch, replacement.seq])) === null)
      throw await fenceError(connection, replacement)
    const pages = await lockPages(connection, replacement)
    const { missing, old } = await moveLoose(connection, replacement)
    await checkEntries(connection, replacement, missing)
    await movePages(connection, replacement)
    const oldInPages = pages.reduce((sum, page) => sum + (page.epoch < replacement.epoch ? page.count : 0), 0)
    return await addDone(connection, replacement, oldInPages + old)
  })
}

/** What can be said without the database. */
function checkReplacement({ epoch, replaced, absorbed, pages }: Replacement): void {
  const range = { lo: pages[0]?.lo ?? NONE, hi: pages.at(-1)?.hi ?? null }
  checkPartition(pages, range)
  checkPairs(absorbed, PAIR_BYTES)
  if (!areWithin(absorbed, range, PAIR_BYTES)) throw new ClavigerError('malformed', 'an absorbed DEK is outside the range')
  for (const page of pages) {
    checkPairs(page.entries, ENTRY_BYTES)
    const count = page.entries.length / ENTRY_BYTES
    if (page.epoch !== epoch) throw new ClavigerError('malformed', 'new pages must be of the current epoch')
    if (page.sealed.length !== (count === 0 ? 0 : SEAL_OVERHEAD_BYTES + count * DEK_BYTES))
      throw new ClavigerError('malformed', 'a sealed page has not the length of its entries')
  }
  const names = [...replaced, ...pages].map(({ pageId }) => idKey(pageId))
  if (new Set(names).size !== names.length) throw new ClavigerError('malformed', 'page ids must be fresh')
}

/** Locks the replaced pages: all of them as named, contiguous, and with the outer bounds of the new ones. */
async function lockPages(connection: PoolClient, { group, replaced, pages }: Replacement): Promise<readonly LockedPage[]> {
  const locked = await all(connection, LOCK_PAGES, [group, replaced.map(({ lo }) => lo)])
  const isAsNamed = locked.length === replaced.length && locked.every((page, index) => isNamed(page, replaced[index]))
  const isContiguous = locked.every((page, index) => index === 0 || isSameBound(locked[index - 1]?.hi ?? null, page.lo))
  if (!isAsNamed || !isContiguous) throw new ClavigerError('page_conflict')
  const isSameRange =
    isSameBound(locked[0]?.lo ?? null, pages[0]?.lo ?? null) && isSameBound(locked.at(-1)?.hi ?? null, pages.at(-1)?.hi ?? null)
  if (!isSameRange) throw new ClavigerError('malformed', 'the new pages must fill the range of the replaced ones')
  return locked
}

function isNamed(page: LockedPage, named: { readonly lo: Uint8Array; readonly pageId: PageId } | undefined): boolean {
  return named !== undefined && equalBytes(page.lo, named.lo) && equalBytes(page.page_id, named.pageId)
}

/** @returns the pairs that were not there, and how many of the others were under older epochs. */
async function moveLoose(connection: PoolClient, { group, epoch, absorbed }: Replacement): Promise<{ missing: Uint8Array; old: number }> {
  if (absorbed.length === 0) return { missing: NONE, old: 0 }
  const row = await first(connection, MOVE_LOOSE, [group, absorbed, epoch])
  return { missing: row?.missing ?? NONE, old: row?.old ?? 0 }
}

async function checkEntries(connection: PoolClient, replacement: Replacement, missing: Uint8Array): Promise<void> {
  const { group, replaced, absorbed, pages } = replacement
  const entries = concat(...pages.map((page) => page.entries))
  const los = replaced.map(({ lo }) => lo)
  if (absorbed.length === 0 && (await first(connection, HAVE_SAME_ENTRIES, [group, los, entries]))?.same === true) return
  const old = (await first(connection, READ_ENTRIES, [group, los]))?.entries ?? NONE
  const found = splitByPairs(absorbed, PAIR_BYTES, missing, PAIR_BYTES).others
  await checkSetRule(connection, { group, old, absorbed: found, missing, entries })
}

async function movePages(connection: PoolClient, { group, epoch, replaced, pages }: Replacement): Promise<void> {
  await execute(connection, MOVE_PAGES, [group, replaced.map(({ lo }) => lo)])
  await execute(connection, INSERT_PAGES, [
    group,
    epoch,
    pages.map(({ lo }) => lo),
    pages.map(({ hi }) => hi),
    pages.map(({ pageId }) => pageId),
    pages.map(({ entries }) => entries),
    pages.map(({ sealed }) => sealed),
  ])
}
