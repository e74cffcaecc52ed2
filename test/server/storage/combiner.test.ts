/** The combiner: one transaction in flight for each group, results for each item. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { CommittedWrites } from '../../../server/storage/combiner.ts'
import { WriteCombiner } from '../../../server/storage/combiner.ts'
import type { Database } from '../../../server/storage/database.ts'
import { openDatabase } from '../../../server/storage/database.ts'
import type { WriteItem } from '../../../server/storage/writes.ts'
import { COMBINED_BYTES_MAX, COMBINED_WRITES_MAX } from '../../../shared/limits.ts'
import type { FreshDatabase } from '../../support/postgres.ts'
import { freshDatabase } from '../../support/postgres.ts'
import { commitNext, newGroup, newItem } from '../../support/storage-group.ts'

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

interface Recorded {
  readonly combiner: WriteCombiner
  readonly transactions: CommittedWrites[]
}

function recorded(): Recorded {
  const transactions: CommittedWrites[] = []
  return { transactions, combiner: new WriteCombiner(database, (committed) => transactions.push(committed)) }
}

test('writes that arrive while one is under way go together into the next transaction', async () => {
  const { group } = await newGroup(database)
  const { combiner, transactions } = recorded()
  const results = await Promise.all(Array.from({ length: 20 }, () => combiner.write({ group, seq: 0, epoch: 0, items: [newItem()] })))
  expect(transactions.map(({ written }) => written.length)).toEqual([1, 19])
  expect(results.flat()).toEqual(Array.from({ length: 20 }, (_, index) => ({ state: 'accepted', change: index + 2 })))
})

test('an item that is refused does not fail its neighbours', async () => {
  const { group } = await newGroup(database)
  const { combiner } = recorded()
  const taken = newItem()
  const [, , refused, after] = await Promise.all(
    [taken, newItem(), newItem({ object: taken.object }), newItem()].map((item) =>
      combiner.write({ group, seq: 0, epoch: 0, items: [item] }),
    ),
  )
  expect(refused).toMatchObject([{ state: 'refused', error: { code: 'version_conflict' } }])
  expect(after).toMatchObject([{ state: 'accepted' }])
})

test('an item the database cannot store fails alone', async () => {
  const { group } = await newGroup(database)
  const { combiner } = recorded()
  const impossible: WriteItem = newItem({ bodyBytes: 2 ** 70 })
  const outcomes = await Promise.allSettled(
    [newItem(), newItem(), impossible, newItem()].map((item) => combiner.write({ group, seq: 0, epoch: 0, items: [item] })),
  )
  expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'rejected', 'fulfilled'])
})

test('two versions of one object go into transactions of their own, in order', async () => {
  const { group } = await newGroup(database)
  const { combiner, transactions } = recorded()
  const { object } = newItem()
  const versions = [0, 1, 2, 3].map((expected) => combiner.write({ group, seq: 0, epoch: 0, items: [newItem({ object, expected })] }))
  expect((await Promise.all(versions)).flat().map(({ state }) => state)).toEqual(Array.from({ length: 4 }, () => 'accepted'))
  expect(transactions).toHaveLength(4)
})

test('a request with a stale fence is refused alone', async () => {
  const { group } = await newGroup(database)
  await commitNext(database, group, { opens: true })
  const { combiner } = recorded()
  const heads = [
    { seq: 1, epoch: 1 },
    { seq: 1, epoch: 1 },
    { seq: 0, epoch: 0 },
    { seq: 1, epoch: 1 },
  ]
  const outcomes = await Promise.allSettled(heads.map((head) => combiner.write({ group, ...head, items: [newItem()] })))
  expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'rejected', 'fulfilled'])
})

test('a transaction is bounded by writes and by bytes, a single request is not cut', async () => {
  const { group } = await newGroup(database)
  const { combiner, transactions } = recorded()
  const write = (items: readonly WriteItem[]) => combiner.write({ group, seq: 0, epoch: 0, items })
  const many = (count: number) => Array.from({ length: count }, () => newItem())
  const body = new Uint8Array(COMBINED_BYTES_MAX / 4)
  const sizes = [
    many(1),
    many(200),
    many(COMBINED_WRITES_MAX - 200),
    many(1),
    many(1000),
    ...Array.from({ length: 6 }, () => [newItem({ body, bodyBytes: body.length })]),
  ]
  await Promise.all(sizes.map(write))
  expect(transactions.map(({ written }) => written.length)).toEqual([1, COMBINED_WRITES_MAX, 1, 1000, 3, 3])
})

test('groups do not wait for each other', async () => {
  const groups = await Promise.all(Array.from({ length: 4 }, () => newGroup(database)))
  const { combiner, transactions } = recorded()
  await Promise.all(groups.map(({ group }) => combiner.write({ group, seq: 0, epoch: 0, items: [newItem()] })))
  await combiner.settle()
  expect(transactions).toHaveLength(4)
})
