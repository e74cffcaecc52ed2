/** Key pages: ranges, replacement, the set rule, unopenable DEKs, reseals and fallbacks. */
import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Database } from '../../../server/storage/database.ts'
import { openDatabase } from '../../../server/storage/database.ts'
import { readObjects } from '../../../server/storage/objects.ts'
import type { PageRange } from '../../../server/storage/page-ranges.ts'
import { readRange } from '../../../server/storage/page-ranges.ts'
import { replacePages } from '../../../server/storage/page-replace.ts'
import { readFallbackDeks, resealDek } from '../../../server/storage/reseals.ts'
import { readRewrapProgress, readRewrapStatus, startRewrap } from '../../../server/storage/rewrap-jobs.ts'
import { expireSuperseded } from '../../../server/storage/superseded.ts'
import { readUnopenable, reportUnopenable } from '../../../server/storage/unopenable.ts'
import type { WriteItem } from '../../../server/storage/writes.ts'
import { writeObjects } from '../../../server/storage/writes.ts'
import { compareBytes } from '../../../shared/bytes.ts'
import type { GroupId, IdentityId } from '../../../shared/ids.ts'
import { encodePairs, ENTRY_BYTES } from '../../../shared/objects/page.ts'
import type { FreshDatabase } from '../../support/postgres.ts'
import { freshDatabase } from '../../support/postgres.ts'
import { commitNext, newGroup, newGroupId, newItem, newObjectId, newPageId, newTombstone } from '../../support/storage-group.ts'
import { findViolations, readGroupRows } from '../../support/storage-invariants.ts'
import { absorbAll, liveEntries, replaceWith } from '../../support/storage-pages.ts'

let fresh: FreshDatabase
let database: Database
const START: Uint8Array = new Uint8Array(0)

beforeAll(async () => {
  fresh = await freshDatabase()
  database = openDatabase(fresh.url)
})

afterAll(async () => {
  await database.close()
  await fresh.drop()
})

async function rangeOf(group: GroupId, { lo = START, pagesMax = 64, looseMax = 16_384, dead = true } = {}): Promise<PageRange> {
  const range = await readRange(database, group, { lo, pagesMax, looseMax, dead })
  if (range === null) throw new Error('no such group')
  return range
}

/** A group with `count` objects in order of their ids, all loose. */
async function groupWith(count: number): Promise<{ group: GroupId; alice: IdentityId; items: WriteItem[] }> {
  const { group, alice } = await newGroup(database)
  const items = Array.from({ length: count }, () => newItem()).sort((left, right) => compareBytes(left.object, right.object))
  for (let from = 0; from < count; from += 500)
    await writeObjects(database, { group, seq: 0, epoch: 0, items: items.slice(from, from + 500) })
  return { group, alice, items }
}

const itemAt = (items: readonly WriteItem[], index: number): WriteItem => items[index] ?? newItem()

async function expectSound(group: GroupId, mayBeShadowed = (): boolean => false): Promise<void> {
  expect(findViolations(await readGroupRows(database, group), mayBeShadowed)).toEqual([])
}

describe('a range', () => {
  test('of a fresh group is its one empty page with all loose DEKs', async () => {
    const { group, items } = await groupWith(5)
    const range = await rangeOf(group)
    expect(range.pages).toHaveLength(1)
    expect(range.loose.map(({ object }) => object)).toEqual(items.map(({ object }) => new Uint8Array(object)))
    expect(range.loose.map(({ headerHash }) => headerHash)).toEqual(items.map(({ headerHash }) => headerHash))
    expect(range.next).toBeNull()
  })

  test('that has more loose DEKs than asked for ends at the next one', async () => {
    const { group, items } = await groupWith(10)
    const range = await rangeOf(group, { looseMax: 4 })
    expect(range.loose).toHaveLength(4)
    expect(range.next).toEqual(new Uint8Array(itemAt(items, 4).object))
    await replacePages(database, absorbAll(group, range))
    const rest = await rangeOf(group, { lo: range.next ?? START })
    expect(rest.loose).toHaveLength(6)
    await expectSound(group)
  })

  test('starts with the page that holds the asked id', async () => {
    const { group, items } = await groupWith(600)
    await replacePages(database, absorbAll(group, await rangeOf(group)))
    const { pages } = await rangeOf(group)
    expect(pages.map(({ entries }) => entries.length / ENTRY_BYTES)).toEqual([200, 200, 200])
    const range = await rangeOf(group, { lo: itemAt(items, 250).object, pagesMax: 1 })
    expect(range.pages).toEqual([pages[1]])
    expect(range.next).toEqual(pages[2]?.lo)
    expect((await rangeOf(group, { lo: new Uint8Array(16).fill(255) })).pages).toEqual([pages[2]])
  })

  test('tells which entries and loose seals are dead', async () => {
    const { group, items } = await groupWith(6)
    await replacePages(database, absorbAll(group, await rangeOf(group)))
    const write = (item: WriteItem) => writeObjects(database, { group, seq: 0, epoch: 0, items: [item] })
    await write(newItem({ object: itemAt(items, 1).object, expected: 1 }))
    await write(newTombstone(itemAt(items, 3).object, 1))
    const expected = [1, 3].map((index) => ({ object: itemAt(items, index).object, generation: 1 }))
    expect((await rangeOf(group)).dead).toEqual(encodePairs(expected))
    expect((await rangeOf(group, { dead: false })).dead).toHaveLength(0)
  })

  test('of an unknown group is null', async () => {
    expect(await readRange(database, newGroupId(), { lo: START, pagesMax: 1, dead: true })).toBeNull()
  })
})

