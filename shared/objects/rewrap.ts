/**
 * Planning the new pages of one range: opened pages and loose DEKs in, sealed pages out. Pure but for page ids and nonces.
 * Secret side: never imported by the server.
 *
 * The same plan serves a rewrap to a new epoch and a compaction under an unchanged one. It works on packed bytes and copies
 * runs, not entries: without loose or dead DEKs a page costs two AEAD calls and a few copies.
 */
import { compareBytes, concat, equalBytes, wipe } from '../bytes.ts'
import type { Dek } from '../crypto/keys.ts'
import { SYMMETRIC_KEY_BYTES } from '../crypto/keys.ts'
import { ClavigerError } from '../errors.ts'
import type { ObjectId, PageId } from '../ids.ts'
import { HASH_BYTES } from '../ids.ts'
import type { EpochSealKeys } from './dek.ts'
import type { PageBounds } from './page.ts'
import { checkEntries, comparePairs, encodePair, ENTRY_BYTES, lowerBound, PAIR_BYTES } from './page.ts'
import { areWithin, planPages } from './page-range.ts'
import { sealPage } from './page-seal.ts'

/** A page of the range. `deks` is null if it did not open: its entries are then dropped and reported. */
export interface RangePage extends PageBounds {
  readonly pageId: PageId
  readonly entries: Uint8Array
  readonly deks: Uint8Array | null
}

/** A loose DEK of the range that opened. */
export interface RangeDek {
  readonly object: ObjectId
  readonly generation: number
  /** Of the header the DEK belongs to: the new page will vouch for it. */
  readonly headerHash: Uint8Array
  readonly dek: Dek
}

/** What is known of a range. */
export interface RangeInput {
  /** Of the epoch that the new pages are sealed under. */
  readonly keys: EpochSealKeys
  /** In order, each starting where the one before ends; at least one. */
  readonly pages: readonly RangePage[]
  /** In any order. One that a page also has replaces the page’s. */
  readonly loose: readonly RangeDek[]
  /** Packed pairs, sorted, that nothing needs any more. */
  readonly dead: Uint8Array
  readonly newPageId: () => PageId
}

/** A page to store. */
export interface SealedPage extends PageBounds {
  readonly pageId: PageId
  readonly epoch: number
  readonly entries: Uint8Array
  readonly sealed: Uint8Array
}

/** What to send to `pages.replace`, and what could not be kept. */
export interface RangePlan {
  readonly replaced: readonly { readonly lo: Uint8Array; readonly pageId: PageId }[]
  /** Packed pairs of all given loose DEKs, dead ones too. */
  readonly absorbed: Uint8Array
  readonly pages: readonly SealedPage[]
  /** Packed pairs that are not dead but whose page did not open: they must be reported before the range is replaced. */
  readonly unopenable: Uint8Array
}

/** Records of one kind of origin, sorted: `deks` has 32 bytes for each entry. */
interface Series {
  readonly entries: Uint8Array
  readonly deks: Uint8Array
}

/**
 * Plans the replacement of a range: drops the dead, takes in the loose, and cuts the rest into full pages between the same
 * outer bounds.
 *
 * @throws ClavigerError `malformed` if pages or DEKs are not of one contiguous range.
 */
export function planRange(input: RangeInput): RangePlan {
  const range = checkRange(input.pages)
  const loose = looseSeries(input.loose)
  if (!areWithin(loose.entries, range)) throw new ClavigerError('malformed', 'a loose DEK is outside the range')
  const live = liveSeries(input, loose)
  try {
    return {
      replaced: input.pages.map(({ lo, pageId }) => ({ lo, pageId })),
      absorbed: pairsOf(loose.entries),
      pages: planPages(live.entries, range).map((plan) => sealSlice(input, live, plan)),
      unopenable: unopenablePairs(input, loose),
    }
  } finally {
    wipe(loose.deks, live.deks)
  }
}

/** All that is to be kept, in order, in arrays of its own. */
function liveSeries(input: RangeInput, loose: Series): Series {
  const paged = pagedSeries(input.pages)
  const notLoose = withoutPairs(paged, pairsOf(loose.entries))
  const livePaged = withoutPairs(notLoose, input.dead)
  const liveLoose = withoutPairs(loose, input.dead)
  const live = merge(livePaged, liveLoose)
  wipe(paged.deks, notLoose.deks, livePaged.deks, liveLoose.deks)
  return live
}

function sealSlice(input: RangeInput, live: Series, plan: PageBounds & { readonly from: number; readonly to: number }): SealedPage {
  const pageId = input.newPageId()
  const entries = live.entries.slice(plan.from * ENTRY_BYTES, plan.to * ENTRY_BYTES)
  const deks = live.deks.subarray(plan.from * SYMMETRIC_KEY_BYTES, plan.to * SYMMETRIC_KEY_BYTES)
  return { lo: plan.lo, hi: plan.hi, pageId, epoch: input.keys.epoch, entries, sealed: sealPage(input.keys, { pageId, entries, deks }) }
}

