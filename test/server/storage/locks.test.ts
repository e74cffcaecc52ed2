/**
 * Who waits for whom: each transaction is held in its middle by a lock on a row it needs, while the other one is tried.
 * The fuzz rarely meets these moments, so they are set up one by one.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { PoolClient } from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { acceptCommit } from '../../../server/storage/commits.ts'
import type { Database } from '../../../server/storage/database.ts'
import { openDatabase } from '../../../server/storage/database.ts'
import type { PageRange } from '../../../server/storage/page-ranges.ts'
import { readRange } from '../../../server/storage/page-ranges.ts'
import { replacePages } from '../../../server/storage/page-replace.ts'
import { resealDek } from '../../../server/storage/reseals.ts'
import type { WriteItem } from '../../../server/storage/writes.ts'
import { writeObjects } from '../../../server/storage/writes.ts'
import type { GroupId } from '../../../shared/ids.ts'
import type { FreshDatabase } from '../../support/postgres.ts'
import { freshDatabase } from '../../support/postgres.ts'
import { newGroup, newItem, nextCommit, positionOf } from '../../support/storage-group.ts'
import { absorbAll } from '../../support/storage-pages.ts'

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

/** Holds rows until the returned function is called. */
async function hold(text: string, group: GroupId): Promise<() => Promise<void>> {
  const connection: PoolClient = await database.pool.connect()
  await connection.query('begin')
  await connection.query(text, [group])
  return async () => {
    await connection.query('commit')
    connection.release()
  }
}

const LOOSE = 'select from loose_deks where group_id = $1 for update'
const COMMITS = 'lock table commits in exclusive mode'

async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  return await Promise.race([
    promise.then(
      () => true,
      () => true,
    ),
    delay(150).then(() => false),
  ])
}

/** Listened to at once, so that a refusal before anybody awaits it is not unhandled. */
async function failureOf(promise: Promise<unknown>): Promise<unknown> {
  return await promise.then(
    () => 'it was accepted',
    (error: unknown) => error,
  )
}

async function groupWithLoose(): Promise<{ group: GroupId; item: WriteItem; range: PageRange }> {
  const { group } = await newGroup(database)
  const item = newItem()
  await writeObjects(database, { group, seq: 0, epoch: 0, items: [item] })
  const range = await readRange(database, group, { lo: new Uint8Array(0), pagesMax: 10, dead: false })
  if (range === null) throw new Error('no such group')
  return { group, item, range }
}

/** A commit that has taken the head and not ended: it waits for a table. */
async function heldCommit(group: GroupId): Promise<{ committing: Promise<unknown>; release: () => Promise<void> }> {
  const connection = await database.pool.connect()
  await connection.query('begin')
  await connection.query(COMMITS)
  const position = await positionOf(database, group)
  const committing = acceptCommit(database, nextCommit(group, position, { opens: true }))
  await delay(100)
  return {
    committing,
    release: async () => {
      await connection.query('commit')
      connection.release()
    },
  }
}

describe('a commit', () => {
  test('waits for a replacement of pages under way', async () => {
    const { group, range } = await groupWithLoose()
    const position = await positionOf(database, group)
    const release = await hold(LOOSE, group)
    const replacing = replacePages(database, absorbAll(group, range))
    await delay(100)
    const committing = acceptCommit(database, nextCommit(group, position, { opens: true }))
    const isEarly = await isSettled(committing)
    await release()
    expect(isEarly).toBe(false)
    await replacing
    await committing
    expect((await database.pool.query('select epoch from key_pages where group_id = $1', [group])).rows).toEqual([{ epoch: 0 }])
  })

  test('waits for a write under way', async () => {
    const { group, item } = await groupWithLoose()
    const position = await positionOf(database, group)
    const release = await hold(LOOSE, group)
    const writing = writeObjects(database, { group, seq: 0, epoch: 0, items: [newItem({ object: item.object, expected: 1 })] })
    await delay(100)
    const committing = acceptCommit(database, nextCommit(group, position, { opens: true }))
    const isEarly = await isSettled(committing)
    await release()
    expect(isEarly).toBe(false)
    expect(await writing).toMatchObject([{ state: 'accepted', change: 3 }])
    expect(await committing).toEqual({ change: 4 })
  })

  test('waits for a reseal under way', async () => {
    const { group, item } = await groupWithLoose()
    const position = await positionOf(database, group)
    const release = await hold(LOOSE, group)
    const resealing = resealDek(database, { group, object: item.object, generation: 1, seal: item.header.slice(0, 72), seq: 0, epoch: 0 })
    await delay(100)
    const committing = acceptCommit(database, nextCommit(group, position, { opens: true }))
    const isEarly = await isSettled(committing)
    await release()
    expect(isEarly).toBe(false)
    await resealing
    await committing
  })
})

describe('while a commit that opens an epoch is under way', () => {
  test('a replacement waits and is refused', async () => {
    const { group, range } = await groupWithLoose()
    const { committing, release } = await heldCommit(group)
    const replacing = replacePages(database, absorbAll(group, range))
    const refused = failureOf(replacing)
    const isEarly = await isSettled(replacing)
    await release()
    expect(isEarly).toBe(false)
    await committing
    expect(await refused).toMatchObject({ code: 'stale_epoch' })
  })

  test('a write waits and is refused', async () => {
    const { group } = await groupWithLoose()
    const { committing, release } = await heldCommit(group)
    const writing = writeObjects(database, { group, seq: 0, epoch: 0, items: [newItem()] })
    const refused = failureOf(writing)
    const isEarly = await isSettled(writing)
    await release()
    expect(isEarly).toBe(false)
    await committing
    expect(await refused).toMatchObject({ code: 'stale_epoch' })
  })
})

describe('a replacement of pages', () => {
  test('does not keep writes of other objects waiting', async () => {
    const { group, range } = await groupWithLoose()
    const release = await hold(LOOSE, group)
    const replacing = replacePages(database, absorbAll(group, range))
    await delay(100)
    expect(await writeObjects(database, { group, seq: 0, epoch: 0, items: [newItem()] })).toMatchObject([{ state: 'accepted' }])
    await release()
    await replacing
  })

  test('of a page that another one is replacing waits and finds a conflict', async () => {
    const { group, range } = await groupWithLoose()
    const release = await hold(LOOSE, group)
    const winning = replacePages(database, absorbAll(group, range))
    await delay(100)
    const losing = replacePages(database, absorbAll(group, range))
    const refused = failureOf(losing)
    const isEarly = await isSettled(losing)
    await release()
    expect(isEarly).toBe(false)
    await winning
    expect(await refused).toMatchObject({ code: 'page_conflict' })
  })
})

describe('a write that meets a replacement on the same DEK', () => {
  test('waits for it, and leaves a dead entry in the page', async () => {
    const { group, item, range } = await groupWithLoose()
    const release = await hold(LOOSE, group)
    const replacing = replacePages(database, absorbAll(group, range))
    await delay(100)
    const writing = writeObjects(database, { group, seq: 0, epoch: 0, items: [newItem({ object: item.object, expected: 1 })] })
    const isEarly = await isSettled(writing)
    await release()
    expect(isEarly).toBe(false)
    await replacing
    expect(await writing).toMatchObject([{ state: 'accepted' }])
    const after = await readRange(database, group, { lo: new Uint8Array(0), pagesMax: 10, dead: true })
    expect(after?.dead).toHaveLength(20)
    expect(after?.loose.map(({ generation }) => generation)).toEqual([2])
  })
})
