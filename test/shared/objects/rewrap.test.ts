import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { concat } from '../../../shared/bytes.ts'
import { PAGE_DEKS_MAX } from '../../../shared/limits.ts'
import { dekCommitment, epochSealKeys } from '../../../shared/objects/dek.ts'
import type { PageEntry, Pair } from '../../../shared/objects/page.ts'
import { decodeEntries, encodeEntries, encodePair, encodePairs, pairKey } from '../../../shared/objects/page.ts'
import { checkPartition, entriesOnlyInOne } from '../../../shared/objects/page-range.ts'
import { dekAt, dekForHeader, openPage, sealPage, sealedPageBytes } from '../../../shared/objects/page-seal.ts'
import type { RangeDek, RangeInput, RangePage, SealedPage } from '../../../shared/objects/rewrap.ts'
import { planRange } from '../../../shared/objects/rewrap.ts'
import { BACKENDS, useBackend } from '../crypto/backends.ts'
import { alice, dekOf, failureOf, filled, flipped, group, headerOf, objectId, otherGroup, pageId, secretOf, signedBy } from './fixtures.ts'

const oldKeys = epochSealKeys(secretOf(1), { group, epoch: 1 })
const newKeys = epochSealKeys(secretOf(2), { group, epoch: 2 })
const everything = { lo: new Uint8Array(0), hi: null }
const none = new Uint8Array(0)
const firstPage: RangePage = { ...everything, pageId: pageId(0), entries: none, deks: none }

const loose = (seed: number, generation = 1): RangeDek => ({
  object: objectId(seed),
  generation,
  headerHash: filled(32, seed * 7 + generation),
  dek: dekOf(seed * 11 + generation),
})
const entryOf = ({ object, generation, headerHash }: RangeDek): PageEntry => ({ object, generation, headerHash })

function counter(from = 0): () => ReturnType<typeof pageId> {
  let written = from
  return () => pageId((written += 1))
}

function plan(changes: Partial<RangeInput>): ReturnType<typeof planRange> {
  return planRange({ keys: newKeys, pages: [firstPage], loose: [], dead: none, newPageId: counter(), ...changes })
}

/** What a page’s reader sees of it. */
const opened = (keys: typeof oldKeys, pages: readonly SealedPage[]): RangePage[] =>
  pages.map((page) => ({ ...openPage(keys, page), lo: page.lo, hi: page.hi }))
const content = (pages: readonly RangePage[]): Map<string, string> =>
  new Map(
    pages.flatMap(({ pageId: id, entries, deks }) =>
      decodeEntries(entries).map((entry, index) => [
        pairKey(entry),
        `${entry.headerHash.join()} ${dekAt({ pageId: id, entries, deks: deks ?? none }, index).join()}`,
      ]),
    ),
  )
const contentOf = (deks: readonly RangeDek[]): Map<string, string> =>
  new Map(deks.map((dek) => [pairKey(dek), `${dek.headerHash.join()} ${dek.dek.join()}`]))

describe.each(BACKENDS)('a page sealed with the $name backend', (backend) => {
  const deks = Array.from({ length: 5 }, (_, index) => loose(index))
  const sorted = deks.toSorted((left, right) => (pairKey(left) < pairKey(right) ? -1 : 1))
  const page = { pageId: pageId(1), entries: encodeEntries(deks.map(entryOf)), deks: concat(...sorted.map(({ dek }) => dek)) }

  test('opens to the DEKs of its entries', () => {
    useBackend(backend)
    const sealed = sealPage(oldKeys, page)
    expect(sealed.length).toBe(sealedPageBytes(5))
    expect(openPage(oldKeys, { ...page, sealed })).toEqual(page)
  })

  test('does not open under another epoch, group, page id or list of entries (A25, A18, A32)', async () => {
    useBackend(backend)
    const sealed = sealPage(oldKeys, page)
    const wrongKeys = [
      newKeys,
      epochSealKeys(secretOf(1), { group: otherGroup, epoch: 1 }),
      epochSealKeys(secretOf(1), { group, epoch: 2 }),
      { ...oldKeys, epoch: 2 },
      { ...oldKeys, group: otherGroup },
    ]
    for (const keys of wrongKeys) expect(await failureOf(() => openPage(keys, { ...page, sealed }))).toBe('decryption_failed')
    expect(await failureOf(() => openPage(oldKeys, { ...page, sealed, pageId: pageId(2) }))).toBe('decryption_failed')
    const renamed = encodeEntries(deks.map((dek, index) => ({ ...entryOf(dek), headerHash: filled(32, 900 + index) })))
    const moved = encodeEntries(deks.map((dek) => ({ ...entryOf(dek), generation: 2 })))
    for (const entries of [renamed, moved, encodeEntries(deks.slice(1).map(entryOf))])
      expect(await failureOf(() => openPage(oldKeys, { ...page, sealed, entries }))).toBe('decryption_failed')
  })

  test('does not open once any byte of seal or entries has changed (A22)', async () => {
    useBackend(backend)
    const sealed = sealPage(oldKeys, page)
    for (let index = 0; index < sealed.length; index += 1)
      expect(await failureOf(() => openPage(oldKeys, { ...page, sealed: flipped(sealed, index) }))).toBe('decryption_failed')
    for (const wrong of [concat(sealed, Uint8Array.of(0)), sealed.subarray(0, -1), none])
      expect(await failureOf(() => openPage(oldKeys, { ...page, sealed: wrong }))).toBe('decryption_failed')
    for (let index = 0; index < page.entries.length; index += 1)
      expect(await failureOf(() => openPage(oldKeys, { ...page, sealed, entries: flipped(page.entries, index) }))).toMatch(
        /^(decryption_failed|malformed)$/,
      )
  })

  test('opens within the same work when it is full', () => {
    useBackend(backend)
    const full = plan({ keys: oldKeys, loose: Array.from({ length: PAGE_DEKS_MAX }, (_, index) => loose(index)) })
    expect(content(opened(oldKeys, full.pages)).size).toBe(PAGE_DEKS_MAX)
  })
})

