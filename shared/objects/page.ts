/**
 * Key pages in the clear: the packed list of entries a page vouches for, and how pages divide the id space.
 *
 * Entries stay packed (52 bytes each, sorted), because a rewrap of 100 000 DEKs must not make an object per entry.
 * The seal of a page is in `page-seal.ts`; the server uses this file alone.
 */
import { compareBytes, concat, toHex } from '../bytes.ts'
import { ClavigerError } from '../errors.ts'
import type { ObjectId } from '../ids.ts'
import { asObjectId, HASH_BYTES, OBJECT_ID_BYTES } from '../ids.ts'
import { PAGE_DEKS_MAX } from '../limits.ts'
import type { SignedHeader } from './header.ts'

/** Bytes of a packed (object, generation) pair: object 16 ‖ generation, 4 bytes big endian. */
export const PAIR_BYTES = OBJECT_ID_BYTES + 4
/** Bytes of a packed entry: a pair and the hash of the header the DEK belongs to. */
export const ENTRY_BYTES = PAIR_BYTES + HASH_BYTES

/** One (object, generation). */
export interface Pair {
  readonly object: ObjectId
  readonly generation: number
}

/** What a page says about one of its DEKs. */
export interface PageEntry extends Pair {
  readonly headerHash: Uint8Array
}

/** A half-open part of the id space: `lo` is empty at the start, `hi` null at the end. */
export interface PageBounds {
  readonly lo: Uint8Array
  readonly hi: Uint8Array | null
}

/** Packs entries in order of (object, generation). @throws TypeError if two have the same. */
export function encodeEntries(entries: readonly PageEntry[]): Uint8Array {
  const packed = entries.map((entry) => concat(encodePair(entry), assertHash(entry.headerHash)))
  const bytes = concat(...packed.sort(compareBytes))
  if (!isAscending(bytes, ENTRY_BYTES)) throw new TypeError('entries must be of different DEKs')
  return bytes
}

/** Checks the packed entries of one page without unpacking them. @returns how many. @throws ClavigerError `malformed`, `limit_exceeded`. */
export function checkEntries(entries: Uint8Array): number {
  const count = entries.length / ENTRY_BYTES
  if (count > PAGE_DEKS_MAX) throw new ClavigerError('limit_exceeded', `a page must have at most ${PAGE_DEKS_MAX} entries`)
  if (!Number.isInteger(count)) throw new ClavigerError('malformed', `entries must be a multiple of ${ENTRY_BYTES} bytes`)
  if (!isAscending(entries, ENTRY_BYTES)) throw new ClavigerError('malformed', 'entries must be sorted and of different DEKs')
  return count
}

/** Unpacks the entries of one page. @throws ClavigerError `malformed`, `limit_exceeded`. */
export function decodeEntries(entries: Uint8Array): PageEntry[] {
  return Array.from({ length: checkEntries(entries) }, (_, index) => entryAt(entries, index))
}

/** The entry at `index` of checked entries. */
export function entryAt(entries: Uint8Array, index: number): PageEntry {
  const start = index * ENTRY_BYTES
  return { ...pairAt(entries, start), headerHash: entries.slice(start + PAIR_BYTES, start + ENTRY_BYTES) }
}

/** Packs pairs in order; a pair given twice is packed once. */
export function encodePairs(pairs: readonly Pair[]): Uint8Array {
  const packed = pairs.map(encodePair).sort(compareBytes)
  return concat(...packed.filter((pair, index) => index === 0 || compareBytes(packed[index - 1] ?? pair, pair) !== 0))
}

/** Unpacks pairs. @throws ClavigerError `malformed` unless they are whole, sorted and different. */
export function decodePairs(pairs: Uint8Array): Pair[] {
  if (pairs.length % PAIR_BYTES !== 0 || !isAscending(pairs, PAIR_BYTES))
    throw new ClavigerError('malformed', 'pairs must be whole, sorted and different')
  return Array.from({ length: pairs.length / PAIR_BYTES }, (_, index) => pairAt(pairs, index * PAIR_BYTES))
}

