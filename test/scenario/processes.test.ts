/** Several server processes on one database. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { idKey } from '../../client/node/index.ts'
import { kemKeyId } from '../../shared/crypto/keys.ts'
import { castGroup } from '../support/cast.ts'
import { ServerProcess } from '../support/server-process.ts'
import { TcpProxy } from '../support/tcp-proxy.ts'
import { eventually, nextChange, World } from '../support/world.ts'

/** Where the sweep would find a change late: what comes sooner has come by notice. */
const NO_SWEEP = { limits: { sweepMs: 3_600_000 } }
const AT_ONCE_MS = 2000

let world: World
beforeAll(async () => {
  world = await World.start(NO_SWEEP)
  await world.addServer(NO_SWEEP)
})
afterAll(() => world.close())

const there = { options: { server: 1 } }

/** Resolves within the time that only a notice is fast enough for. */
function atOnce<T>(promise: Promise<T>): Promise<T> {
  const late = new Promise<never>((_, reject) => setTimeout(() => reject(new Error('it did not come at once')), AT_ONCE_MS).unref())
  return Promise.race([promise, late])
}

describe('two server processes', () => {
  test('a member on each: commits and objects reach the other at once', async () => {
    const { alice, bob } = await castGroup(world, { bob: there })
    for (let round = 0; round < 3; round += 1) {
      const next = alice.group.epoch + 1
      const opened = nextChange(bob.group, 'epoch-opened', ({ epoch }) => epoch === next)
      await alice.group.rekey()
      await atOnce(opened)
      const changed = nextChange(bob.group, 'object-changed')
      const { id } = await alice.group.put(`round ${round}`)
      expect((await atOnce(changed)).object).toEqual(id)
      const back = nextChange(alice.group, 'object-changed', ({ object, version }) => idKey(object) === idKey(id) && version === 2)
      await bob.group.put('back', { id })
      await atOnce(back)
    }
  })

  test('commits on both at once are put in one order, and writes on both are all there', async () => {
    const { alice, bob } = await castGroup(world, { bob: { role: 'admin', ...there } })
    await Promise.all(
      [alice, bob].flatMap(({ group }) => [
        group.invite(),
        group.rekey(),
        group.put('one'),
        group.put('two'),
        group.invite({ mode: 'approve' }),
      ]),
    )
    await alice.group.sync()
    await bob.group.sync()
    expect(bob.group.head).toEqual(alice.group.head)
    expect(alice.group.invites()).toHaveLength(4)
    expect((await bob.group.list()).map(idKey).sort()).toEqual((await alice.group.list()).map(idKey).sort())
    expect(await alice.group.list()).toHaveLength(4)
  })

  test('A35: a removed member’s sessions end on both, and so does what they follow', async () => {
    const { alice, bob, carol } = await castGroup(world, { bob: there, carol: {} })
    await bob.group.ready()
    // The same person has a session on the first as well.
    const device = await world.person('bob’s other device')
    await device.store.write(new Map(await bob.actor.store.getAll('')))
    const second = await (await world.connect({ ...bob.actor, store: device.store })).group(alice.group.id)
    await second.ready()
    const ended = [bob.group, second].map((group) => nextChange(group, 'ended'))
    const sawRemoval = nextChange(bob.group, 'member-removed')
    await alice.group.remove(bob.client.id)
    for (const { error } of await atOnce(Promise.all(ended))) expect(error.code).toBe('not_a_member')
    // It is the removal itself, folded, that ends it.
    expect((await sawRemoval).member).toEqual(bob.client.id)
    expect(bob.group.role).toBe(null)
    const { id } = await carol.group.put('for those who are left')
    for (const { connection } of [bob.client]) {
      const { id: group, head, epoch } = carol.group
      await expect(connection.request('object.get', { group, objects: [id], openPages: [] })).rejects.toMatchObject({
        code: 'not_a_member',
      })
      await expect(connection.request('feed.subscribe', { group, cursor: 0, seq: head.seq })).rejects.toMatchObject({
        code: 'not_a_member',
      })
      await expect(connection.request('log.read', { group, from: 0 })).rejects.toMatchObject({ code: 'not_a_member' })
      const item = { header: new Uint8Array(8), seal: null, body: null, bodyId: null }
      await expect(connection.request('object.put', { group, seq: head.seq, epoch, items: [item] })).rejects.toMatchObject({
        code: 'not_a_member',
      })
    }
  })

  test('a wrap that is asked for on one is supplied from the other', async () => {
    const { alice, bob } = await castGroup(world, { bob: there })
    bob.client.close()
    await alice.group.rekey()
    await world.sql('delete from wraps where group_id = $1 and recipient_key = $2', [
      alice.group.id,
      kemKeyId(bob.actor.identity.kem.publicKey),
    ])
    const healed = nextChange(alice.group, 'healed')
    const group = await (await world.connect(bob.actor, { server: 1 })).group(alice.group.id)
    await group.ready()
    await atOnce(healed)
    await group.put('open again')
  })

  test('a head that is signed on one is confirmed on the other', async () => {
    const { alice, bob } = await castGroup(world, { bob: there })
    await eventually(() => alice.group.lastConfirmed().length === 1, AT_ONCE_MS)
    expect(alice.group.lastConfirmed()[0]?.member).toEqual(bob.client.id)
  })

  test('a client that changes from one to the other goes on where it was', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    await bob.group.put('on the first')
    bob.client.close()
    const { id } = await alice.group.put('meanwhile')
    const group = await (await world.connect(bob.actor, { server: 1 })).group(alice.group.id)
    expect(await (await group.get(id)).text()).toBe('meanwhile')
    expect(await group.list()).toHaveLength(2)
    expect(group.counters.commitsFolded).toBe(0)
  })
})