describe('a page', () => {
  test('of nothing is nothing', async () => {
    expect(sealPage(oldKeys, { pageId: pageId(1), entries: none, deks: none })).toEqual(none)
    expect(openPage(oldKeys, { pageId: pageId(1), entries: none, sealed: none }).deks).toEqual(none)
    expect(await failureOf(() => openPage(oldKeys, { pageId: pageId(1), entries: none, sealed: filled(40) }))).toBe('decryption_failed')
  })

  test('is sealed with one DEK for each entry', () => {
    expect(() => sealPage(oldKeys, { pageId: pageId(1), entries: encodeEntries([entryOf(loose(1))]), deks: new Uint8Array(64) })).toThrow(
      TypeError,
    )
  })

  test('gives the DEK of the header it vouches for and checks its commitment', async () => {
    const signed = await signedBy(
      alice,
      headerOf({ dekCommitment: dekCommitment(dekOf(5), { group, object: objectId(1), generation: 1 }) }),
    )
    const dek = { object: objectId(1), generation: 1, headerHash: signed.hash }
    const pageWith = (headerHash: Uint8Array, seed: number): Parameters<typeof dekForHeader>[0] => {
      const [page] = plan({ loose: [{ ...dek, headerHash, dek: dekOf(seed) }] }).pages
      if (page === undefined) throw new Error('one page')
      return openPage(newKeys, page)
    }
    expect(dekForHeader(pageWith(signed.hash, 5), signed)).toEqual(dekOf(5))
    expect(await failureOf(() => dekForHeader(pageWith(signed.hash, 6), signed))).toBe('dek_invalid')
    expect(await failureOf(() => dekForHeader(pageWith(filled(32), 5), signed))).toBe('page_invalid')
  })
})

