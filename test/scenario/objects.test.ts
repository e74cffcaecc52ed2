import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { idKey } from '../../client/node/index.ts'
import type { Group, ObjectId } from '../../client/node/index.ts'
import { randomBytes } from '../../shared/crypto/public-crypto.ts'
import { asObjectId } from '../../shared/ids.ts'
import { BATCH_ITEMS_MAX, METADATA_BYTES_MAX } from '../../shared/limits.ts'
import { castGroup } from '../support/cast.ts'
import { nextChange, World } from '../support/world.ts'

let world: World
beforeAll(async () => {
  world = await World.start()
})
afterAll(() => world.close())

const keysOf = (ids: readonly ObjectId[]): string[] => ids.map(idKey).sort()
const textOf = async (group: Group, id: ObjectId): Promise<string> => (await group.get(id)).text()

describe('writing and reading', () => {
  test('name, type, custom data, author, length and version travel with the object', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const custom = Uint8Array.of(1, 2, 3)
    const { id, version } = await bob.group.put('# Plan', { name: 'plan – für alle.md', type: 'text/markdown', custom })
    expect(version).toBe(1)
    const read = await alice.group.get(id)
    expect({ name: read.name, type: read.type, custom: read.custom, length: read.length, version: read.version }).toEqual({
      name: 'plan – für alle.md',
      type: 'text/markdown',
      custom,
      length: 6,
      version: 1,
    })
    expect(read.author).toEqual(bob.client.id)
    expect(await read.text()).toBe('# Plan')
  })

  test('an object without name, type and body is an object', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const { id } = await alice.group.put(new Uint8Array(0))
    const read = await bob.group.get(id)
    expect([read.name, read.type, read.custom, read.length]).toEqual([null, null, null, 0])
    expect(await read.bytes()).toEqual(new Uint8Array(0))
  })

  test('metadata that does not fit is the caller’s mistake, and nothing is written', async () => {
    const { alice } = await castGroup(world, {})
    await expect(alice.group.put('x', { custom: new Uint8Array(METADATA_BYTES_MAX) })).rejects.toBeInstanceOf(RangeError)
    expect(await alice.group.list()).toEqual([])
  })

  test('putMany writes more than a batch, getMany reads them in the order asked, list names them all', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const count = BATCH_ITEMS_MAX + 7
    const receipts = await alice.group.putMany(
      Array.from({ length: count }, (_, index) => ({ body: `record ${index}`, name: `${index}.txt` })),
    )
    expect(receipts.map(({ version }) => version)).toEqual(Array.from({ length: count }, () => 1))
    const ids = receipts.map(({ id }) => id)
    expect(keysOf(await bob.group.list())).toEqual(keysOf(ids))
    const read = await bob.group.getMany(ids.toReversed())
    expect(read.map(({ name }) => name)).toEqual(Array.from({ length: count }, (_, index) => `${count - 1 - index}.txt`))
    expect(await read[0]?.text()).toBe(`record ${count - 1}`)
  })

  test('getMany answers an id asked for twice twice', async () => {
    const { alice } = await castGroup(world, {})
    const { id } = await alice.group.put('once')
    await alice.group.compact()
    const texts = await Promise.all((await alice.group.getMany([id, id])).map((object) => object.text()))
    expect(texts).toEqual(['once', 'once'])
  })

  test('the others are told of each new version and of the deletion', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const first = nextChange(bob.group, 'object-changed')
    const { id } = await alice.group.put('one')
    expect(await first).toMatchObject({ object: id, version: 1, author: alice.client.id })
    const second = nextChange(bob.group, 'object-changed')
    await alice.group.put('two', { id })
    expect(await second).toMatchObject({ object: id, version: 2 })
    const gone = nextChange(bob.group, 'object-deleted')
    await alice.group.delete(id)
    expect(await gone).toMatchObject({ object: id, author: alice.client.id })
  })
})

describe('deleting', () => {
  test('a deleted object is not found, not listed, and cannot be deleted again', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const { id } = await alice.group.put('short-lived')
    await bob.group.sync()
    expect(await bob.group.delete(id)).toMatchObject({ version: 2 })
    await alice.group.sync()
    for (const { group } of [alice, bob]) {
      await expect(group.get(id)).rejects.toMatchObject({ code: 'not_found' })
      await expect(group.delete(id)).rejects.toMatchObject({ code: 'not_found' })
      expect(await group.list()).toEqual([])
    }
  })

  test('an object that this client has not yet heard of can be deleted', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    bob.client.close()
    const { id } = await alice.group.put('written while bob is away')
    const again = await world.connect(bob.actor)
    const group = await again.group(alice.group.id)
    expect(await group.delete(id)).toMatchObject({ version: 2 })
    await alice.group.sync()
    await expect(alice.group.get(id)).rejects.toMatchObject({ code: 'not_found' })
  })

  test('a write over a deleted object is its next version', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const { id } = await alice.group.put('one')
    await alice.group.delete(id)
    expect(await alice.group.put('again', { id })).toMatchObject({ version: 3 })
    await bob.group.sync()
    expect(await textOf(bob.group, id)).toBe('again')
  })

  test('nothing is known of an id that nobody wrote', async () => {
    const { alice } = await castGroup(world, {})
    const id = asObjectId(randomBytes(16))
    await expect(alice.group.get(id)).rejects.toMatchObject({ code: 'not_found' })
    await expect(alice.group.delete(id)).rejects.toMatchObject({ code: 'not_found' })
    await expect(alice.group.put('x', { id })).rejects.toMatchObject({ code: 'not_found' })
  })
})

