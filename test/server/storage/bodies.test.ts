/** Bodies in PostgreSQL: uploading → complete → live → orphan → gone, and never half-visible. */
import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { BodyName } from '../../../server/storage/body-store.ts'
import type { Database } from '../../../server/storage/database.ts'
import { openDatabase } from '../../../server/storage/database.ts'
import { PostgresBodies } from '../../../server/storage/postgres-bodies.ts'
import type { WriteItem } from '../../../server/storage/writes.ts'
import { writeObjects } from '../../../server/storage/writes.ts'
import { concat } from '../../../shared/bytes.ts'
import type { GroupId, IdentityId } from '../../../shared/ids.ts'
import { BODY_PART_BYTES } from '../../../shared/limits.ts'
import { SEALED_CHUNK_BYTES } from '../../../shared/objects/body-layout.ts'
import type { FreshDatabase } from '../../support/postgres.ts'
import { freshDatabase } from '../../support/postgres.ts'
import { newBodyId, newGroup, newIdentityId, newItem, newTombstone } from '../../support/storage-group.ts'

let fresh: FreshDatabase
let database: Database
let bodies: PostgresBodies
let group: GroupId
let alice: IdentityId

beforeAll(async () => {
  fresh = await freshDatabase()
  database = openDatabase(fresh.url)
  bodies = new PostgresBodies(database)
  ;({ group, alice } = await newGroup(database))
})

afterAll(async () => {
  await database.close()
  await fresh.drop()
})

const BYTES = 2 * BODY_PART_BYTES + 1000
const content = new Uint8Array(randomBytes(BYTES))
const hashes = new Uint8Array(randomBytes(32 * Math.ceil(BYTES / SEALED_CHUNK_BYTES)))
const partOf = (part: number): Uint8Array => content.slice(part * BODY_PART_BYTES, (part + 1) * BODY_PART_BYTES)
const newName = (): BodyName => ({ group, bodyId: newBodyId() })

async function upload(name: BodyName): Promise<BodyName> {
  await bodies.begin(name, { owner: alice })
  for (const part of [2, 0, 1]) await bodies.writePart(name, { part, data: partOf(part), owner: alice })
  await bodies.complete(name, { hashes, owner: alice })
  return name
}

async function write(item: WriteItem): Promise<unknown> {
  return (await writeObjects(database, { group, seq: 0, epoch: 0, items: [item] }))[0]
}

const withBody = (name: BodyName, changes: Partial<WriteItem> = {}): WriteItem =>
  newItem({ body: null, bodyId: name.bodyId, bodyBytes: BYTES, ...changes })

async function stateOf({ bodyId }: BodyName): Promise<string> {
  const { rows } = await database.pool.query<{ state: string }>('select state from bodies where group_id = $1 and body_id = $2', [
    group,
    bodyId,
  ])
  return rows[0]?.state ?? 'gone'
}

describe('an upload', () => {
  test('resumes at the parts that are there', async () => {
    const name = newName()
    expect(await bodies.begin(name, { owner: alice })).toEqual([])
    await bodies.writePart(name, { part: 1, data: partOf(1), owner: alice })
    expect(await bodies.begin(name, { owner: alice })).toEqual([1])
  })

  test('is its owner’s', async () => {
    const name = newName()
    await bodies.begin(name, { owner: alice })
    const mallory = newIdentityId()
    await expect(bodies.begin(name, { owner: mallory })).rejects.toMatchObject({ code: 'body_invalid' })
    await expect(bodies.writePart(name, { part: 0, data: partOf(0), owner: mallory })).rejects.toMatchObject({ code: 'not_found' })
    await expect(bodies.complete(name, { hashes, owner: mallory })).rejects.toMatchObject({ code: 'not_found' })
  })

  test('takes parts of 1 byte to 1 MiB, and ends only if all but the last are full', async () => {
    const name = newName()
    await bodies.begin(name, { owner: alice })
    const writePart = (part: number, data: Uint8Array) => bodies.writePart(name, { part, data, owner: alice })
    for (const data of [new Uint8Array(0), new Uint8Array(BODY_PART_BYTES + 1)])
      expect(() => writePart(0, data)).toThrow(expect.objectContaining({ code: 'malformed' }))
    expect(() => writePart(2 ** 21, partOf(2))).toThrow(expect.objectContaining({ code: 'limit_exceeded' }))
    await writePart(0, partOf(2))
    await writePart(1, partOf(2))
    await expect(bodies.complete(name, { hashes, owner: alice })).rejects.toMatchObject({ code: 'body_incomplete', data: { missing: [0] } })
    await writePart(0, partOf(0))
    await bodies.complete(name, { hashes: randomBytes(32 * 17), owner: alice })
  })

  test('is complete when every part and the list are there', async () => {
    const name = newName()
    await bodies.begin(name, { owner: alice })
    await expect(bodies.complete(name, { hashes, owner: alice })).rejects.toMatchObject({ code: 'body_incomplete' })
    await bodies.writePart(name, { part: 2, data: partOf(2), owner: alice })
    await expect(bodies.complete(name, { hashes, owner: alice })).rejects.toMatchObject({
      code: 'body_incomplete',
      data: { missing: [0, 1] },
    })
    for (const part of [0, 1]) await bodies.writePart(name, { part, data: partOf(part), owner: alice })
    await expect(bodies.complete(name, { hashes: hashes.slice(32), owner: alice })).rejects.toMatchObject({ code: 'body_invalid' })
    await bodies.complete(name, { hashes, owner: alice })
    await bodies.complete(name, { hashes, owner: alice })
    await expect(bodies.writePart(name, { part: 0, data: partOf(0), owner: alice })).rejects.toMatchObject({ code: 'not_found' })
  })
})

