/** Moving DEKs to a new epoch while everything else goes on, and retiring the old ones. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Group, GroupChange, ObjectId } from '../../client/node/index.ts'
import { idKey } from '../../client/node/index.ts'
import { secretsIn } from '../../examples/demo/former-member.ts'
import type { Database } from '../../server/storage/database.ts'
import { LOOSE_DEKS_BEFORE_COMPACTION, PAGE_DEKS_MAX } from '../../shared/limits.ts'
import type { CastMember } from '../support/cast.ts'
import { castGroup, databaseOf } from '../support/cast.ts'
import type { LyingServer } from '../support/lying-server.ts'
import { SILENCE } from '../support/lying-server.ts'
import { findViolations, readGroupRows } from '../support/storage-invariants.ts'
import { eventually, nextChange, World } from '../support/world.ts'

let world: World
let database: Database
beforeAll(async () => {
  world = await World.start()
  database = databaseOf(world)
})
afterAll(async () => {
  await database.close()
  await world.close()
})

/** Writes `count` records whose bodies say which they are. */
async function fill(group: Group, count: number): Promise<ObjectId[]> {
  const receipts = await group.putMany(Array.from({ length: count }, (_, index) => ({ body: `record ${index}` })))
  return receipts.map(({ id }) => id)
}

async function textsOf(group: Group, ids: readonly ObjectId[]): Promise<string[]> {
  return Promise.all((await group.getMany(ids)).map((object) => object.text()))
}

const recordsOf = (ids: readonly ObjectId[]): string[] => ids.map((_, index) => `record ${index}`)

/** What is wrong with the group’s rows. DEKs that were healed may be loose and in a page at once. */
async function violations(group: Group, { mayBeShadowed = false } = {}): Promise<string[]> {
  return findViolations(await readGroupRows(database, group.id), () => mayBeShadowed)
}

/** A member’s client behind a line that tests have in hand. */
async function throughMallory(
  { actor, client, group }: CastMember,
  { background = false } = {},
): Promise<{ mallory: LyingServer; group: Group; close(): void }> {
  client.close()
  const mallory = await world.mallory()
  const own = await world.connect(actor, { url: mallory.url, background })
  const opened = await own.group(group.id)
  await opened.sync()
  return { mallory, group: opened, close: () => own.close() }
}

function recordChanges<T extends GroupChange['type']>(group: Group, type: T): Extract<GroupChange, { type: T }>[] {
  const changes: Extract<GroupChange, { type: T }>[] = []
  group.on((change) => {
    if (change.type === type) changes.push(change as Extract<GroupChange, { type: T }>)
  })
  return changes
}

async function corruptLoose(id: ObjectId): Promise<void> {
  await world.sql('update loose_deks set seal = set_byte(seal, 40, get_byte(seal, 40) # 1) where object_id = $1', [id])
}

async function corruptPages(group: Group): Promise<number> {
  return (
    await world.sql(
      'update key_pages set sealed = set_byte(sealed, 40, get_byte(sealed, 40) # 1) where group_id = $1 and count > 0 returning lo',
      [group.id],
    )
  ).length
}