describe('versions', () => {
  test('a write on top of an older version is refused with the current header', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const { id } = await alice.group.put('one')
    await bob.group.sync()
    await alice.group.put('two', { id })
    await alice.group.put('three', { id })
    await expect(bob.group.put('mine', { id, ifVersion: 1 })).rejects.toMatchObject({ code: 'version_conflict' })
    await bob.group.sync()
    expect(await bob.group.put('mine', { id, ifVersion: 3 })).toMatchObject({ version: 4 })
    await alice.group.sync()
    expect(await textOf(alice.group, id)).toBe('mine')
  })

  test('ifVersion 0 of an object that exists, and one from the future, are refused', async () => {
    const { alice } = await castGroup(world, {})
    const { id } = await alice.group.put('one')
    await expect(alice.group.put('x', { id, ifVersion: 0 })).rejects.toMatchObject({ code: 'version_conflict' })
    await expect(alice.group.put('x', { id, ifVersion: 2 })).rejects.toMatchObject({ code: 'version_conflict' })
  })

  test('of concurrent writes of one object exactly one is accepted each round, and every reader has that one', async () => {
    const { alice, bob, carol } = await castGroup(world, { bob: {}, carol: {} })
    const writers = [alice, bob, carol]
    const { id } = await alice.group.put('round 0')
    for (let round = 1; round <= 10; round += 1) {
      for (const { group } of writers) await group.sync()
      const outcomes = await Promise.allSettled(
        writers.map(({ group, actor }) => group.put(`round ${round} by ${actor.name}`, { id, ifVersion: round })),
      )
      const won = outcomes.flatMap((outcome, index) => (outcome.status === 'fulfilled' ? [writers[index]?.actor.name] : []))
      expect(won).toHaveLength(1)
      for (const outcome of outcomes) if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'version_conflict' })
      for (const { group } of writers) {
        await group.sync()
        expect(await textOf(group, id)).toBe(`round ${round} by ${won[0]}`)
      }
    }
  })

  test('a version conflict carries the current header', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const { id } = await alice.group.put('one')
    await bob.group.sync()
    const outcomes = await Promise.allSettled([alice.group.put('two', { id }), bob.group.put('zwei', { id })])
    const lost = outcomes.find(({ status }) => status === 'rejected')
    expect(lost).toMatchObject({ reason: { code: 'version_conflict', data: { header: expect.any(Uint8Array) } } })
  })
})

describe('batches', () => {
  test('a bad item in a batch does not fail its neighbours, and the error says which were written', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const { id } = await alice.group.put('one')
    await bob.group.sync()
    // Both know version 1; alice is first.
    const stale = bob.group.putMany([{ body: 'before' }, { id, body: 'mine', ifVersion: 1 }, { body: 'after' }])
    const own = alice.group.put('two', { id, ifVersion: 1 })
    const outcomes = await Promise.allSettled([stale, own])
    if (outcomes[0].status === 'fulfilled') return expect(outcomes[1]).toMatchObject({ reason: { code: 'version_conflict' } })
    expect(outcomes[0].reason).toMatchObject({ code: 'version_conflict', data: { refused: [{ id, code: 'version_conflict' }] } })
    await alice.group.sync()
    const texts = await Promise.all((await alice.group.getMany(await alice.group.list())).map((object) => object.text()))
    expect(texts.toSorted()).toEqual(['after', 'before', 'two'])
  })

  test('two versions of one object in one batch are the caller’s mistake', async () => {
    const { alice } = await castGroup(world, {})
    const { id } = await alice.group.put('one')
    await expect(
      alice.group.putMany([
        { id, body: 'two' },
        { id, body: 'three' },
      ]),
    ).rejects.toBeInstanceOf(TypeError)
    expect(await textOf(alice.group, id)).toBe('one')
  })
})

describe('roles', () => {
  test('a reader reads and neither writes nor deletes', async () => {
    const { alice, bob } = await castGroup(world, { bob: { role: 'reader' } })
    const { id } = await alice.group.put('to read')
    await bob.group.sync()
    expect(await textOf(bob.group, id)).toBe('to read')
    await expect(bob.group.put('x')).rejects.toMatchObject({ code: 'not_authorised' })
    await expect(bob.group.put('x', { id })).rejects.toMatchObject({ code: 'not_authorised' })
    await expect(bob.group.delete(id)).rejects.toMatchObject({ code: 'not_authorised' })
    expect(await textOf(alice.group, id)).toBe('to read')
  })

  test('the group’s name is written by admins only', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    await expect(bob.group.rename('mine')).rejects.toMatchObject({ code: 'not_authorised' })
    await alice.group.rename('ours')
    const again = await (await world.connect(bob.actor)).group(alice.group.id)
    await again.ready()
    expect(again.name).toBe('ours')
  })
})
