import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { compareBytes, concat } from '../../../shared/bytes.ts'
import { PAGE_DEKS_MAX } from '../../../shared/limits.ts'
import type { PageEntry, Pair } from '../../../shared/objects/page.ts'
import {
  checkEntries,
  decodeEntries,
  decodePairs,
  encodeEntries,
  encodePair,
  encodePairs,
  ENTRY_BYTES,
  findEntry,
  PAIR_BYTES,
  vouchedIndex,
} from '../../../shared/objects/page.ts'
import { checkPartition, entriesOnlyInOne, mergeRuns, planPages } from '../../../shared/objects/page-range.ts'
import { alice, failureOf, filled, headerOf, objectId, signedBy } from './fixtures.ts'

const entry = (seed: number, generation = 1): PageEntry => ({
  object: objectId(seed),
  generation,
  headerHash: filled(32, seed * 7 + generation),
})
const many = (count: number, from = 0): PageEntry[] => Array.from({ length: count }, (_, index) => entry(from + index))
/** Few objects and generations, so that collisions are frequent. */
const arbitraryEntry: fc.Arbitrary<PageEntry> = fc
  .record({ seed: fc.nat(40), generation: fc.integer({ min: 1, max: 3 }), hash: fc.nat(1) })
  .map(({ seed, generation, hash }) => ({ object: objectId(seed), generation, headerHash: filled(32, hash + 1) }))
const pairText = ({ object, generation }: Pair): string => encodePair({ object, generation }).join()
const arbitraryEntries = fc.uniqueArray(arbitraryEntry, { selector: pairText, maxLength: 60 })
const everything = { lo: new Uint8Array(0), hi: null }

describe('packed entries', () => {
  test('decode to what was encoded, in order', () => {
    const entries = [entry(3), entry(1, 2), entry(1, 1), entry(2)]
    const decoded = decodeEntries(encodeEntries(entries))
    expect(decoded).toEqual(entries.toSorted((left, right) => compareBytes(encodePair(left), encodePair(right))))
    expect(encodeEntries(decoded)).toEqual(encodeEntries(entries))
    expect(decodeEntries(new Uint8Array(0))).toEqual([])
  })

  test('order generations as numbers', () => {
    const generations = [1, 2, 255, 256, 65_536, 0xffff_ffff]
    const packed = encodeEntries(generations.toReversed().map((generation) => entry(1, generation)))
    expect(decodeEntries(packed).map(({ generation }) => generation)).toEqual(generations)
  })

  test('are read from inside a larger array', () => {
    const packed = encodeEntries(many(3))
    const inside = concat(filled(5), packed, filled(5)).subarray(5, 5 + packed.length)
    expect(decodeEntries(inside)).toEqual(decodeEntries(packed))
  })

  test('of one DEK twice are refused', async () => {
    expect(() => encodeEntries([entry(1), entry(1)])).toThrow(TypeError)
    const packed = encodeEntries([entry(1)])
    expect(await failureOf(() => decodeEntries(concat(packed, packed)))).toBe('malformed')
  })

  test('out of order, cut or with a trailing byte are refused', async () => {
    const packed = encodeEntries(many(2))
    expect(await failureOf(() => decodeEntries(concat(packed.subarray(ENTRY_BYTES), packed.subarray(0, ENTRY_BYTES))))).toBe('malformed')
    expect(await failureOf(() => decodeEntries(packed.subarray(0, -1)))).toBe('malformed')
    expect(await failureOf(() => decodeEntries(concat(packed, Uint8Array.of(0))))).toBe('malformed')
  })

  test('are at most a page', async () => {
    expect(checkEntries(encodeEntries(many(PAGE_DEKS_MAX)))).toBe(PAGE_DEKS_MAX)
    expect(await failureOf(() => checkEntries(encodeEntries(many(PAGE_DEKS_MAX + 1))))).toBe('limit_exceeded')
  })

  test('have generations from 1 and header hashes of 32 bytes', () => {
    for (const generation of [0, -1, 1.5, 2 ** 32]) expect(() => encodePair({ object: objectId(1), generation })).toThrow(RangeError)
    expect(() => encodeEntries([{ ...entry(1), headerHash: new Uint8Array(31) }])).toThrow(TypeError)
  })

  test('are found, and nothing else is', () => {
    fc.assert(
      fc.property(arbitraryEntries, arbitraryEntry, (entries, wanted) => {
        const packed = encodeEntries(entries)
        const index = decodeEntries(packed).findIndex((candidate) => pairText(candidate) === pairText(wanted))
        expect(findEntry(packed, wanted.object, wanted.generation)).toBe(index < 0 ? null : index)
      }),
    )
  })

  test('vouch for exactly the header they name', async () => {
    const signed = await signedBy(alice, headerOf())
    const sound = { object: signed.header.object, generation: 1, headerHash: signed.hash }
    expect(vouchedIndex(encodeEntries([sound, entry(2)]), signed)).toBe(findEntry(encodeEntries([sound, entry(2)]), sound.object, 1))
    expect(await failureOf(() => vouchedIndex(encodeEntries([{ ...sound, headerHash: filled(32) }]), signed))).toBe('page_invalid')
    expect(await failureOf(() => vouchedIndex(encodeEntries([{ ...sound, generation: 2 }]), signed))).toBe('page_invalid')
    expect(await failureOf(() => vouchedIndex(new Uint8Array(0), signed))).toBe('page_invalid')
  })
})