describe('a removal', () => {
  test('moves five thousand loose DEKs into pages and retires the epoch; the next one moves pages', async () => {
    const { alice, bob, carol, dave } = await castGroup(world, { bob: {}, carol: {}, dave: {} })
    for (const { client } of [carol, dave]) client.close()
    const ids = await fill(bob.group, 5000)
    await alice.group.sync()
    const told = recordChanges(bob.group, 'rewrap-progress')
    const bodies = async () =>
      world.sql<{ sum: string }>("select md5(string_agg(body, ''::bytea order by object_id)) as sum from objects where group_id = $1", [
        alice.group.id,
      ])
    const before = await bodies()

    const first = await (await alice.group.remove(carol.client.id)).finished
    expect(first).toMatchObject({ epoch: alice.group.epoch, retiredThrough: alice.group.epoch - 1, unopenable: 0 })
    expect(first.rewrapped).toBe(5000)
    expect(await violations(alice.group)).toEqual([])
    const { pages, loose } = await readGroupRows(database, alice.group.id)
    expect(loose).toEqual([])
    expect(pages.length).toBe(Math.ceil(5000 / PAGE_DEKS_MAX))

    const second = await (await alice.group.remove(dave.client.id)).finished
    expect(second).toMatchObject({ rewrapped: 5000, retiredThrough: alice.group.epoch - 1 })
    expect(await violations(alice.group)).toEqual([])
    expect(await bodies()).toEqual(before)

    await bob.group.sync()
    const some = ids.filter((_, index) => index % 10 === 0)
    expect(await textsOf(bob.group, some)).toEqual(some.map((_, index) => `record ${10 * index}`))
    await eventually(() => told.some(({ epoch, done, total }) => epoch === second.epoch && done === 5000 && total === 5000))
  })

  test('leaves nothing of the old epoch: not on the server, not in any client’s store', async () => {
    const { alice, bob, carol } = await castGroup(world, { bob: {}, carol: {} })
    await fill(bob.group, 10)
    await bob.group.getMany(await bob.group.list())
    const old = alice.group.epoch
    const { retiredThrough } = await (await alice.group.remove(carol.client.id)).finished
    expect(retiredThrough).toBeGreaterThanOrEqual(old)
    const retired = nextChange(bob.group, 'epoch-retired')
    if (bob.group.retiredThrough < retiredThrough) await retired
    await bob.group.sync()
    const { undead } = await readGroupRows(database, alice.group.id)
    expect(Object.entries(undead).filter(([, count]) => Number(count) !== 0)).toEqual([])
    for (const { actor, group } of [alice, bob]) {
      const held = [...(await secretsIn(actor.store, group.id)).keys()]
      expect(held.filter((epoch) => epoch <= retiredThrough)).toEqual([])
      expect(group.epochs().map(({ epoch }) => epoch)).toEqual([group.epoch])
    }
  })

  test('is told in a receipt: who, what they could read, which doors were closed and who came through theirs', async () => {
    const { alice, bob, carol } = await castGroup(world, { bob: {}, carol: { role: 'admin' } })
    await carol.group.sync()
    const dave = await world.person('dave')
    const daveClient = await world.connect(dave)
    await daveClient.join(await carol.group.invite())
    await alice.group.sync()
    await fill(bob.group, 7)
    await carol.group.sync()
    await carol.group.invite()
    await alice.group.sync()
    await alice.group.invite({ role: 'reader' })
    await alice.group.invite({ role: 'member' })
    const kept = alice.group.invites().find(({ role, creator }) => role === 'reader' && idKey(creator) === idKey(alice.client.id))
    if (kept === undefined) throw new Error('the invite is listed')
    expect(alice.group.invites()).toHaveLength(3)
    const receipt = await alice.group.remove(carol.client.id, { keepInvites: [kept.id] })
    expect(receipt.members).toEqual([carol.client.id])
    expect(receipt.epoch).toBe(alice.group.epoch)
    expect(receipt.readableObjects).toBe(7)
    expect(receipt.keptInvites).toEqual([kept.id])
    expect(receipt.revokedInvites).toHaveLength(2)
    expect(receipt.cameInThroughTheirInvites).toEqual([daveClient.id])
    expect(alice.group.invites().map(({ id }) => id)).toEqual([kept.id])
    const outcome = await receipt.finished
    expect(outcome.rewrapped).toBe(7)
    expect(receipt.rewrap).toEqual({ done: 7, total: 7 })
  })

  test('in the middle of another’s rewrap only moves the goal', async () => {
    const { alice, bob, carol, dave } = await castGroup(world, { bob: { role: 'admin' }, carol: {}, dave: {} })
    const ids = await fill(bob.group, 600)
    const { mallory, group } = await throughMallory(alice)
    let replaced = 0
    mallory.lie('pages.replace', async (_, truth) => {
      replaced += 1
      if (replaced === 1) {
        await bob.group.sync()
        await bob.group.remove(dave.client.id)
      }
      return truth()
    })
    const receipt = await group.remove(carol.client.id)
    const outcome = await receipt.finished
    expect(outcome.epoch).toBe(receipt.epoch + 1)
    await group.sync()
    expect(group.retiredThrough).toBe(group.epoch - 1)
    expect(await violations(group)).toEqual([])
    expect(await textsOf(group, ids)).toEqual(recordsOf(ids))
  })
})

