/** Writes: fence, compare-and-set, results of single items. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Database } from '../../../server/storage/database.ts'
import { openDatabase } from '../../../server/storage/database.ts'
import { readObjects } from '../../../server/storage/objects.ts'
import { writeObjects } from '../../../server/storage/writes.ts'
import type { FreshDatabase } from '../../support/postgres.ts'
import { freshDatabase } from '../../support/postgres.ts'
import { commitNext, newGroup, newGroupId, newItem, newTombstone, positionOf } from '../../support/storage-group.ts'

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

describe('new objects', () => {
  test('are numbered in the order of the request, after the group’s last change', async () => {
    const { group } = await newGroup(database)
    const items = [newItem(), newItem(), newItem()]
    const results = await writeObjects(database, { group, seq: 0, epoch: 0, items })
    expect(results).toEqual([2, 3, 4].map((change) => ({ state: 'accepted', change })))
    const read = await readObjects(database, group, { objects: items.map(({ object }) => object) })
    expect(read?.seq).toBe(0)
    expect(read?.objects.map((object) => object?.header)).toEqual(items.map(({ header }) => new Uint8Array(header)))
    expect(read?.objects.map((object) => object?.dek?.kind)).toEqual(['loose', 'loose', 'loose'])
  })

  test('an id that is taken is a conflict that carries the current header, and its neighbours are written', async () => {
    const { group } = await newGroup(database)
    const taken = newItem()
    await writeObjects(database, { group, seq: 0, epoch: 0, items: [taken] })
    const results = await writeObjects(database, {
      group,
      seq: 0,
      epoch: 0,
      items: [newItem(), newItem({ object: taken.object }), newItem()],
    })
    expect(results.map(({ state }) => state)).toEqual(['accepted', 'refused', 'accepted'])
    expect(results[1]).toMatchObject({ error: { code: 'version_conflict', data: { header: new Uint8Array(taken.header) } } })
  })
})

describe('next versions', () => {
  test('replace header, body and DEK, and make the old generation dead', async () => {
    const { group } = await newGroup(database)
    const alice = newItem()
    await writeObjects(database, { group, seq: 0, epoch: 0, items: [alice] })
    const next = newItem({ object: alice.object, expected: 1 })
    expect(await writeObjects(database, { group, seq: 0, epoch: 0, items: [next] })).toEqual([{ state: 'accepted', change: 3 }])
    const read = await readObjects(database, group, { objects: [alice.object] })
    expect(read?.objects[0]).toMatchObject({
      version: 2,
      generation: 2,
      live: true,
      change: 3,
      header: new Uint8Array(next.header),
      dek: { kind: 'loose' },
    })
    const loose = await database.pool.query('select generation from loose_deks where group_id = $1', [group])
    expect(loose.rows).toEqual([{ generation: 2 }])
  })

  test('of two on the same version exactly one is accepted', async () => {
    const { group } = await newGroup(database)
    const { object } = newItem()
    await writeObjects(database, { group, seq: 0, epoch: 0, items: [newItem({ object })] })
    const raced = await Promise.all(
      Array.from({ length: 20 }, () => writeObjects(database, { group, seq: 0, epoch: 0, items: [newItem({ object, expected: 1 })] })),
    )
    expect(raced.flat().filter(({ state }) => state === 'accepted')).toHaveLength(1)
  })

  test('a tombstone keeps the row, drops the DEK, and is followed by a new version', async () => {
    const { group } = await newGroup(database)
    const { object } = newItem()
    for (const item of [newItem({ object }), newTombstone(object, 1)])
      await writeObjects(database, { group, seq: 0, epoch: 0, items: [item] })
    expect((await readObjects(database, group, { objects: [object] }))?.objects[0]).toMatchObject({
      version: 2,
      live: false,
      dek: null,
      body: null,
    })
    expect(await writeObjects(database, { group, seq: 0, epoch: 0, items: [newItem({ object, expected: 2 })] })).toMatchObject([
      { state: 'accepted' },
    ])
  })

  test('of an object that does not exist are conflicts without a header', async () => {
    const { group } = await newGroup(database)
    const results = await writeObjects(database, { group, seq: 0, epoch: 0, items: [newItem({ expected: 3 })] })
    expect(results).toMatchObject([{ state: 'refused', error: { code: 'version_conflict', data: { header: null } } }])
  })
})

describe('the fence', () => {
  test('a write of an older epoch is refused with the head', async () => {
    const { group } = await newGroup(database)
    const { commit } = await commitNext(database, group, { opens: true })
    const stale = writeObjects(database, { group, seq: 0, epoch: 0, items: [newItem()] })
    await expect(stale).rejects.toMatchObject({ code: 'stale_epoch', data: { epoch: 1, seq: 1, hash: new Uint8Array(commit.hash) } })
  })

  test('a write judged at an older head is refused even without a new epoch', async () => {
    const { group } = await newGroup(database)
    await commitNext(database, group)
    await expect(writeObjects(database, { group, seq: 0, epoch: 0, items: [newItem()] })).rejects.toMatchObject({ code: 'stale_head' })
  })

  test('nothing is written while a rekey is owed', async () => {
    const { group } = await newGroup(database)
    await commitNext(database, group, { rekeyOwed: true })
    await expect(writeObjects(database, { group, seq: 1, epoch: 0, items: [newItem()] })).rejects.toMatchObject({ code: 'rekey_owed' })
    expect((await positionOf(database, group)).change).toBe(2)
  })

  test('an unknown group is named so', async () => {
    await expect(writeObjects(database, { group: newGroupId(), seq: 0, epoch: 0, items: [newItem()] })).rejects.toMatchObject({
      code: 'unknown_group',
    })
  })
})

describe('items', () => {
  test('of one request must be of different objects', () => {
    const { object } = newItem()
    const group = newGroupId()
    expect(() => writeObjects(database, { group, seq: 0, epoch: 0, items: [newItem({ object }), newItem({ object })] })).toThrow(RangeError)
  })

  test('have one body, or are tombstones', () => {
    const group = newGroupId()
    expect(() => writeObjects(database, { group, seq: 0, epoch: 0, items: [newItem({ body: null })] })).toThrow(TypeError)
    expect(() => writeObjects(database, { group, seq: 0, epoch: 0, items: [newItem({ seal: null })] })).toThrow(TypeError)
  })
})
