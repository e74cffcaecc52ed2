/** Writes and reads that meet each other, removals, new epochs and broken connections. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Group, ObjectId } from '../../client/node/index.ts'
import { idKey } from '../../client/node/index.ts'
import { INLINE_BODY_BYTES_MAX } from '../../shared/limits.ts'
import type { PutItem } from '../../shared/protocol/messages.ts'
import type { CastMember } from '../support/cast.ts'
import { castGroup } from '../support/cast.ts'
import type { LyingServer } from '../support/lying-server.ts'
import { eventually, World } from '../support/world.ts'

let world: World
beforeAll(async () => {
  world = await World.start()
})
afterAll(() => world.close())

const read = async (group: Group, id: ObjectId): Promise<string> => (await group.get(id)).text()

/** A member’s client behind a line that tests have in hand. */
async function throughMallory({ actor, client, group }: CastMember): Promise<{ mallory: LyingServer; group: Group }> {
  client.close()
  const mallory = await world.mallory()
  const own = await (await world.connect(actor, { url: mallory.url })).group(group.id)
  await own.sync()
  return { mallory, group: own }
}

/** Runs `task` once, at the first request of writes. */
function atFirstPut(mallory: LyingServer, task: (send: () => Promise<unknown>) => Promise<void>): { readonly tries: PutItem[][] } {
  const tries: PutItem[][] = []
  mallory.lie('object.put', async (params, truth) => {
    tries.push(params.items)
    if (tries.length === 1) await task(truth)
    return truth()
  })
  return { tries }
}

describe('writes and commits', () => {
  test('A34: of a thousand writes racing removals none is accepted under an epoch before that of the head', async () => {
    const extras = Object.fromEntries(Array.from({ length: 8 }, (_, index) => [`extra${index}`, {}]))
    const cast = await castGroup(world, { bob: {}, carol: {}, ...extras })
    const { alice, bob, carol } = cast
    const doomed = Object.entries(cast).flatMap(([name, { client }]) => (name.startsWith('extra') ? [client.id] : []))
    let written = 0
    const write = async (group: Group, count: number): Promise<void> => {
      for (let index = 0; index < count; index += 1) {
        await group.put(`record ${index}`)
        written += 1
      }
    }
    const writing = Promise.all([bob, carol].flatMap(({ group }) => Array.from({ length: 5 }, () => write(group, 100))))
    for (const [index, member] of doomed.entries()) {
      await eventually(() => written >= (index + 1) * 100)
      await alice.group.remove(member)
    }
    await writing
    const rows = await world.sql<{ late: number; epochs: number; total: number }>(
      `select count(*)::int as total, count(distinct o.epoch)::int as epochs,
         count(*) filter (where o.epoch < (select max(c.epoch) from commits c where c.group_id = o.group_id and c.change_seq < o.change_seq))::int as late
       from objects o where o.group_id = $1`,
      [alice.group.id],
    )
    expect(rows[0]).toMatchObject({ total: 1000, late: 0 })
    expect(rows[0]?.epochs).toBeGreaterThan(4)
  })

  test('a new epoch in mid-write costs a header and a seal: the body is encrypted and sent once', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const { mallory, group } = await throughMallory(bob)
    const { tries } = atFirstPut(mallory, async () => {
      await alice.group.sync()
      await alice.group.rekey()
    })
    const { id } = await group.put(new Uint8Array(INLINE_BODY_BYTES_MAX + 1).fill(7))
    expect(tries).toHaveLength(2)
    expect(tries[1]?.[0]?.bodyId).toEqual(tries[0]?.[0]?.bodyId)
    expect(tries[1]?.[0]?.header).not.toEqual(tries[0]?.[0]?.header)
    expect(tries[1]?.[0]?.seal).not.toEqual(tries[0]?.[0]?.seal)
    expect(mallory.count('body.begin')).toBe(1)
    expect(mallory.count('body.write')).toBe(1)
    await alice.group.sync()
    expect((await alice.group.get(id)).version).toBe(1)
    const bodies = await world.sql('select state from bodies where group_id = $1', [group.id])
    expect(bodies).toEqual([{ state: 'live' }])
  })

  test('a new head that opens no epoch costs as little', async () => {
    const { alice, bob, carol } = await castGroup(world, { bob: {}, carol: { role: 'reader' } })
    const { mallory, group } = await throughMallory(bob)
    const { tries } = atFirstPut(mallory, async () => {
      await alice.group.setRole(carol.client.id, 'member')
    })
    const { id } = await group.put('small')
    expect(tries).toHaveLength(2)
    expect(tries[1]?.[0]?.body).toEqual(tries[0]?.[0]?.body)
    await alice.group.sync()
    expect(await read(alice.group, id)).toBe('small')
  })

  test('an owed epoch is opened by whoever writes first', async () => {
    const { alice, bob, carol } = await castGroup(world, { bob: {}, carol: {} })
    const { epoch } = alice.group
    await carol.group.leave()
    await bob.group.sync()
    const { id } = await bob.group.put('after carol has left')
    await alice.group.sync()
    expect(alice.group.epoch).toBe(epoch + 1)
    expect(await read(alice.group, id)).toBe('after carol has left')
  })
})