describe('a body', () => {
  test('is not readable before an object names it', async () => {
    const name = await upload(newName())
    await expect(bodies.read(name, { offset: 0, bytes: 10 })).rejects.toMatchObject({ code: 'not_found' })
    await expect(bodies.readHashes(name, { offset: 0, bytes: 32 })).rejects.toMatchObject({ code: 'not_found' })
  })

  test('that is not complete, or of another length, is refused with its object', async () => {
    const uploading = newName()
    await bodies.begin(uploading, { owner: alice })
    expect(await write(withBody(uploading))).toMatchObject({ state: 'refused', error: { code: 'body_incomplete' } })
    expect(await write(withBody(newName()))).toMatchObject({ state: 'refused', error: { code: 'body_incomplete' } })
    const complete = await upload(newName())
    expect(await write(withBody(complete, { bodyBytes: 1 }))).toMatchObject({ state: 'refused', error: { code: 'body_incomplete' } })
    expect(await stateOf(complete)).toBe('complete')
  })

  test('is named by one object', async () => {
    const name = await upload(newName())
    expect(await write(withBody(name))).toMatchObject({ state: 'accepted' })
    expect(await write(withBody(name))).toMatchObject({ state: 'refused', error: { code: 'body_incomplete' } })
  })

  test('whose object was refused stays complete', async () => {
    const name = await upload(newName())
    const taken = newItem()
    await write(taken)
    expect(await write(withBody(name, { object: taken.object }))).toMatchObject({ state: 'refused', error: { code: 'version_conflict' } })
    expect(await stateOf(name)).toBe('complete')
    expect(await write(withBody(name, { object: taken.object, expected: 1 }))).toMatchObject({ state: 'accepted' })
    expect(await stateOf(name)).toBe('live')
  })

  test('reads whole and in ranges across parts', async () => {
    const name = await upload(newName())
    await write(withBody(name))
    const ranges = [
      { offset: 0, bytes: 100 },
      { offset: BODY_PART_BYTES - 10, bytes: 20 },
      { offset: BODY_PART_BYTES, bytes: BODY_PART_BYTES },
      { offset: BYTES - 5, bytes: 100 },
      { offset: 0, bytes: BYTES },
      { offset: BYTES, bytes: 1 },
    ]
    for (const range of ranges) {
      expect(
        Buffer.compare(await bodies.read(name, range), content.slice(range.offset, range.offset + range.bytes)),
        JSON.stringify(range),
      ).toBe(0)
    }
    expect(
      concat(await bodies.readHashes(name, { offset: 0, bytes: 64 }), await bodies.readHashes(name, { offset: 64, bytes: 1 << 20 })),
    ).toEqual(hashes)
  })
})

