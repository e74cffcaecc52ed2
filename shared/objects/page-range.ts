/**
 * Runs of pages: cutting sorted entries into pages, checking that pages fill a range without gap or overlap,
 * and the difference that the set rule asks about. All on packed bytes.
 */
import { compareBytes, concat } from '../bytes.ts'
import { ClavigerError } from '../errors.ts'
import { OBJECT_ID_BYTES } from '../ids.ts'
import { PAGE_DEKS_MAX } from '../limits.ts'
import type { PageBounds } from './page.ts'
import { checkEntries, compareEntries, compareObjects, ENTRY_BYTES } from './page.ts'

/** One page to be: its bounds, and which of the given entries it takes (indices, `to` exclusive). */
export interface PagePlan extends PageBounds {
  readonly from: number
  readonly to: number
}

/**
 * Cuts sorted entries into as few pages as possible, evenly filled, that cover exactly `[lo, hi)`.
 *
 * No room is left for growth: nothing is ever added to a page in place, each replacement cuts its whole range anew.
 * All generations of one object stay in one page. Without entries the range is one empty page.
 *
 * @throws ClavigerError `limit_exceeded` if one object has more generations than a page holds.
 */
export function planPages(entries: Uint8Array, range: PageBounds): PagePlan[] {
  const count = entries.length / ENTRY_BYTES
  const cuts: number[] = [0]
  for (let from = 0; from < count; cuts.push(from)) from = nextCut(entries, from, count)
  if (count === 0) cuts.push(0)
  return cuts.slice(1).map((to, page) => {
    const from = cuts[page] ?? 0
    return { from, to, lo: page === 0 ? range.lo : objectAt(entries, from), hi: to === count ? range.hi : objectAt(entries, to) }
  })
}

function nextCut(entries: Uint8Array, from: number, count: number): number {
  const pages = Math.ceil((count - from) / PAGE_DEKS_MAX)
  let cut = from + Math.ceil((count - from) / pages)
  while (cut < count && cut > from && isSameObject(entries, cut - 1, cut)) cut -= 1
  if (cut === from) throw new ClavigerError('limit_exceeded', `an object has more than ${PAGE_DEKS_MAX} generations`)
  return cut
}

/**
 * Checks that pages follow each other without gap or overlap, that their outer bounds are those of `range`, and that each
 * has well-formed entries within its own bounds.
 *
 * @throws ClavigerError `malformed` or `limit_exceeded`.
 */
export function checkPartition(pages: readonly (PageBounds & { readonly entries: Uint8Array })[], range: PageBounds): void {
  let expected: Uint8Array | null = range.lo
  for (const page of pages) {
    if (expected === null || compareBytes(page.lo, expected) !== 0) throw new ClavigerError('malformed', 'pages must follow each other')
    if (page.hi !== null && compareBytes(page.lo, page.hi) >= 0)
      throw new ClavigerError('malformed', 'a page must not end before it starts')
    checkEntries(page.entries)
    if (!areWithin(page.entries, page)) throw new ClavigerError('malformed', 'entries must be within the bounds of their page')
    expected = page.hi
  }
  if (pages.length === 0 || !isSameBound(expected, range.hi)) throw new ClavigerError('malformed', 'pages must fill the range')
}

/** Whether sorted entries (or pairs) are all within bounds. */
export function areWithin(records: Uint8Array, bounds: PageBounds, recordBytes: number = ENTRY_BYTES): boolean {
  if (records.length === 0) return true
  const lowest = records.subarray(0, OBJECT_ID_BYTES)
  const highest = records.subarray(records.length - recordBytes, records.length - recordBytes + OBJECT_ID_BYTES)
  return compareBytes(lowest, bounds.lo) >= 0 && (bounds.hi === null || compareBytes(highest, bounds.hi) < 0)
}

/**
 * The set rule’s question: which entries are in only one of two collections? All of them must be dead.
 *
 * Entries are compared whole, header hash included: an entry that vouches for another header than the stored one is dead
 * whatever its generation. Each run is sorted in itself; an entry in several runs of one side counts once.
 *
 * @returns packed entries, sorted.
 */
export function entriesOnlyInOne(
  oldRuns: readonly Uint8Array[],
  newRuns: readonly Uint8Array[],
): { onlyInOld: Uint8Array; onlyInNew: Uint8Array } {
  const left = mergeRuns(oldRuns)
  const right = mergeRuns(newRuns)
  return { onlyInOld: difference(left, right), onlyInNew: difference(right, left) }
}

/** One sorted run of all entries of several, without repeats. Runs that already follow each other are only joined. */
export function mergeRuns(runs: readonly Uint8Array[]): Uint8Array {
  const ordered: Uint8Array[][] = []
  for (const run of runs) {
    if (run.length === 0) continue
    const series = ordered.find((candidate) => follows(candidate, run))
    if (series === undefined) ordered.push([run])
    else series.push(run)
  }
  return ordered.map((series) => concat(...series)).reduce(union, new Uint8Array(0))
}

function follows(series: readonly Uint8Array[], run: Uint8Array): boolean {
  const last = series.at(-1)
  return last !== undefined && compareEntries(last, last.length - ENTRY_BYTES, run, 0) < 0
}

function union(left: Uint8Array, right: Uint8Array): Uint8Array {
  if (left.length === 0) return right
  const merged = new Uint8Array(left.length + right.length)
  let written = 0
  let fromRight = 0
  for (let fromLeft = 0; fromLeft < left.length || fromRight < right.length; written += ENTRY_BYTES) {
    const order = fromLeft === left.length ? 1 : fromRight === right.length ? -1 : compareEntries(left, fromLeft, right, fromRight)
    merged.set(order <= 0 ? left.subarray(fromLeft, fromLeft + ENTRY_BYTES) : right.subarray(fromRight, fromRight + ENTRY_BYTES), written)
    if (order <= 0) fromLeft += ENTRY_BYTES
    if (order >= 0) fromRight += ENTRY_BYTES
  }
  return merged.subarray(0, written)
}

/** What is in `left` and not in `right`. */
function difference(left: Uint8Array, right: Uint8Array): Uint8Array {
  const only: Uint8Array[] = []
  let fromRight = 0
  for (let fromLeft = 0; fromLeft < left.length; fromLeft += ENTRY_BYTES) {
    let order = 1
    while (fromRight < right.length && (order = compareEntries(right, fromRight, left, fromLeft)) < 0) fromRight += ENTRY_BYTES
    if (order !== 0 || fromRight === right.length) only.push(left.subarray(fromLeft, fromLeft + ENTRY_BYTES))
  }
  return concat(...only)
}

function isSameObject(entries: Uint8Array, left: number, right: number): boolean {
  return compareObjects(entries, left * ENTRY_BYTES, entries, right * ENTRY_BYTES) === 0
}

function objectAt(entries: Uint8Array, index: number): Uint8Array {
  return entries.slice(index * ENTRY_BYTES, index * ENTRY_BYTES + OBJECT_ID_BYTES)
}

function isSameBound(left: Uint8Array | null, right: Uint8Array | null): boolean {
  return left === null || right === null ? left === right : compareBytes(left, right) === 0
}