describe('a job that is interrupted', () => {
  test('is finished by another admin who comes online, though the first one never does again', async () => {
    const { alice, bob, carol, dave } = await castGroup(world, { bob: { role: 'admin' }, carol: {}, dave: {} })
    const ids = await fill(carol.group, 700)
    bob.client.close()
    const { mallory, group, close } = await throughMallory(alice)
    let isReplacing = false
    mallory.lie('pages.replace', async (_, truth) => {
      await truth()
      isReplacing = true
      return SILENCE
    })
    const receipt = await group.remove(carol.client.id)
    await eventually(() => isReplacing)
    close()
    await expect(receipt.finished).rejects.toMatchObject({ code: 'closed' })
    // All that carol wrote is of before her removal, and new to this client.
    const bobGroup = await (await world.connect(bob.actor, { background: true })).group(group.id)
    await eventually(() => bobGroup.retiredThrough === bobGroup.epoch - 1)
    expect(await violations(bobGroup)).toEqual([])
    await dave.group.sync()
    expect(await textsOf(dave.group, ids)).toEqual(recordsOf(ids))
  })

  test('goes on by itself when the connection breaks', async () => {
    const { alice, bob, carol } = await castGroup(world, { bob: {}, carol: {} })
    const ids = await fill(bob.group, 600)
    const { mallory, group } = await throughMallory(alice)
    let replaced = 0
    mallory.lie('pages.replace', async (_, truth) => {
      replaced += 1
      if (replaced !== 1) return truth()
      await truth()
      mallory.cut()
      return SILENCE
    })
    const outcome = await (await group.remove(carol.client.id)).finished
    expect(outcome.retiredThrough).toBe(group.epoch - 1)
    expect(await violations(group)).toEqual([])
    await bob.group.sync()
    expect(await textsOf(bob.group, ids)).toEqual(recordsOf(ids))
  })

  test('two admins at it at once both end well', async () => {
    const { alice, bob, carol } = await castGroup(world, { bob: { role: 'admin' }, carol: {} })
    const ids = await fill(alice.group, 1500)
    await alice.group.compact()
    await alice.group.rekey()
    await bob.group.sync()
    const outcomes = await Promise.all([alice.group.rewrap(), bob.group.rewrap()])
    for (const { retiredThrough } of outcomes) expect(retiredThrough).toBe(alice.group.epoch - 1)
    expect(await violations(alice.group)).toEqual([])
    await carol.group.sync()
    expect(await textsOf(carol.group, ids)).toEqual(recordsOf(ids))
  })
})