describe('a lost acknowledgement', () => {
  test('of a new object does not double it', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const { mallory, group } = await throughMallory(bob)
    const { tries } = atFirstPut(mallory, async (send) => {
      await send()
      mallory.cut()
    })
    const { id, version } = await group.put('once')
    expect([tries.length, version]).toEqual([2, 1])
    expect((await alice.group.list()).map(idKey)).toEqual([idKey(id)])
    expect(await read(alice.group, id)).toBe('once')
  })

  test('of a next version, with a new epoch before the second try, is recognised, also after a restart', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const { id } = await alice.group.put('one')
    const { mallory, group } = await throughMallory(bob)
    atFirstPut(mallory, async (send) => {
      await send()
      await alice.group.sync()
      await alice.group.rekey()
      mallory.cut()
    })
    expect(await group.put('two', { id })).toMatchObject({ version: 2 })
    expect(await read(group, id)).toBe('two')
    const again = await (await world.connect(bob.actor)).group(group.id)
    expect(await read(again, id)).toBe('two')
    expect(await again.put('three', { id })).toMatchObject({ version: 3 })
  })

  test('is recognised when somebody has written on top of it', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const { id } = await alice.group.put('one')
    const { mallory, group } = await throughMallory(bob)
    atFirstPut(mallory, async (send) => {
      await send()
      await alice.group.sync()
      await alice.group.put('three', { id })
      mallory.cut()
    })
    expect(await group.put('two', { id })).toMatchObject({ version: 2 })
    await group.sync()
    expect(await read(group, id)).toBe('three')
  })

  test('of a deletion is recognised', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const { id } = await alice.group.put('one')
    const { mallory, group } = await throughMallory(bob)
    atFirstPut(mallory, async (send) => {
      await send()
      mallory.cut()
    })
    expect(await group.delete(id)).toMatchObject({ version: 2 })
  })

  test('of a batch is recognised for each of its items', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const { mallory, group } = await throughMallory(bob)
    atFirstPut(mallory, async (send) => {
      await send()
      mallory.cut()
    })
    const receipts = await group.putMany(Array.from({ length: 50 }, (_, index) => ({ body: `record ${index}` })))
    expect(receipts).toHaveLength(50)
    expect((await alice.group.list()).length).toBe(50)
  })

  test('does not hide that somebody else was first', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const { id } = await alice.group.put('one')
    const { mallory, group } = await throughMallory(bob)
    atFirstPut(mallory, async () => {
      await alice.group.put('two', { id })
      mallory.cut()
    })
    await expect(group.put('zwei', { id })).rejects.toMatchObject({ code: 'version_conflict' })
  })
})

describe('reads that take long', () => {
  test('an answer that the feed has overtaken is asked for again, and is no fork', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const { id } = await alice.group.put('one')
    const { mallory, group } = await throughMallory(bob)
    let [asked, seen] = [0, 0]
    mallory.lie('object.get', async (_, truth) => {
      const answer = await truth()
      asked += 1
      if (asked > 1) return answer
      await alice.group.put('two', { id })
      await alice.group.put('three', { id })
      await eventually(() => seen >= 3)
      return answer
    })
    group.on((change) => {
      if (change.type === 'object-changed') seen = change.version
    })
    expect(await read(group, id)).toBe('three')
    expect(asked).toBe(2)
  })

  test('a feed that is slower than a read is no fork either', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const { mallory, group } = await throughMallory(bob)
    const held: (() => void)[] = []
    mallory.event = (event) => {
      if (event.type !== 'feed') return event
      held.push(() => mallory.say(event))
      return null
    }
    const { id } = await alice.group.put('one')
    expect(await read(group, id)).toBe('one')
    expect(await group.put('two', { id })).toMatchObject({ version: 2 })
    const bad: string[] = []
    group.on((change) => {
      if (change.type === 'bad-item') bad.push(change.error.code)
    })
    mallory.event = (event) => event
    for (const tell of held) tell()
    await group.sync()
    expect(bad).toEqual([])
    expect(await read(group, id)).toBe('two')
  })

  test('an epoch retired while an answer under it is on its way is asked around', async () => {
    const { alice, bob, carol } = await castGroup(world, { bob: {}, carol: {} })
    const { id } = await alice.group.put('kept')
    await alice.group.putMany([{ body: 'a' }, { body: 'b' }])
    const { mallory, group } = await throughMallory(bob)
    let asked = 0
    mallory.lie('object.get', async (_, truth) => {
      const answer = await truth()
      asked += 1
      if (asked === 1) {
        await (
          await alice.group.remove(carol.client.id)
        ).finished
        await eventually(() => group.retiredThrough === alice.group.retiredThrough)
      }
      return answer
    })
    expect(await read(group, id)).toBe('kept')
    expect(asked).toBe(2)
  })

  test('pages opened before a removal are read from after it', async () => {
    const { alice, bob, carol } = await castGroup(world, { bob: {}, carol: {} })
    const receipts = await alice.group.putMany(Array.from({ length: 20 }, (_, index) => ({ body: `record ${index}` })))
    await alice.group.compact()
    const ids = receipts.map(({ id }) => id)
    expect(await bob.group.getMany(ids)).toHaveLength(20)
    await (
      await alice.group.remove(carol.client.id)
    ).finished
    await bob.group.sync()
    const texts = await Promise.all((await bob.group.getMany(ids)).map((object) => object.text()))
    expect(texts).toEqual(ids.map((_, index) => `record ${index}`))
  })
})