describe('a replacement', () => {
  test('moves loose DEKs into pages, and readers find them there', async () => {
    const { group, items } = await groupWith(300)
    await replacePages(database, absorbAll(group, await rangeOf(group)))
    await expectSound(group)
    const read = await readObjects(database, group, { objects: items.map(({ object }) => object) })
    const kinds = read?.objects.map((object) => object?.dek?.kind) ?? []
    expect(kinds.filter((kind) => kind === 'page')).toHaveLength(2)
    expect(kinds.filter((kind) => kind === 'known')).toHaveLength(298)
  })

  test('to a new epoch moves pages whole', async () => {
    const { group } = await groupWith(600)
    await replacePages(database, absorbAll(group, await rangeOf(group)))
    await commitNext(database, group, { opens: true })
    await replacePages(database, absorbAll(group, await rangeOf(group)))
    const range = await rangeOf(group)
    expect(range.pages.map(({ epoch }) => epoch)).toEqual([1, 1, 1])
    await expectSound(group)
  })

  test('of pages that are not there any more is a conflict, and changes nothing', async () => {
    const { group } = await groupWith(3)
    const range = await rangeOf(group)
    await replacePages(database, absorbAll(group, range))
    await expect(replacePages(database, absorbAll(group, range))).rejects.toMatchObject({ code: 'page_conflict' })
    await expectSound(group)
  })

  test('of pages that are not a contiguous run is a conflict', async () => {
    const { group } = await groupWith(600)
    await replacePages(database, absorbAll(group, await rangeOf(group)))
    const range = await rangeOf(group)
    const [first, , third] = absorbAll(group, range).replaced
    if (first === undefined || third === undefined) throw new Error('three pages are expected')
    await expect(replacePages(database, { ...absorbAll(group, range), replaced: [first, third] })).rejects.toMatchObject({
      code: 'page_conflict',
    })
  })

  test('keeps the outer bounds', async () => {
    const { group, items } = await groupWith(4)
    const range = await rangeOf(group)
    const honest = absorbAll(group, range)
    const narrower = honest.pages.map((page) => ({ ...page, hi: new Uint8Array(16).fill(255) }))
    await expect(replacePages(database, { ...honest, pages: narrower })).rejects.toMatchObject({ code: 'malformed' })
    const gap = [
      { ...itemPage(range, itemAt(items, 1).object), lo: START },
      { ...itemPage(range, null), lo: itemAt(items, 2).object },
    ]
    expect(() => replacePages(database, { ...honest, absorbed: START, pages: gap })).toThrow(expect.objectContaining({ code: 'malformed' }))
  })

  test('has fresh page ids, the current epoch, and a seal of the length of its entries', async () => {
    const { group } = await groupWith(2)
    const honest = absorbAll(group, await rangeOf(group))
    const malformed = expect.objectContaining({ code: 'malformed' })
    const old = honest.replaced[0]?.pageId ?? newPageId()
    for (const change of [{ pageId: old }, { epoch: 1 }, { sealed: randomBytes(100) }]) {
      const pages = honest.pages.map((page) => ({ ...page, ...change }))
      expect(() => replacePages(database, { ...honest, pages })).toThrow(malformed)
    }
    expect(() => replacePages(database, { ...honest, absorbed: randomBytes(19) })).toThrow(malformed)
  })

  test('judged at an older head is refused', async () => {
    const { group } = await groupWith(2)
    const range = await rangeOf(group)
    await commitNext(database, group)
    await expect(replacePages(database, absorbAll(group, range))).rejects.toMatchObject({ code: 'stale_head' })
  })
})