describe('an orphan', () => {
  test('is the old body after a replacement and after a deletion, and stays readable', async () => {
    const [first, second] = [await upload(newName()), await upload(newName())]
    const { object } = newItem()
    await write(withBody(first, { object }))
    await write(withBody(second, { object, expected: 1 }))
    expect([await stateOf(first), await stateOf(second)]).toEqual(['orphan', 'live'])
    await write(newTombstone(object, 2))
    expect(await stateOf(second)).toBe('orphan')
    expect(await bodies.read(first, { offset: 0, bytes: 4 })).toEqual(content.slice(0, 4))
  })

  test('is kept for its time, and by readers', async () => {
    const name = await upload(newName())
    const { object } = newItem()
    await write(withBody(name, { object }))
    await write(newTombstone(object, 1))
    const age = (minutes: number) =>
      database.pool.query(`update bodies set since = now() - $2 * interval '1 minute' where body_id = $1`, [name.bodyId, minutes])
    const collectAll = async () => {
      while (await bodies.collect());
    }
    await age(14)
    await collectAll()
    await bodies.read(name, { offset: 0, bytes: 1 })
    await age(0)
    await age(14)
    await bodies.read(name, { offset: 0, bytes: 1 })
    const { rows } = await database.pool.query<{ fresh: boolean }>(
      `select since > now() - interval '1 minute' as fresh from bodies where body_id = $1`,
      [name.bodyId],
    )
    expect(rows).toEqual([{ fresh: true }])
    await age(16)
    await collectAll()
    expect(await stateOf(name)).toBe('gone')
    expect((await database.pool.query('select from body_parts where body_id = $1', [name.bodyId])).rows).toEqual([])
  })
})

test('the collector deletes in bounded shares, takes unfinished uploads, and leaves live bodies', async () => {
  const other = await newGroup(database)
  const eager = new PostgresBodies(database, { orphanMs: 0, uploadMs: 0 })
  const name = { group: other.group, bodyId: newBodyId() }
  await bodies.begin(name, { owner: alice })
  await database.pool.query(`insert into body_parts select $1, $2, n, 'x' from generate_series(0, 69) n`, [name.group, name.bodyId])
  const live = await upload(newName())
  await write(withBody(live))
  await database.pool.query('update bodies set since = now() - interval $$1 hour$$ where body_id = $1', [name.bodyId])
  expect(await eager.collect()).toBe(true)
  const left = async () => (await database.pool.query('select from body_parts where body_id = $1', [name.bodyId])).rows.length
  expect(await left()).toBe(6)
  while (await eager.collect());
  expect(await left()).toBe(0)
  expect(await stateOf(live)).toBe('live')
})

test('a body that the collector has begun to delete is neither adopted nor read, and may be uploaded again', async () => {
  const other = await newGroup(database)
  const eager = new PostgresBodies(database, { orphanMs: 0, uploadMs: 0 })
  const name = { group: other.group, bodyId: newBodyId() }
  await bodies.begin(name, { owner: alice })
  await database.pool.query(`insert into body_parts select $1, $2, n, 'x' from generate_series(0, 69) n`, [name.group, name.bodyId])
  await database.pool.query(`update bodies set state = 'complete', bytes = 70, since = now() - interval '1 hour' where body_id = $1`, [
    name.bodyId,
  ])
  expect(await eager.collect()).toBe(true)
  const put = { ...withBody(name), bodyBytes: 70 }
  const [result] = await writeObjects(database, { group: other.group, seq: 0, epoch: 0, items: [put] })
  expect(result).toMatchObject({ state: 'refused', error: { code: 'body_incomplete' } })
  expect(await bodies.begin(name, { owner: alice })).toEqual([64, 65, 66, 67, 68, 69])
})

test('an orphan of many parts goes whole, however many steps that takes', async () => {
  const other = await newGroup(database)
  const name = { group: other.group, bodyId: newBodyId() }
  await bodies.begin(name, { owner: alice })
  await database.pool.query(`insert into body_parts select $1, $2, n, 'x' from generate_series(0, 139) n`, [name.group, name.bodyId])
  await database.pool.query(`update bodies set state = 'orphan', bytes = 140, since = now() - interval '16 minutes' where body_id = $1`, [
    name.bodyId,
  ])
  expect(await bodies.collect()).toBe(true)
  await expect(bodies.read(name, { offset: 0, bytes: 1 })).rejects.toMatchObject({ code: 'not_found' })
  while (await bodies.collect());
  expect((await database.pool.query('select from bodies where body_id = $1', [name.bodyId])).rows).toEqual([])
})