describe('packed pairs', () => {
  test('are sorted, each once, and decode to the same', () => {
    const pairs = [entry(2), entry(1, 2), entry(2), entry(1)].map(({ object, generation }) => ({ object, generation }))
    const packed = encodePairs(pairs)
    expect(packed.length).toBe(3 * PAIR_BYTES)
    expect(encodePairs(decodePairs(packed))).toEqual(packed)
  })

  test('that are cut, doubled or out of order are refused', async () => {
    const packed = encodePairs([entry(1), entry(2)])
    for (const wrong of [packed.subarray(1), concat(packed, packed), concat(packed.subarray(PAIR_BYTES), packed.subarray(0, PAIR_BYTES))]) {
      expect(await failureOf(() => decodePairs(wrong))).toBe('malformed')
    }
  })
})

describe('pages of a range', () => {
  test.each([0, 1, 255, 256, 257, 512, 513, 1000])('hold %i entries, evenly, and cover exactly the range', (count) => {
    const packed = encodeEntries(many(count))
    const plans = planPages(packed, everything)
    expect(plans.length).toBe(Math.max(1, Math.ceil(count / PAGE_DEKS_MAX)))
    const sizes = plans.map(({ from, to }) => to - from)
    expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1)
    const pages = plans.map(({ lo, hi, from, to }) => ({ lo, hi, entries: packed.subarray(from * ENTRY_BYTES, to * ENTRY_BYTES) }))
    expect(() => checkPartition(pages, everything)).not.toThrow()
    expect(concat(...pages.map(({ entries }) => entries))).toEqual(packed)
  })

  test('keep the outer bounds they are given', () => {
    const packed = encodeEntries(many(600))
    const range = { lo: new Uint8Array(16), hi: new Uint8Array(16).fill(255) }
    const plans = planPages(packed, range)
    expect(plans[0]?.lo).toEqual(range.lo)
    expect(plans.at(-1)?.hi).toEqual(range.hi)
  })

  test('never part the generations of one object', async () => {
    const entries = [...many(200), ...Array.from({ length: 200 }, (_, index) => entry(500, index + 1)), ...many(200, 1000)]
    const packed = encodeEntries(entries)
    const plans = planPages(packed, everything)
    const pages = plans.map(({ lo, hi, from, to }) => ({ lo, hi, entries: packed.subarray(from * ENTRY_BYTES, to * ENTRY_BYTES) }))
    checkPartition(pages, everything)
    expect(
      pages.filter(({ entries: part }) => decodeEntries(part).some(({ object }) => compareBytes(object, objectId(500)) === 0)).length,
    ).toBe(1)
    const tooMany = encodeEntries(Array.from({ length: 257 }, (_, index) => entry(500, index + 1)))
    expect(await failureOf(() => planPages(tooMany, everything))).toBe('limit_exceeded')
  })

  test('of any content cover the range', () => {
    fc.assert(
      fc.property(fc.nat(700), fc.integer({ min: 1, max: 90 }), (count, generations) => {
        const packed = encodeEntries(
          Array.from({ length: count }, (_, index) => entry(Math.floor(index / generations), (index % generations) + 1)),
        )
        const pages = planPages(packed, everything).map(({ lo, hi, from, to }) => ({
          lo,
          hi,
          entries: packed.subarray(from * ENTRY_BYTES, to * ENTRY_BYTES),
        }))
        checkPartition(pages, everything)
        expect(concat(...pages.map(({ entries }) => entries))).toEqual(packed)
      }),
      { numRuns: 60 },
    )
  })

  test('with a gap, an overlap, other outer bounds or a stray entry are refused', async () => {
    const packed = encodeEntries(many(300))
    const [left, right] = planPages(packed, everything).map(({ lo, hi, from, to }) => ({
      lo,
      hi,
      entries: packed.subarray(from * ENTRY_BYTES, to * ENTRY_BYTES),
    }))
    if (left === undefined || right === undefined) throw new Error('two pages')
    const wrong = [
      [],
      [left],
      [right],
      [right, left],
      [left, left, right],
      [{ ...left, entries: right.entries }, right],
      [left, { ...right, entries: left.entries }],
      [left, { ...right, lo: new Uint8Array(16) }],
      [{ ...left, hi: new Uint8Array(16).fill(254) }, right],
      [left, { ...right, hi: new Uint8Array(16).fill(254) }],
      [{ ...left, lo: new Uint8Array(16) }, right],
      [{ ...left, hi: left.lo, entries: new Uint8Array(0) }, left, right],
      [left, right, right],
    ]
    for (const pages of wrong) expect(await failureOf(() => checkPartition(pages, everything))).toBe('malformed')
  })
})