const itemPage = (range: PageRange, hi: Uint8Array | null) => ({
  lo: START,
  hi,
  pageId: newPageId(),
  epoch: range.epoch,
  entries: START,
  sealed: START,
})

describe('the set rule', () => {
  test('refuses to lose a live entry of a page', async () => {
    const { group } = await groupWith(4)
    await replacePages(database, absorbAll(group, await rangeOf(group)))
    const range = await rangeOf(group)
    await expect(replacePages(database, replaceWith(group, range, liveEntries(range).slice(1)))).rejects.toMatchObject({ code: 'set_rule' })
    await expectSound(group)
  })

  test('refuses to lose a loose DEK', async () => {
    const { group } = await groupWith(4)
    const range = await rangeOf(group)
    await expect(replacePages(database, replaceWith(group, range, liveEntries(range).slice(1)))).rejects.toMatchObject({ code: 'set_rule' })
    expect((await rangeOf(group)).loose).toHaveLength(4)
  })

  test('refuses an entry whose loose seal stays', async () => {
    const { group } = await groupWith(4)
    const range = await rangeOf(group)
    const doubling = { ...absorbAll(group, range), absorbed: encodePairs(range.loose.slice(1)) }
    await expect(replacePages(database, doubling)).rejects.toMatchObject({ code: 'set_rule' })
  })

  test('refuses entries of generations and objects that do not exist yet', async () => {
    const { group, items } = await groupWith(2)
    const range = await rangeOf(group)
    const headerHash = randomBytes(32)
    for (const invented of [
      { object: newObjectId(), generation: 1, headerHash },
      { object: itemAt(items, 0).object, generation: 2, headerHash },
    ]) {
      await expect(replacePages(database, replaceWith(group, range, [...liveEntries(range), invented]))).rejects.toMatchObject({
        code: 'set_rule',
      })
    }
  })

  test('refuses an entry that vouches for another header', async () => {
    const { group } = await groupWith(2)
    const range = await rangeOf(group)
    const [first, ...others] = liveEntries(range)
    if (first === undefined) throw new Error('an entry is expected')
    const forged = [{ ...first, headerHash: randomBytes(32) }, ...others]
    await expect(replacePages(database, replaceWith(group, range, forged))).rejects.toMatchObject({ code: 'set_rule' })
    await replacePages(database, absorbAll(group, range))
    await expect(replacePages(database, replaceWith(group, await rangeOf(group), forged))).rejects.toMatchObject({ code: 'set_rule' })
  })

  test('lets dead entries go, and stay', async () => {
    const { group, items } = await groupWith(3)
    await replacePages(database, absorbAll(group, await rangeOf(group)))
    await writeObjects(database, { group, seq: 0, epoch: 0, items: [newItem({ object: itemAt(items, 0).object, expected: 1 })] })
    await replacePages(database, absorbAll(group, await rangeOf(group, { dead: false })))
    expect((await rangeOf(group)).dead).toHaveLength(20)
    await replacePages(database, absorbAll(group, await rangeOf(group)))
    expect((await rangeOf(group)).dead).toHaveLength(0)
    await expectSound(group)
  })

  test('allows for a write between reading the range and replacing it', async () => {
    const { group, items } = await groupWith(3)
    const range = await rangeOf(group)
    await writeObjects(database, { group, seq: 0, epoch: 0, items: [newItem({ object: itemAt(items, 0).object, expected: 1 })] })
    await replacePages(database, absorbAll(group, range))
    const after = await rangeOf(group)
    expect(after.loose.map(({ generation }) => generation)).toEqual([2])
    await expectSound(group)
  })
})