describe('the plan for a range', () => {
  test('of loose DEKs alone makes full pages of them', () => {
    const deks = Array.from({ length: 1000 }, (_, index) => loose(index))
    const { pages, absorbed, replaced, unopenable } = plan({ loose: deks })
    expect(pages.length).toBe(4)
    expect(content(opened(newKeys, pages))).toEqual(contentOf(deks))
    expect(absorbed).toEqual(encodePairs(deks))
    expect(replaced).toEqual([{ lo: firstPage.lo, pageId: firstPage.pageId }])
    expect(unopenable).toEqual(none)
  })

  test('moves pages to the new epoch under new page ids, bounds and DEKs as they were', () => {
    const before = plan({ keys: oldKeys, loose: Array.from({ length: 600 }, (_, index) => loose(index)) }).pages
    const after = plan({ pages: opened(oldKeys, before), newPageId: counter(100) })
    expect(content(opened(newKeys, after.pages))).toEqual(content(opened(oldKeys, before)))
    expect(after.pages.map(({ lo, hi, entries }) => ({ lo, hi, entries }))).toEqual(
      before.map(({ lo, hi, entries }) => ({ lo, hi, entries })),
    )
    expect(after.pages.every(({ epoch }) => epoch === 2)).toBe(true)
    expect(new Set([...before, ...after.pages].map(({ pageId: id }) => id.join())).size).toBe(6)
  })

  test('drops what is dead, loose or in a page', () => {
    const before = plan({ keys: oldKeys, loose: [loose(1), loose(2), loose(3)] }).pages
    const { pages, absorbed } = plan({
      pages: opened(oldKeys, before),
      loose: [loose(4), loose(5)],
      dead: encodePairs([loose(2), loose(5), loose(99)]),
    })
    expect(content(opened(newKeys, pages))).toEqual(contentOf([loose(1), loose(3), loose(4)]))
    expect(absorbed).toEqual(encodePairs([loose(4), loose(5)]))
  })

  test('whose DEKs are all dead is one empty page', () => {
    const { pages } = plan({ loose: [loose(1)], dead: encodePairs([loose(1)]) })
    expect(pages.map(({ lo, hi, entries, sealed }) => ({ lo, hi, entries, sealed }))).toEqual([
      { ...everything, entries: none, sealed: none },
    ])
  })

  test('lets a loose DEK replace the one a page has: that is how a bad page is healed', () => {
    const before = plan({ keys: oldKeys, loose: [loose(1), loose(2)] }).pages
    const healed = { ...loose(2), headerHash: filled(32, 77), dek: dekOf(77) }
    const { pages } = plan({ pages: opened(oldKeys, before), loose: [healed] })
    expect(content(opened(newKeys, pages))).toEqual(contentOf([loose(1), healed]))
  })

  test('drops a page that does not open, and says which DEKs that loses', () => {
    const before = plan({ keys: oldKeys, loose: [loose(1), loose(2), loose(3)] }).pages
    const closed = before.map(({ lo, hi, pageId: id, entries }) => ({ lo, hi, pageId: id, entries, deks: null }))
    const { pages, unopenable } = plan({ pages: closed, loose: [loose(3), loose(4)], dead: encodePairs([loose(2)]) })
    expect(content(opened(newKeys, pages))).toEqual(contentOf([loose(3), loose(4)]))
    expect(unopenable).toEqual(encodePairs([loose(1)]))
  })

  test('refuses pages that are not one range, and DEKs outside it or given twice', async () => {
    const before = opened(oldKeys, plan({ keys: oldKeys, loose: Array.from({ length: 600 }, (_, index) => loose(index)) }).pages)
    const [first, second, third] = before
    if (first === undefined || second === undefined || third === undefined) throw new Error('three pages')
    expect(await failureOf(() => plan({ pages: [first, third] }))).toBe('malformed')
    expect(await failureOf(() => plan({ pages: [second, first] }))).toBe('malformed')
    expect(await failureOf(() => plan({ pages: [{ ...first, entries: second.entries }] }))).toBe('malformed')
    const outside = Array.from({ length: 200 }, (_, index) => loose(index)).find(
      (dek) => pairKey(dek) > pairKey(decodeEntries(third.entries)[0] ?? dek),
    )
    if (outside === undefined) throw new Error('one of them lies in the third page')
    expect(await failureOf(() => plan({ pages: [first, second], loose: [outside] }))).toBe('malformed')
    expect(await failureOf(() => plan({ loose: [loose(1), loose(1)] }))).toBe('malformed')
    expect(() => plan({ pages: [] })).toThrow(TypeError)
  })

  test('keeps every live DEK exactly once, obeys the set rule, covers the range and mutates nothing', () => {
    const dek = fc
      .record({ seed: fc.nat(700), generation: fc.integer({ min: 1, max: 3 }) })
      .map(({ seed, generation }) => loose(seed, generation))
    const distinct = fc.uniqueArray(dek, { selector: pairKey, maxLength: 700, size: 'max' })
    fc.assert(
      fc.property(distinct, distinct, fc.array(dek, { maxLength: 60 }), (paged, alone, dead) => {
        const before = opened(oldKeys, plan({ keys: oldKeys, loose: paged }).pages)
        const input = { pages: before, loose: alone, dead: encodePairs(dead) }
        const copy = structuredClone(input)
        const after = plan(input)
        expect(input).toEqual(copy)

        const gone = new Set(dead.map((pair: Pair) => pairKey(pair)))
        const live = new Map([...contentOf(paged), ...contentOf(alone)].filter(([key]) => !gone.has(key)))
        expect(content(opened(newKeys, after.pages))).toEqual(live)

        checkPartition(after.pages, everything)
        const { onlyInOld, onlyInNew } = entriesOnlyInOne(
          [...before.map(({ entries }) => entries), encodeEntries(alone.map(entryOf))],
          after.pages.map(({ entries }) => entries),
        )
        expect(onlyInNew.length).toBe(0)
        for (const entry of onlyInOld.length === 0 ? [] : decodeRun(onlyInOld)) expect(gone.has(entry)).toBe(true)
      }),
      { numRuns: 25 },
    )
  })
})

/** Keys of packed entries, more than a page of them perhaps. */
function decodeRun(run: Uint8Array): string[] {
  return Array.from({ length: run.length / 52 }, (_, index) =>
    Buffer.from(run.subarray(index * 52, index * 52 + encodePair(loose(1)).length)).toString('hex'),
  )
}