describe('the difference of two sides', () => {
  const runs = fc.array(arbitraryEntries.map(encodeEntries), { maxLength: 4 })
  const minus = (left: ReadonlySet<string>, right: ReadonlySet<string>): Set<string> =>
    new Set([...left].filter((record) => !right.has(record)))
  const records = (bytes: Uint8Array): string[] =>
    Array.from({ length: bytes.length / ENTRY_BYTES }, (_, index) => bytes.subarray(index * ENTRY_BYTES, (index + 1) * ENTRY_BYTES).join())

  test('is what sets of whole entries give', () => {
    fc.assert(
      fc.property(runs, runs, (left, right) => {
        const [leftSet, rightSet] = [new Set(left.flatMap(records)), new Set(right.flatMap(records))]
        const { onlyInOld, onlyInNew } = entriesOnlyInOne(left, right)
        expect(new Set(records(onlyInOld))).toEqual(minus(leftSet, rightSet))
        expect(new Set(records(onlyInNew))).toEqual(minus(rightSet, leftSet))
        expect(records(onlyInOld).length).toBe(minus(leftSet, rightSet).size)
        expect(records(mergeRuns(left))).toEqual(records(mergeRuns(left)).toSorted((a, b) => compareBytes(numbers(a), numbers(b))))
      }),
      { numRuns: 200 },
    )
  })

  test('of the same entries cut into other pages is nothing', () => {
    const entries = many(1000)
    const packed = encodeEntries(entries)
    const thirds = [0, 333, 666].map((from) => packed.subarray(from * ENTRY_BYTES, (from + (from === 666 ? 334 : 333)) * ENTRY_BYTES))
    expect(entriesOnlyInOne(thirds, [packed])).toEqual({ onlyInOld: new Uint8Array(0), onlyInNew: new Uint8Array(0) })
  })

  test('shows an entry whose header hash was changed on both sides', () => {
    const changed = { ...entry(1), headerHash: filled(32, 999) }
    const { onlyInOld, onlyInNew } = entriesOnlyInOne([encodeEntries([entry(1), entry(2)])], [encodeEntries([changed, entry(2)])])
    expect(decodeEntries(onlyInOld)).toEqual([entry(1)])
    expect(decodeEntries(onlyInNew)).toEqual([changed])
  })

  test('counts an entry that is loose and in a page once', () => {
    const { onlyInOld, onlyInNew } = entriesOnlyInOne([encodeEntries(many(5)), encodeEntries([entry(2)])], [encodeEntries(many(5))])
    expect(onlyInOld.length + onlyInNew.length).toBe(0)
  })
})

const numbers = (text: string): Uint8Array => Uint8Array.from(text.split(','), Number)