describe('a rewrap job', () => {
  test('counts once what is under older epochs, and is done when all of it is moved', async () => {
    const { group } = await groupWith(20)
    await replacePages(database, absorbAll(group, await rangeOf(group, { looseMax: 5 })))
    await commitNext(database, group, { opens: true })
    const [alice, bob] = [randomBytes(16), randomBytes(16)]
    const asked = { group, epoch: 1, seq: 1 }
    expect(await startRewrap(database, { ...asked, owner: alice })).toEqual({ epoch: 1, total: 20, done: 0, leased: true })
    expect(await startRewrap(database, { ...asked, owner: bob })).toMatchObject({ leased: false })
    const range = await rangeOf(group, { looseMax: 10 })
    expect(await replacePages(database, { ...absorbAll(group, range), leaseOwner: alice })).toEqual({ epoch: 1, total: 20, done: 15 })
    expect(await readRewrapStatus(database, group)).toMatchObject({
      epoch: 1,
      oldestSealed: 0,
      oldLoose: 5,
      oldPages: 0,
      loose: 5,
      deadInPages: 0,
    })
    await replacePages(database, absorbAll(group, await rangeOf(group)))
    expect(await readRewrapProgress(database, group, 1)).toEqual({ epoch: 1, total: 20, done: 20 })
    expect(await readRewrapStatus(database, group)).toMatchObject({ oldestSealed: 1, oldLoose: 0, oldPages: 0, loose: 0 })
  })

  test('that writes have finished is done too', async () => {
    const { group, items } = await groupWith(1)
    await commitNext(database, group, { opens: true })
    await startRewrap(database, { group, epoch: 1, seq: 1, owner: randomBytes(16) })
    await writeObjects(database, { group, seq: 1, epoch: 1, items: [newItem({ object: itemAt(items, 0).object, expected: 1 })] })
    await readRewrapStatus(database, group)
    expect(await readRewrapProgress(database, group, 1)).toEqual({ epoch: 1, total: 1, done: 1 })
  })

  test('is of the current epoch', async () => {
    const { group } = await groupWith(0)
    const stale = startRewrap(database, { group, epoch: 1, seq: 0, owner: randomBytes(16) })
    await expect(stale).rejects.toMatchObject({ code: 'stale_epoch' })
  })
})

describe('an unopenable DEK', () => {
  test('that is loose moves into the list, and no longer blocks retiring', async () => {
    const { group, alice, items } = await groupWith(2)
    await commitNext(database, group, { opens: true })
    const dek = { object: itemAt(items, 0).object, generation: 1 }
    const report = { group, epoch: 1, seq: 1, reportedBy: alice, deks: [dek] }
    expect(await reportUnopenable(database, report)).toHaveLength(1)
    expect(await reportUnopenable(database, report)).toHaveLength(0)
    expect(await readUnopenable(database, group, 10)).toHaveLength(1)
    expect((await readObjects(database, group, { objects: [dek.object] }))?.objects[0]?.dek).toBeNull()
    expect(await readFallbackDeks(database, group, dek)).toMatchObject([{ kind: 'loose', epoch: 0 }])
    await replacePages(database, absorbAll(group, await rangeOf(group)))
    await commitNext(database, group, { retireThrough: 0 })
    expect(await readFallbackDeks(database, group, dek)).toEqual([])
    await expectSound(group)
  })

  test('in a page stays readable until the page is replaced, which may then drop it', async () => {
    const { group, alice, items } = await groupWith(3)
    await replacePages(database, absorbAll(group, await rangeOf(group)))
    const [first, second] = [itemAt(items, 0), itemAt(items, 1)]
    await reportUnopenable(database, { group, epoch: 0, seq: 0, reportedBy: alice, deks: [{ object: first.object, generation: 1 }] })
    const asked = { objects: [first.object, second.object] }
    expect((await readObjects(database, group, asked))?.objects.map((object) => object?.dek?.kind)).toEqual(['page', 'page'])
    const range = await rangeOf(group)
    const without = liveEntries(range).filter(({ object }) => compareBytes(object, first.object) !== 0)
    await replacePages(database, replaceWith(group, range, without))
    expect((await readObjects(database, group, asked))?.objects.map((object) => object?.dek?.kind)).toEqual([undefined, 'page'])
    const twice = { objects: [first.object, first.object, second.object, second.object] }
    expect((await readObjects(database, group, twice))?.objects.map((object) => object?.dek?.kind)).toEqual([
      undefined,
      undefined,
      'page',
      'known',
    ])
    await expectSound(group)
  })

  test('is healed by the next write of its object', async () => {
    const { group, alice, items } = await groupWith(1)
    const { object } = itemAt(items, 0)
    await reportUnopenable(database, { group, epoch: 0, seq: 0, reportedBy: alice, deks: [{ object, generation: 1 }] })
    await writeObjects(database, { group, seq: 0, epoch: 0, items: [newItem({ object, expected: 1 })] })
    expect(await readUnopenable(database, group, 10)).toEqual([])
    expect((await database.pool.query('select from unopenable_deks where group_id = $1', [group])).rows).toEqual([])
  })

  test('that is dead, or does not exist, is not listed', async () => {
    const { group, alice, items } = await groupWith(1)
    const { object } = itemAt(items, 0)
    const deks = [
      { object, generation: 2 },
      { object: newObjectId(), generation: 1 },
    ]
    expect(await reportUnopenable(database, { group, epoch: 0, seq: 0, reportedBy: alice, deks })).toEqual([])
  })
})