describe('writes meanwhile', () => {
  test('ten writers and a deleter go on through three removals, and every object reads afterwards', async () => {
    const { alice, bob, carol, dave, erin, frank } = await castGroup(world, { bob: {}, carol: {}, dave: {}, erin: {}, frank: {} })
    const ids = await fill(bob.group, 1000)
    await carol.group.sync()
    const expected = new Map(ids.map((id, index) => [idKey(id), `record ${index}`]))
    let isOver = false
    const write = async (group: Group, mine: readonly ObjectId[], name: string): Promise<void> => {
      for (let round = 0; !isOver; round += 1) {
        const id = mine[round % mine.length]
        if (id === undefined) return
        await group.put(`${name} ${round}`, { id })
        expected.set(idKey(id), `${name} ${round}`)
        const created = await group.put(`${name} new ${round}`)
        expected.set(idKey(created.id), `${name} new ${round}`)
      }
    }
    const erase = async (group: Group, mine: readonly ObjectId[]): Promise<void> => {
      for (const id of mine) {
        if (isOver) return
        await group.delete(id)
        expected.delete(idKey(id))
      }
    }
    const writing = [
      ...Array.from({ length: 5 }, (_, index) => write(bob.group, ids.slice(50 * index, 50 * index + 50), `bob ${index}`)),
      ...Array.from({ length: 5 }, (_, index) => write(carol.group, ids.slice(500 + 50 * index, 550 + 50 * index), `carol ${index}`)),
      erase(carol.group, ids.slice(800)),
    ]
    for (const { client } of [dave, erin, frank]) {
      const outcome = await (await alice.group.remove(client.id)).finished
      expect(outcome.unopenable).toBe(0)
    }
    isOver = true
    await Promise.all(writing)
    for (const { group } of [alice, bob, carol]) await group.sync()
    expect(await violations(alice.group)).toEqual([])
    const live = await bob.group.list()
    const read = new Map<string, string>()
    for (const object of await bob.group.getMany(live)) read.set(idKey(object.id), await object.text())
    expect(read).toEqual(expected)
  })
})

describe('compaction', () => {
  test('takes all loose DEKs into pages by hand, and drops dead ones', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const ids = await fill(bob.group, 300)
    expect(await alice.group.compact()).toBe(300)
    await bob.group.putMany(ids.slice(0, 100).map((id, index) => ({ id, body: `record ${index}` })))
    for (const id of ids.slice(200, 210)) await bob.group.delete(id)
    await alice.group.compact()
    const { loose, pages } = await readGroupRows(database, alice.group.id)
    expect([loose.length, pages.reduce((sum, { count }) => sum + count, 0)]).toEqual([0, 290])
    expect(await violations(alice.group)).toEqual([])
    const left = [...ids.slice(0, 200), ...ids.slice(210)]
    expect((await textsOf(bob.group, left)).slice(0, 200)).toEqual(recordsOf(ids.slice(0, 200)))
  })

  test('starts by itself when much is loose, in a session that has been open all along', async () => {
    const { alice, bob } = await castGroup(world, { alice: { options: { background: true } }, bob: {} })
    // The epoch that bob’s joining owes is opened and retired first, so that nothing but compaction is left to do.
    await bob.group.put('the first write')
    await eventually(() => alice.group.epoch === bob.group.epoch && alice.group.retiredThrough === alice.group.epoch - 1)
    const told = recordChanges(alice.group, 'rewrap-progress')
    const ids = await fill(bob.group, LOOSE_DEKS_BEFORE_COMPACTION + 600)
    const looseCount = async () => (await readGroupRows(database, alice.group.id)).loose.length
    await eventually(async () => (await looseCount()) <= 600)
    // A compaction is nobody’s progress.
    expect(told).toEqual([])
    expect(await violations(alice.group)).toEqual([])
    expect(await textsOf(bob.group, ids)).toEqual(recordsOf(ids))
  })

  test('and a removal at the same time both end well', async () => {
    const { alice, bob, carol } = await castGroup(world, { bob: { role: 'admin' }, carol: {} })
    const ids = await fill(alice.group, 1000)
    await bob.group.sync()
    const [, receipt] = await Promise.all([bob.group.compact(), alice.group.remove(carol.client.id)])
    await Promise.all([bob.group.compact(), receipt.finished])
    await alice.group.sync()
    expect(alice.group.retiredThrough).toBe(alice.group.epoch - 1)
    expect(await violations(alice.group)).toEqual([])
    await bob.group.sync()
    expect(await textsOf(bob.group, ids)).toEqual(recordsOf(ids))
  })
})