function checkRange(pages: readonly RangePage[]): PageBounds {
  const [first] = pages
  const last = pages.at(-1)
  if (first === undefined || last === undefined) throw new TypeError('pages must not be empty')
  for (const [index, page] of pages.entries()) {
    checkEntries(page.entries)
    const before = pages[index - 1]
    const isContiguous = before === undefined || (before.hi !== null && equalBytes(before.hi, page.lo))
    if (!isContiguous || !areWithin(page.entries, page)) throw new ClavigerError('malformed', 'the pages are not one range')
  }
  return { lo: first.lo, hi: last.hi }
}

function pagedSeries(pages: readonly RangePage[]): Series {
  const opened = pages.filter((page) => page.deks !== null)
  return { entries: concat(...opened.map(({ entries }) => entries)), deks: concat(...opened.map(({ deks }) => deks ?? new Uint8Array(0))) }
}

/** The loose DEKs in order; an order by object is often given and costs one pass. */
function looseSeries(loose: readonly RangeDek[]): Series {
  const records = loose.map(({ dek, headerHash, ...name }) => ({ pair: encodePair(name), headerHash, dek }))
  records.sort((left, right) => compareBytes(left.pair, right.pair))
  const series = { entries: new Uint8Array(records.length * ENTRY_BYTES), deks: new Uint8Array(records.length * SYMMETRIC_KEY_BYTES) }
  for (const [index, { pair, headerHash, dek }] of records.entries()) {
    if (headerHash.length !== HASH_BYTES) throw new TypeError(`headerHash must be ${HASH_BYTES} bytes`)
    if (index > 0 && comparePairs(series.entries, (index - 1) * ENTRY_BYTES, pair, 0) === 0)
      throw new ClavigerError('malformed', 'a loose DEK is given twice')
    series.entries.set(pair, index * ENTRY_BYTES)
    series.entries.set(headerHash, index * ENTRY_BYTES + PAIR_BYTES)
    series.deks.set(dek, index * SYMMETRIC_KEY_BYTES)
  }
  return series
}

/** What is left of a series without the records of sorted `pairs`. */
function withoutPairs(series: Series, pairs: Uint8Array): Series {
  const kept = new SeriesWriter(series)
  let from = 0
  for (let start = 0; start < pairs.length; start += PAIR_BYTES) {
    const pair = pairs.subarray(start, start + PAIR_BYTES)
    const to = lowerBound(series.entries, ENTRY_BYTES, pair, from)
    if (to * ENTRY_BYTES === series.entries.length) break
    kept.copy(series, from, to)
    from = comparePairs(series.entries, to * ENTRY_BYTES, pair, 0) === 0 ? to + 1 : to
  }
  kept.copy(series, from, series.entries.length / ENTRY_BYTES)
  return kept.written()
}

/** Two sorted series without common records, as one. */
function merge(left: Series, right: Series): Series {
  const merged = new SeriesWriter(left, right)
  let from = 0
  const count = right.entries.length / ENTRY_BYTES
  for (let index = 0; index < count; index += 1) {
    const to = lowerBound(left.entries, ENTRY_BYTES, right.entries.subarray(index * ENTRY_BYTES, index * ENTRY_BYTES + PAIR_BYTES), from)
    merged.copy(left, from, to)
    merged.copy(right, index, index + 1)
    from = to
  }
  merged.copy(left, from, left.entries.length / ENTRY_BYTES)
  return merged.written()
}

/** Room for at most what the given series hold, filled by copying runs. */
class SeriesWriter {
  readonly #entries: Uint8Array
  readonly #deks: Uint8Array
  #count = 0

  constructor(...sources: readonly Series[]) {
    const records = sources.reduce((sum, { entries }) => sum + entries.length / ENTRY_BYTES, 0)
    this.#entries = new Uint8Array(records * ENTRY_BYTES)
    this.#deks = new Uint8Array(records * SYMMETRIC_KEY_BYTES)
  }

  copy(source: Series, from: number, to: number): void {
    if (from >= to) return
    this.#entries.set(source.entries.subarray(from * ENTRY_BYTES, to * ENTRY_BYTES), this.#count * ENTRY_BYTES)
    this.#deks.set(source.deks.subarray(from * SYMMETRIC_KEY_BYTES, to * SYMMETRIC_KEY_BYTES), this.#count * SYMMETRIC_KEY_BYTES)
    this.#count += to - from
  }

  written(): Series {
    return {
      entries: this.#entries.subarray(0, this.#count * ENTRY_BYTES),
      deks: this.#deks.subarray(0, this.#count * SYMMETRIC_KEY_BYTES),
    }
  }
}

function unopenablePairs(input: RangeInput, loose: Series): Uint8Array {
  const closed = input.pages.filter((page) => page.deks === null).map(({ entries }) => entries)
  if (closed.length === 0) return new Uint8Array(0)
  const entries = concat(...closed)
  const series = { entries, deks: new Uint8Array((entries.length / ENTRY_BYTES) * SYMMETRIC_KEY_BYTES) }
  return pairsOf(withoutPairs(withoutPairs(series, pairsOf(loose.entries)), input.dead).entries)
}

/** The packed pairs of packed entries. */
function pairsOf(entries: Uint8Array): Uint8Array {
  const pairs = new Uint8Array((entries.length / ENTRY_BYTES) * PAIR_BYTES)
  for (let from = 0, to = 0; from < entries.length; from += ENTRY_BYTES, to += PAIR_BYTES) {
    pairs.set(entries.subarray(from, from + PAIR_BYTES), to)
  }
  return pairs
}