describe('a reseal', () => {
  test('of a DEK in a page is read instead of it, and absorbed by the next replacement', async () => {
    const { group, items } = await groupWith(2)
    await replacePages(database, absorbAll(group, await rangeOf(group)))
    const { object } = itemAt(items, 0)
    const seal = new Uint8Array(randomBytes(72))
    await resealDek(database, { group, object, generation: 1, seal, epoch: 0, seq: 0 })
    expect((await readObjects(database, group, { objects: [object] }))?.objects[0]?.dek).toEqual({ kind: 'loose', epoch: 0, seal })
    await expectSound(group, () => true)
    await replacePages(database, absorbAll(group, await rangeOf(group)))
    await expectSound(group)
  })

  test('allows a page to drop the entry it shadows', async () => {
    const { group, items } = await groupWith(2)
    await replacePages(database, absorbAll(group, await rangeOf(group)))
    const { object } = itemAt(items, 0)
    await resealDek(database, { group, object, generation: 1, seal: randomBytes(72), epoch: 0, seq: 0 })
    const range = await rangeOf(group)
    const others = liveEntries(range).filter((entry) => compareBytes(entry.object, object) !== 0)
    await replacePages(database, { ...replaceWith(group, range, others), absorbed: START })
    await expectSound(group)
  })

  test('that is absorbed may not be dropped as well', async () => {
    const { group, items } = await groupWith(2)
    await replacePages(database, absorbAll(group, await rangeOf(group)))
    const { object } = itemAt(items, 0)
    await resealDek(database, { group, object, generation: 1, seal: randomBytes(72), epoch: 0, seq: 0 })
    const range = await rangeOf(group)
    const others = liveEntries(range).filter((entry) => compareBytes(entry.object, object) !== 0)
    await expect(replacePages(database, replaceWith(group, range, others))).rejects.toMatchObject({ code: 'set_rule' })
  })

  test('keeps the seal it displaces as a fallback', async () => {
    const { group, items } = await groupWith(1)
    const { object, seal: first } = itemAt(items, 0)
    const second = new Uint8Array(randomBytes(72))
    await resealDek(database, { group, object, generation: 1, seal: second, epoch: 0, seq: 0 })
    expect(await readFallbackDeks(database, group, { object, generation: 1 })).toEqual([
      { kind: 'loose', epoch: 0, seal: new Uint8Array(first ?? []) },
    ])
  })

  test('ends a listing, and is only of the live generation at the current head', async () => {
    const { group, alice, items } = await groupWith(1)
    const { object } = itemAt(items, 0)
    await reportUnopenable(database, { group, epoch: 0, seq: 0, reportedBy: alice, deks: [{ object, generation: 1 }] })
    const reseal = { group, object, generation: 1, seal: randomBytes(72), epoch: 0, seq: 0 }
    await resealDek(database, reseal)
    expect(await readUnopenable(database, group, 10)).toEqual([])
    await expect(resealDek(database, { ...reseal, generation: 2 })).rejects.toMatchObject({ code: 'version_conflict' })
    await expect(resealDek(database, { ...reseal, epoch: 1 })).rejects.toMatchObject({ code: 'stale_epoch' })
    await expectSound(group)
  })
})

describe('what was replaced', () => {
  test('stays as a fallback until its epoch is retired', async () => {
    const { group, items } = await groupWith(1)
    const dek = { object: itemAt(items, 0).object, generation: 1 }
    await replacePages(database, absorbAll(group, await rangeOf(group)))
    await commitNext(database, group, { opens: true })
    await replacePages(database, absorbAll(group, await rangeOf(group)))
    expect((await readFallbackDeks(database, group, dek)).map(({ kind, ...rest }) => [kind, 'epoch' in rest ? rest.epoch : null])).toEqual([
      ['page', 1],
      ['loose', 0],
      ['page', 0],
    ])
    await expireSuperseded(database, 0)
    expect(await readFallbackDeks(database, group, dek)).toHaveLength(3)
    await commitNext(database, group, { retireThrough: 0 })
    expect(await readFallbackDeks(database, group, dek)).toHaveLength(1)
  })

  test('by a compaction expires after a day', async () => {
    const { group, items } = await groupWith(1)
    const dek = { object: itemAt(items, 0).object, generation: 1 }
    await replacePages(database, absorbAll(group, await rangeOf(group)))
    await expireSuperseded(database)
    expect((await readFallbackDeks(database, group, dek)).map(({ kind }) => kind).sort()).toEqual(['loose', 'page'])
    await expireSuperseded(database, 0)
    expect((await readFallbackDeks(database, group, dek)).map(({ kind }) => kind)).toEqual(['page'])
  })
})