describe('a bad seal', () => {
  test('that is loose is listed, told to all, does not block retiring, and is healed by the next write', async () => {
    const { alice, bob, carol } = await castGroup(world, { bob: {}, carol: {} })
    const ids = await fill(bob.group, 20)
    await alice.group.sync()
    const [bad] = ids
    if (bad === undefined) throw new Error('twenty were written')
    await corruptLoose(bad)
    const told = Promise.all([alice, bob].map(({ group }) => nextChange(group, 'unopenable')))
    const outcome = await (await alice.group.remove(carol.client.id)).finished
    expect(outcome).toMatchObject({ unopenable: 1, retiredThrough: alice.group.epoch - 1 })
    for (const { objects } of await told) expect(objects).toEqual([bad])
    await bob.group.sync()
    await expect(bob.group.get(bad)).rejects.toMatchObject({ code: 'dek_invalid' })
    expect(await textsOf(bob.group, ids.slice(1))).toEqual(recordsOf(ids).slice(1))
    expect(await violations(alice.group)).toEqual([])
    await bob.group.put('record 0', { id: bad })
    await alice.group.sync()
    expect(await textsOf(alice.group, ids)).toEqual(recordsOf(ids))
    expect(await world.sql('select 1 from unopenable_deks where group_id = $1', [alice.group.id])).toEqual([])
  })

  test('of a page is healed by whoever reads: the superseded seals are still there', async () => {
    const { alice, bob, carol } = await castGroup(world, { bob: {}, carol: { role: 'reader' } })
    const ids = await fill(bob.group, 10)
    await alice.group.compact()
    expect(await corruptPages(alice.group)).toBe(1)
    const told = recordChanges(bob.group, 'bad-item')
    // A reader reads on and cannot heal; a writer heals for all.
    await carol.group.sync()
    expect(await textsOf(carol.group, ids)).toEqual(recordsOf(ids))
    expect((await readGroupRows(database, alice.group.id)).loose).toEqual([])
    expect(await textsOf(bob.group, ids)).toEqual(recordsOf(ids))
    expect(told.length).toBeGreaterThan(0)
    expect((await readGroupRows(database, alice.group.id)).loose).toHaveLength(10)
    expect(await violations(alice.group, { mayBeShadowed: true })).toEqual([])
    await alice.group.compact()
    expect(await violations(alice.group)).toEqual([])
    expect(await textsOf(alice.group, ids)).toEqual(recordsOf(ids))
  })

  test('of a page that nobody has read is healed by the job', async () => {
    const { alice, bob, carol } = await castGroup(world, { bob: {}, carol: {} })
    const ids = await fill(bob.group, 60)
    await alice.group.compact()
    expect(await corruptPages(alice.group)).toBe(1)
    const outcome = await (await alice.group.remove(carol.client.id)).finished
    expect(outcome).toMatchObject({ unopenable: 0, retiredThrough: alice.group.epoch - 1 })
    expect(await violations(alice.group)).toEqual([])
    await bob.group.sync()
    expect(await textsOf(bob.group, ids)).toEqual(recordsOf(ids))
  })

  test('of a page with nothing left to fall back to loses its DEKs and no others, and blocks nothing', async () => {
    const { alice, bob, carol } = await castGroup(world, { bob: {}, carol: {} })
    const ids = await fill(bob.group, 280)
    await (
      await alice.group.remove(carol.client.id)
    ).finished
    const [page] = await world.sql<{ lo: Uint8Array; hi: Uint8Array; count: number }>(
      'update key_pages set sealed = set_byte(sealed, 40, get_byte(sealed, 40) # 1) where group_id = $1 and lo = (select min(lo) from key_pages where group_id = $1) returning lo, hi, count',
      [alice.group.id],
    )
    await alice.group.rekey()
    const outcome = await alice.group.rewrap()
    expect(outcome).toMatchObject({ unopenable: page?.count, retiredThrough: alice.group.epoch - 1 })
    expect(await violations(alice.group)).toEqual([])
    const lost = new Set(
      (await world.sql<{ object_id: Uint8Array }>('select object_id from unopenable_deks where group_id = $1', [alice.group.id])).map(
        ({ object_id: id }) => Buffer.from(id).toString('hex'),
      ),
    )
    expect(lost.size).toBe(page?.count)
    await bob.group.sync()
    const kept = ids.filter((id) => !lost.has(Buffer.from(id).toString('hex')))
    expect(await textsOf(bob.group, kept)).toEqual(kept.map((id) => `record ${ids.indexOf(id)}`))
    await bob.group.putMany(
      ids.flatMap((id, index) => (lost.has(Buffer.from(id).toString('hex')) ? [{ id, body: `record ${index}` }] : [])),
    )
    expect(await textsOf(bob.group, ids)).toEqual(recordsOf(ids))
  })

  test('that comes about while the job reads back is sealed again before anything is retired', async () => {
    const { alice, bob, carol } = await castGroup(world, { bob: {}, carol: {} })
    const ids = await fill(bob.group, 60)
    const { mallory, group } = await throughMallory(alice)
    let replaced = 0
    mallory.lie('pages.replace', async (_, truth) => {
      const progress = await truth()
      replaced += 1
      if (replaced === 1) await corruptPages(group)
      return progress
    })
    const outcome = await (await group.remove(carol.client.id)).finished
    expect(outcome).toMatchObject({ unopenable: 0, retiredThrough: group.epoch - 1 })
    expect(await violations(group)).toEqual([])
    await bob.group.sync()
    expect(await textsOf(bob.group, ids)).toEqual(recordsOf(ids))
  })

  test('by another admin is found when reading back, by the commitments of the authors', async () => {
    const { alice, bob, carol } = await castGroup(world, { bob: { role: 'admin' }, carol: {} })
    const ids = await fill(carol.group, 60)
    await bob.group.sync()
    await bob.group.rekey()
    // Bob seals and never gets to read back; meanwhile his page goes bad.
    const { mallory, group, close } = await throughMallory(bob)
    mallory.lie('pages.replace', async (_, truth) => {
      await truth()
      await corruptPages(group)
      return SILENCE
    })
    const job = group.rewrap()
    await eventually(() => mallory.count('pages.replace') === 1)
    await eventually(async () => (await readGroupRows(database, group.id)).loose.length === 0)
    close()
    await expect(job).rejects.toMatchObject({ code: 'closed' })
    await alice.group.sync()
    expect(await alice.group.rewrap()).toMatchObject({ unopenable: 0, retiredThrough: alice.group.epoch - 1 })
    expect(await violations(alice.group)).toEqual([])
    await carol.group.sync()
    expect(await textsOf(carol.group, ids)).toEqual(recordsOf(ids))
  })
})