/** Where a DEK stands in checked entries, by binary search; null if the page does not have it. */
export function findEntry(entries: Uint8Array, object: ObjectId, generation: number): number | null {
  const pair = encodePair({ object, generation })
  const index = lowerBound(entries, ENTRY_BYTES, pair)
  return index * ENTRY_BYTES < entries.length && comparePairs(entries, index * ENTRY_BYTES, pair, 0) === 0 ? index : null
}

/**
 * The index of a header’s DEK in a page that vouches for exactly that header.
 *
 * @throws ClavigerError `page_invalid` if the page has no such entry, or vouches for another header.
 */
export function vouchedIndex(entries: Uint8Array, signed: SignedHeader): number {
  const { object, generation } = signed.header
  const index = findEntry(entries, object, generation)
  const start = (index ?? 0) * ENTRY_BYTES + PAIR_BYTES
  if (index === null || compareBytes(entries.subarray(start, start + HASH_BYTES), signed.hash) !== 0) {
    throw new ClavigerError('page_invalid', undefined, { data: { object, generation } })
  }
  return index
}

/** Index of the first record whose pair is not below `pair`. @param recordBytes - {@link ENTRY_BYTES} or {@link PAIR_BYTES}. */
export function lowerBound(records: Uint8Array, recordBytes: number, pair: Uint8Array, from = 0): number {
  let low = from
  let high = records.length / recordBytes
  while (low < high) {
    const middle = (low + high) >>> 1
    if (comparePairs(records, middle * recordBytes, pair, 0) < 0) low = middle + 1
    else high = middle
  }
  return low
}

/** Order of two records that start somewhere in larger arrays. */
type RecordOrder = (left: Uint8Array, leftStart: number, right: Uint8Array, rightStart: number) => number

/** Order of (object, generation). */
export const comparePairs: RecordOrder = orderOf(PAIR_BYTES)
/** Order of whole entries, header hash included. */
export const compareEntries: RecordOrder = orderOf(ENTRY_BYTES)
/** Order of objects alone. */
export const compareObjects: RecordOrder = orderOf(OBJECT_ID_BYTES)

function orderOf(recordBytes: number): RecordOrder {
  return (left, leftStart, right, rightStart) => {
    for (let index = 0; index < recordBytes; index += 1) {
      const difference = (left[leftStart + index] ?? 0) - (right[rightStart + index] ?? 0)
      if (difference !== 0) return difference
    }
    return 0
  }
}

/** One packed pair. */
export function encodePair({ object, generation }: Pair): Uint8Array {
  if (!Number.isInteger(generation) || generation < 1 || generation > 0xffff_ffff)
    throw new RangeError(`generation must be from 1 to 2^32 - 1, got ${generation}`)
  const pair = new Uint8Array(PAIR_BYTES)
  pair.set(asObjectId(object))
  new DataView(pair.buffer).setUint32(OBJECT_ID_BYTES, generation)
  return pair
}

/** A pair as text, for use as a `Map` key. */
export function pairKey(pair: Pair): string {
  return toHex(encodePair(pair))
}

function pairAt(records: Uint8Array, start: number): Pair {
  const object = asObjectId(records.slice(start, start + OBJECT_ID_BYTES))
  return { object, generation: new DataView(records.buffer, records.byteOffset + start).getUint32(OBJECT_ID_BYTES) }
}

/** Whether each record’s pair is greater than the one before. */
function isAscending(records: Uint8Array, recordBytes: number): boolean {
  for (let start = recordBytes; start < records.length; start += recordBytes) {
    if (comparePairs(records, start - recordBytes, records, start) >= 0) return false
  }
  return true
}

function assertHash(headerHash: Uint8Array): Uint8Array {
  if (headerHash.length !== HASH_BYTES) throw new TypeError(`headerHash must be ${HASH_BYTES} bytes, got ${headerHash.length}`)
  return headerHash
}
