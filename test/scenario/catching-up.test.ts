/** Catching up: after a while away, and while others go on writing. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Group, GroupChange } from '../../client/node/index.ts'
import { idKey } from '../../client/node/index.ts'
import { castGroup } from '../support/cast.ts'
import { eventually, nextChange, World } from '../support/world.ts'

let world: World
beforeAll(async () => {
  world = await World.start()
})
afterAll(() => world.close())

/** What a client has been told, newest version by object. */
function tracked(group: Group): Map<string, number> {
  const versions = new Map<string, number>()
  group.on((change: GroupChange) => {
    if (change.type === 'object-changed') versions.set(idKey(change.object), change.version)
  })
  return versions
}

describe('a member who was away', () => {
  test('opens one wrap whatever the number of epochs, and links only down to what is read', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    await bob.group.ready()
    bob.client.close()
    const ids = []
    for (let epoch = 0; epoch < 20; epoch += 1) {
      await alice.group.rekey()
      ids.push((await alice.group.put(`in epoch ${alice.group.epoch}`)).id)
    }
    const group = await (await world.connect(bob.actor)).group(alice.group.id)
    await group.sync()
    expect(group.counters).toMatchObject({ wrapsOpened: 1, linksOpened: 0 })
    const [first, middle, last] = [ids[0], ids[15], ids[19]]
    if (first === undefined || middle === undefined || last === undefined) throw new RangeError('twenty were written')
    await (await group.get(last)).text()
    expect(group.counters).toMatchObject({ wrapsOpened: 1, linksOpened: 0 })
    await (await group.get(middle)).text()
    expect(group.counters).toMatchObject({ wrapsOpened: 1, linksOpened: 4 })
    expect(await (await group.get(first)).text()).toBe(`in epoch ${alice.group.epoch - 19}`)
    expect(group.counters).toMatchObject({ wrapsOpened: 1, linksOpened: 19 })
    expect(group.counters.commitsFolded).toBe(20)
  })

  test('needs no link once the epochs it missed are retired', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    await bob.group.ready()
    const { id } = await alice.group.put('old')
    bob.client.close()
    for (let epoch = 0; epoch < 5; epoch += 1) await alice.group.rekey()
    await alice.group.rewrap()
    const group = await (await world.connect(bob.actor)).group(alice.group.id)
    expect(await (await group.get(id)).text()).toBe('old')
    expect(group.counters).toMatchObject({ wrapsOpened: 1, linksOpened: 0 })
    expect(group.epochs()).toHaveLength(1)
  })

  test('is told who came and went, in order', async () => {
    const { alice, bob, carol } = await castGroup(world, { bob: {}, carol: {} })
    bob.client.close()
    const dave = await world.connect(await world.person('dave'))
    await dave.join(await alice.group.invite({ role: 'reader' }))
    await alice.group.sync()
    await alice.group.setRole(dave.id, 'member')
    await alice.group.remove(carol.client.id)
    const client = await world.connect(bob.actor)
    const group = await client.group(alice.group.id)
    const seen: GroupChange['type'][] = []
    group.on(({ type }) => void seen.push(type))
    await group.sync()
    const people: readonly string[] = ['member-joined', 'role-changed', 'member-removed']
    expect(seen.filter((type) => people.includes(type))).toEqual(people)
  })

  test('was removed meanwhile, is told so, and opens nothing', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    bob.client.close()
    await alice.group.remove(bob.client.id)
    const client = await world.connect(bob.actor)
    const group = await client.group(alice.group.id)
    await expect(group.ready()).rejects.toMatchObject({ code: 'not_a_member' })
    expect(group.ended?.code).toBe('not_a_member')
    await expect(group.put('no')).rejects.toMatchObject({ code: 'not_a_member' })
  })
})

