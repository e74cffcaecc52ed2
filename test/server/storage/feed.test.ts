/** The feed: one order of commits and headers, in bounded pages that join. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { WriteCombiner } from '../../../server/storage/combiner.ts'
import type { Database } from '../../../server/storage/database.ts'
import { openDatabase } from '../../../server/storage/database.ts'
import type { FeedPage, FeedRequest } from '../../../server/storage/feed.ts'
import { readFeed } from '../../../server/storage/feed.ts'
import { writeObjects } from '../../../server/storage/writes.ts'
import type { GroupId } from '../../../shared/ids.ts'
import type { FreshDatabase } from '../../support/postgres.ts'
import { freshDatabase } from '../../support/postgres.ts'
import { commitNext, newGroup, newGroupId, newItem, newTombstone } from '../../support/storage-group.ts'

let fresh: FreshDatabase
let database: Database

beforeAll(async () => {
  fresh = await freshDatabase()
  database = openDatabase(fresh.url)
})

afterAll(async () => {
  await database.close()
  await fresh.drop()
})

async function feedOf(group: GroupId, request: Partial<FeedRequest> = {}): Promise<FeedPage> {
  const page = await readFeed(database, group, { cursor: 0, seq: -1, ...request })
  if (page === null) throw new Error('no such group')
  return page
}

const summary = ({ items }: FeedPage): string[] => items.map((item) => `${item.change} ${item.kind}`)

test('commits and headers come in the order of their changes', async () => {
  const { group } = await newGroup(database)
  const [first, second] = [newItem(), newItem()]
  await writeObjects(database, { group, seq: 0, epoch: 0, items: [first] })
  await commitNext(database, group)
  await writeObjects(database, { group, seq: 1, epoch: 0, items: [second] })
  const page = await feedOf(group)
  expect(summary(page)).toEqual(['1 commit', '2 header', '3 commit', '4 header'])
  expect(page).toMatchObject({ from: 0, to: 4, change: 4, seq: 1 })
  expect(page.items[1]).toMatchObject({ object: new Uint8Array(first.object), header: new Uint8Array(first.header) })
})

test('an overwritten version has vanished, a tombstone has not', async () => {
  const { group } = await newGroup(database)
  const { object } = newItem()
  for (const item of [newItem({ object }), newItem(), newTombstone(object, 1)])
    await writeObjects(database, { group, seq: 0, epoch: 0, items: [item] })
  expect(summary(await feedOf(group))).toEqual(['1 commit', '3 header', '4 header'])
  expect(summary(await feedOf(group, { cursor: 3 }))).toEqual(['4 header'])
})

test('known commits are left out, whatever the cursor', async () => {
  const { group } = await newGroup(database)
  await writeObjects(database, { group, seq: 0, epoch: 0, items: [newItem()] })
  await commitNext(database, group)
  expect(summary(await feedOf(group, { seq: 1 }))).toEqual(['2 header'])
  expect(summary(await feedOf(group, { seq: 0 }))).toEqual(['2 header', '3 commit'])
})

test('pages are bounded by items and bytes, always have one, and join without gap', async () => {
  const { group } = await newGroup(database)
  for (let round = 0; round < 5; round += 1) {
    await writeObjects(database, { group, seq: round, epoch: 0, items: Array.from({ length: 4 }, () => newItem()) })
    await commitNext(database, group)
  }
  for (const bounds of [{ itemsMax: 1 }, { itemsMax: 3 }, { bytesMax: 700 }, { bytesMax: 1 }, { itemsMax: 7, bytesMax: 2000 }]) {
    const items: number[] = []
    let cursor = 0
    for (let page = await feedOf(group, bounds); ; page = await feedOf(group, { ...bounds, cursor })) {
      expect(page.from).toBe(cursor)
      expect(page.items.length).toBeLessThanOrEqual(bounds.itemsMax ?? Number.POSITIVE_INFINITY)
      items.push(...page.items.map(({ change }) => change))
      cursor = page.to
      if (page.to === page.change) break
    }
    expect(items).toEqual(Array.from({ length: 26 }, (_, index) => index + 1))
  }
})

test('a page at the end is empty and keeps the cursor', async () => {
  const { group } = await newGroup(database)
  expect(await feedOf(group, { cursor: 1, seq: 0 })).toMatchObject({ from: 1, to: 1, change: 1, items: [] })
  expect(await readFeed(database, newGroupId(), { cursor: 0, seq: -1 })).toBeNull()
})

test('a reader beside ten writers in two processes sees every change once, in order', async () => {
  const { group } = await newGroup(database)
  const second = openDatabase(fresh.url)
  const combiners = [new WriteCombiner(database), new WriteCombiner(second)]
  let isWriting = true
  const writing = Promise.all(
    Array.from({ length: 10 }, async (_, writer) => {
      for (let count = 0; count < 50; count += 1) await combiners[writer % 2]?.write({ group, seq: 0, epoch: 0, items: [newItem()] })
    }),
  ).then(() => (isWriting = false))
  const seen: number[] = []
  let cursor = 1
  while (isWriting || seen.length < 500) {
    const page = await feedOf(group, { cursor, seq: 0, itemsMax: 20 })
    seen.push(...page.items.map(({ change }) => change))
    cursor = page.to
  }
  await writing
  await second.close()
  expect(seen).toEqual(Array.from({ length: 500 }, (_, index) => index + 2))
})