describe('a server process that is cut off from the others', () => {
  test('does not go on serving a removed member', async () => {
    const own = await World.start()
    const database = new URL(own.database.url)
    const path = `${decodeURIComponent(database.hostname)}/.s.PGSQL.${database.port === '' ? '5432' : database.port}`
    const proxy = await TcpProxy.start({ path })
    database.hostname = '127.0.0.1'
    database.port = String(proxy.port)
    await own.addServer({ database: { kind: 'url', url: database.href } })
    const { alice, bob, carol } = await castGroup(own, { bob: { options: { server: 1 } }, carol: { options: { server: 1 } } })
    await bob.group.ready()
    // Its notices get lost; its queries go on.
    proxy.freeze((opening) => opening.includes('claviger notices'))
    const { id } = await alice.group.put('before')
    expect(await (await bob.group.get(id)).text()).toBe('before')

    await alice.group.remove(bob.client.id)
    const { id: after } = await alice.group.put('after')
    const { id: group, head, epoch } = bob.group
    const { connection } = bob.client
    await expect(connection.request('object.get', { group, objects: [after], openPages: [] })).rejects.toMatchObject({
      code: 'not_a_member',
    })
    await expect(
      connection.request('epoch.read', { group, epoch: epoch + 1, recipient: new Uint8Array(32) as never, downTo: 0 }),
    ).rejects.toMatchObject({ code: expect.stringMatching(/not_a_member|not_authorised/) })
    await expect(connection.request('feed.subscribe', { group, cursor: 0, seq: head.seq })).rejects.toMatchObject({ code: 'not_a_member' })
    await expect(bob.group.put('no')).rejects.toMatchObject({ code: 'not_a_member' })
    // The others there go on.
    expect(await (await carol.group.get(after)).text()).toBe('after')
    await carol.group.put('and write')
    await own.close()
    await proxy.close()
  })
})

describe('processes of their own', () => {
  test('one is killed in mid-write: its clients go on at the other, and nothing acknowledged is lost', { timeout: 60_000 }, async () => {
    const processes = await Promise.all([0, 1].map(() => ServerProcess.start(world.database.url)))
    const [first, second] = processes
    if (first === undefined || second === undefined) throw new RangeError('two were started')
    try {
      const { alice, bob } = await castGroup(world, { alice: { options: { url: first.url } }, bob: { options: { url: second.url } } })
      const changed = nextChange(bob.group, 'object-changed')
      const { id } = await alice.group.put('across processes')
      await atOnce(changed)
      expect(await (await bob.group.get(id)).text()).toBe('across processes')

      const acknowledged: string[] = []
      const writing = Array.from({ length: 200 }, (_, write) =>
        alice.group.put(`write ${write}`).then((receipt) => acknowledged.push(idKey(receipt.id))),
      )
      const settled = Promise.allSettled(writing)
      await eventually(() => acknowledged.length > 5)
      await first.kill()
      alice.client.close()
      await settled
      const again = await (await world.connect(alice.actor, { url: second.url })).group(alice.group.id)
      const listed = new Set((await again.list()).map(idKey))
      expect(acknowledged.filter((key) => !listed.has(key))).toEqual([])
      await bob.group.sync()
      expect(bob.group.head).toEqual(again.head)
      const { id: later } = await again.put('goes on')
      expect(await (await bob.group.get(later)).text()).toBe('goes on')
    } finally {
      for (const process of processes) await process.kill()
    }
  })
})