describe('subscribing', () => {
  test('leaves no gap while somebody else writes at full speed and the connection breaks again and again', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    bob.client.close()
    const proxy = await world.proxy()
    const group = await (await world.connect(bob.actor, { url: proxy.url })).group(alice.group.id)
    const seen = tracked(group)
    await group.ready()
    const written = new Map<string, number>()
    const note = ({ id, version }: { id: Uint8Array; version: number }): void =>
      void written.set(idKey(id), Math.max(version, written.get(idKey(id)) ?? 0))
    let isDone = false
    const writing = (async () => {
      for (let round = 0; round < 40; round += 1) {
        const first = await alice.group.put(`round ${round}`)
        note(first)
        await Promise.all([
          alice.group.put('again', { id: first.id }).then(note),
          ...Array.from({ length: 5 }, () => alice.group.put('beside').then(note)),
        ])
        if (round % 10 === 5) await alice.group.rekey()
      }
      isDone = true
    })()
    while (!isDone) {
      proxy.cut()
      await group.sync()
    }
    await writing
    await group.sync()
    expect(group.head).toEqual(alice.group.head)
    expect(Object.fromEntries(seen)).toEqual(Object.fromEntries(written))
    expect((await group.list()).map(idKey).sort()).toEqual([...written.keys()].sort())
  })

  test('loses no commit that arrives while another is being made', async () => {
    const { alice, bob, carol } = await castGroup(world, { bob: { role: 'admin' }, carol: {} })
    const epochs: number[] = []
    carol.group.on((change) => {
      if (change.type === 'epoch-opened') epochs.push(change.epoch)
    })
    const from = carol.group.epoch
    await Promise.all(
      [alice, bob].map(async ({ group }) => {
        for (let commit = 0; commit < 10; commit += 1) await group.invite({ mode: 'approve' })
        await group.rekey()
      }),
    )
    await carol.group.sync()
    await alice.group.sync()
    await bob.group.sync()
    expect(carol.group.head).toEqual(alice.group.head)
    expect(bob.group.head).toEqual(alice.group.head)
    expect(carol.group.invites()).toHaveLength(20)
    expect(epochs).toEqual(Array.from({ length: carol.group.epoch - from }, (_, index) => from + 1 + index))
  })
})

describe('a client', () => {
  test('comes back by itself when its server is back, backing off meanwhile', async () => {
    const own = await World.start()
    const { alice, bob } = await castGroup(own, { bob: {} })
    const { port } = own.server()
    await own.server().close()
    await eventually(() => bob.client.connection.state.state === 'waiting' && alice.client.connection.state.state === 'waiting')
    const writing = alice.group.put('waits for the server')
    await own.addServer({ port })
    bob.client.connection.retry()
    alice.client.connection.retry()
    const { id } = await writing
    expect(await (await bob.group.get(id)).text()).toBe('waits for the server')
    await own.close()
  })

  test('waits longer and longer for a server that turns it away', async () => {
    const proxy = await world.proxy()
    const client = await world.connect(await world.person('alice'), { url: proxy.url })
    proxy.refuse()
    const { accepted } = proxy
    const waits: number[] = []
    client.connection.on('state', (state) => {
      if (state.state === 'waiting') waits.push(state.until - Date.now())
    })
    await eventually(() => waits.length >= 3)
    expect(proxy.accepted - accepted).toBeLessThan(10)
    // Full jitter below a ceiling that doubles.
    waits.forEach((wait, attempt) => expect(wait).toBeLessThanOrEqual(250 * 2 ** (attempt + 1)))
    proxy.accept()
    client.connection.retry()
    await client.connection.whenOpen()
  })

  test('refuses instead of waiting, by choice, while there is no connection', async () => {
    const proxy = await world.proxy()
    const client = await world.connect(await world.person('alice'), { url: proxy.url, whenOffline: 'refuse' })
    const group = await client.createGroup()
    proxy.refuse()
    await eventually(() => client.connection.session === null)
    await expect(group.put('now')).rejects.toMatchObject({ code: 'disconnected' })
    await expect(group.rekey()).rejects.toMatchObject({ code: 'disconnected' })
    proxy.accept()
    client.connection.retry()
    await client.connection.whenOpen()
    await group.put('now')
  })

  test('ends a wait when told to', async () => {
    const proxy = await world.proxy()
    const client = await world.connect(await world.person('alice'), { url: proxy.url })
    const group = await client.createGroup()
    const stop = new AbortController()
    const reading = (async () => {
      for await (const change of group.changes({ signal: stop.signal })) if (change.type === 'ended') return 'ended'
      return 'stopped'
    })()
    proxy.refuse()
    await eventually(() => client.connection.session === null)
    const waiting = [
      group.put('never', { signal: stop.signal }),
      group.sync({ signal: stop.signal }),
      group.ready({ signal: stop.signal }),
      group.list({ signal: stop.signal }),
    ]
    stop.abort()
    for (const wait of waiting) await expect(wait).rejects.toMatchObject({ name: 'AbortError' })
    expect(await reading).toBe('stopped')
    await expect(group.put('not even begun', { signal: stop.signal })).rejects.toMatchObject({ name: 'AbortError' })
    proxy.accept()
    client.connection.retry()
    expect(await group.list()).toEqual([])
  })

  test('that is closed tells everybody who waits', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const ended = nextChange(bob.group, 'ended')
    const waiting = bob.group.sync()
    bob.client.close()
    await expect(waiting).rejects.toMatchObject({ code: 'closed' })
    expect((await ended).error.code).toBe('closed')
    await expect(bob.group.put('no')).rejects.toMatchObject({ code: 'closed' })
    await alice.group.put('others go on')
  })
})
