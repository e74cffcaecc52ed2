/** Replacements of key pages with random bytes as seals. */
import { randomBytes } from 'node:crypto'
import type { PageRange, StoredPage } from '../../server/storage/page-ranges.ts'
import type { Replacement } from '../../server/storage/page-replace.ts'
import { concat } from '../../shared/bytes.ts'
import type { GroupId } from '../../shared/ids.ts'
import type { PageEntry } from '../../shared/objects/page.ts'
import { decodeEntries, decodePairs, encodeEntries, encodePairs, ENTRY_BYTES, pairKey } from '../../shared/objects/page.ts'
import { planPages } from '../../shared/objects/page-range.ts'
import { newPageId } from './storage-group.ts'

/** What an honest client does with a range: takes in every loose DEK and drops what is dead. */
export function absorbAll(group: GroupId, range: PageRange): Replacement {
  return replaceWith(group, range, liveEntries(range))
}

/** Entries of a range that the reader was not told to be dead. */
export function liveEntries(range: PageRange): PageEntry[] {
  const dead = new Set(decodePairs(range.dead).map(pairKey))
  const entries = new Map<string, PageEntry>()
  for (const entry of [...range.pages.flatMap((page) => decodeEntries(page.entries)), ...range.loose]) {
    if (!dead.has(pairKey(entry)))
      entries.set(pairKey(entry), { object: entry.object, generation: entry.generation, headerHash: entry.headerHash })
  }
  return [...entries.values()]
}

/** A replacement of a range by pages with exactly these entries, absorbing all loose DEKs. */
export function replaceWith(group: GroupId, range: PageRange, entries: readonly PageEntry[]): Replacement {
  return {
    group,
    epoch: range.epoch,
    seq: range.seq,
    replaced: range.pages.map(({ lo, pageId }) => ({ lo, pageId })),
    absorbed: encodePairs(range.loose),
    pages: newPages(range, encodeEntries(entries)),
    leaseOwner: null,
  }
}

/** Pages over the bounds of a range, with these packed entries. */
export function newPages(range: PageRange, packed: Uint8Array): StoredPage[] {
  const [first] = range.pages
  const last = range.pages.at(-1)
  if (first === undefined || last === undefined) throw new Error('the range has no page')
  return planPages(packed, { lo: first.lo, hi: last.hi }).map(({ lo, hi, from, to }) => ({
    lo,
    hi,
    pageId: newPageId(),
    epoch: range.epoch,
    entries: packed.slice(from * ENTRY_BYTES, to * ENTRY_BYTES),
    sealed: from === to ? new Uint8Array(0) : concat(randomBytes(40), randomBytes(32 * (to - from))),
  }))
}