describe('retiring', () => {
  test('is refused while anything is left under the epoch, and the job moves it first', async () => {
    const { alice, bob, carol } = await castGroup(world, { bob: {}, carol: {} })
    const ids = await fill(bob.group, 5)
    const { mallory, group } = await throughMallory(alice)
    // The server claims that all is moved: its own referee knows better.
    let claims = 0
    mallory.lie('pages.range', async (_, truth) => {
      const range = await truth()
      claims += 1
      return claims === 1 ? { ...range, loose: [] } : range
    })
    mallory.lie('rewrap.status', async (_, truth) => {
      const status = await truth()
      return claims === 1 ? { ...status, oldLoose: 0, oldPages: 0 } : status
    })
    const refused: string[] = []
    mallory.lie('commit.submit', async (_, truth) => {
      try {
        return await truth()
      } catch (error) {
        refused.push(error instanceof Error && 'code' in error ? String(error.code) : '')
        throw error
      }
    })
    const outcome = await (await group.remove(carol.client.id)).finished
    expect(refused).toEqual(['not_retirable'])
    expect(outcome.retiredThrough).toBe(group.epoch - 1)
    await bob.group.sync()
    expect(await textsOf(bob.group, ids)).toEqual(recordsOf(ids))
  })

  test('is for admins', async () => {
    const { bob } = await castGroup(world, { bob: {} })
    await expect(bob.group.rewrap()).rejects.toMatchObject({ code: 'not_authorised' })
    await expect(bob.group.compact()).rejects.toMatchObject({ code: 'not_authorised' })
  })
})
