/** Groups that were stopped by a fork or a rollback: what is kept of it, and the way out. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Group } from '../../client/node/index.ts'
import { idKey } from '../../client/node/index.ts'
import { decodeCommit } from '../../shared/group/commit.ts'
import type { CastMember } from '../support/cast.ts'
import { castGroup } from '../support/cast.ts'
import { SILENCE } from '../support/lying-server.ts'
import { commitsAfter } from '../support/server-log.ts'
import { eventually, World } from '../support/world.ts'

let world: World
beforeAll(async () => {
  world = await World.start()
})
afterAll(() => world.close())

const keysOf = async ({ actor, group }: CastMember): Promise<string[]> =>
  [...(await actor.store.getAll('')).keys()].filter((key) => key.includes(idKey(group.id)))

/** Bob is shown one history, then alice’s client meets it with its own. */
async function forked(): Promise<{ alice: CastMember; other: World; group: Group }> {
  const { alice, bob } = await castGroup(world, { bob: { role: 'admin' } })
  await bob.group.ready()
  bob.client.close()
  const other = await world.branch()
  const apart = await (await other.connect(bob.actor)).group(bob.group.id)
  await apart.rekey()
  await apart.rekey()
  await alice.group.rekey()
  alice.client.close()
  const group = await (await other.connect(alice.actor)).group(alice.group.id)
  await expect(group.ready()).rejects.toMatchObject({ code: 'fork' })
  return { alice, other, group }
}

describe('a fork', () => {
  test('A14: is kept with both commits as they were signed, also after a restart', async () => {
    const { alice, other, group } = await forked()
    const [own] = await commitsAfter(world, group.id, alice.group.head.seq - 1)
    const [, second] = await commitsAfter(other, group.id, alice.group.head.seq - 1)
    const again = await (await world.connect(alice.actor)).group(group.id)
    for (const { ended } of [group, again]) {
      expect(ended?.cause).toMatchObject({
        code: 'fork',
        data: { accepted: alice.group.head, acceptedCommit: own?.bytes, offered: second?.bytes },
      })
    }
    const { offered, acceptedCommit } = again.ended?.data ?? {}
    if (!(offered instanceof Uint8Array) || !(acceptedCommit instanceof Uint8Array)) throw new TypeError('both are there')
    expect(decodeCommit(acceptedCommit).hash).toEqual(alice.group.head.hash)
    expect(decodeCommit(offered).payload.parent).not.toEqual(alice.group.head.hash)
    await other.close()
  })

  test('leaves a group that asks its server nothing any more', async () => {
    const { alice, other, group } = await forked()
    const mallory = await world.mallory()
    const client = await world.connect(alice.actor, { url: mallory.url, background: true, jitterMs: 0 })
    const again = await client.group(group.id)
    await expect(again.list()).rejects.toMatchObject({ code: 'group_stopped' })
    await expect(client.join(await tokenOf(world))).resolves.toBeDefined()
    const asked = mallory.requests.filter(
      ({ params }) =>
        typeof params === 'object' &&
        params !== null &&
        'group' in params &&
        params.group instanceof Uint8Array &&
        idKey(params.group) === idKey(group.id),
    )
    expect(asked).toEqual([])
    await other.close()
  })
})

/** A token of some other group. */
async function tokenOf(place: World): Promise<string> {
  const { alice } = await castGroup(place, {})
  return alice.group.invite()
}

describe('forgetting', () => {
  test('erases everything, and the group can be followed anew by whoever is still a member', async () => {
    const { alice, other, group } = await forked()
    expect((await keysOf(alice)).length).toBeGreaterThan(0)
    const client = await world.connect(alice.actor)
    await client.forget(group.id)
    expect(await keysOf(alice)).toEqual([])
    expect(await client.groups()).toEqual([])
    const anew = await client.group(group.id)
    const { id: written } = await anew.put('goes on')
    expect(await (await anew.get(written)).text()).toBe('goes on')
    expect(anew.head).toEqual(alice.group.head)
    await other.close()
  })

  test('ends the group that is open, and nothing of it comes back into the store', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const writing = Promise.allSettled(Array.from({ length: 20 }, (_, index) => bob.group.put(`${index}`)))
    const both = Promise.all([bob.client.forget(bob.group.id), bob.client.forget(bob.group.id)])
    await alice.group.put('meanwhile')
    await both
    await writing
    expect(bob.group.ended).toMatchObject({ code: 'closed' })
    expect(await keysOf(bob)).toEqual([])
    const anew = await bob.client.group(bob.group.id)
    expect(anew).not.toBe(bob.group)
    await anew.put('bob is a member all the same')
  })

  test('of a group that nobody knows is nothing', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    await alice.client.forget((await bob.client.createGroup()).id)
    await alice.group.put('still here')
  })
})

describe('creating a group', () => {
  test('A61: that the server has accepted is found again by a client that died before it knew', async () => {
    const erin = await world.person('erin')
    const mallory = await world.mallory()
    const client = await world.connect(erin, { url: mallory.url })
    let isMade = false
    mallory.lie('group.create', async (_, truth) => {
      await truth()
      isMade = true
      return SILENCE
    })
    const creating = client.createGroup({ name: 'never told' })
    await eventually(() => isMade)
    client.close()
    await expect(creating).rejects.toMatchObject({ code: 'closed' })
    const again = await world.connect(erin)
    const [group, ...others] = await again.groups()
    expect(others).toEqual([])
    await group?.put('mine')
    expect(group?.role).toBe('admin')
    expect([...(await erin.store.getAll('')).keys()].filter((key) => key.endsWith('/pending'))).toEqual([])
  })

  test('that never reached the server leaves nothing behind', async () => {
    const erin = await world.person('erin')
    const mallory = await world.mallory()
    const client = await world.connect(erin, { url: mallory.url })
    mallory.lie('group.create', () => SILENCE)
    const creating = client.createGroup()
    await eventually(() => mallory.count('group.create') > 0)
    client.close()
    await expect(creating).rejects.toMatchObject({ code: 'closed' })
    const again = await world.connect(erin)
    await eventually(async () => (await erin.store.getAll('g')).size === 0)
    expect(await again.groups()).toEqual([])
  })

  test('that the server refuses leaves nothing behind', async () => {
    const erin = await world.person('erin')
    const mallory = await world.mallory()
    const lied = await world.connect(erin, { url: mallory.url })
    mallory.lie('group.create', async (params, truth) => truth({ ...params, wraps: [] }))
    await expect(lied.createGroup()).rejects.toMatchObject({ code: 'wraps_incomplete' })
    expect((await erin.store.getAll('g')).size).toBe(0)
    mallory.relent('group.create')
    await (await lied.createGroup()).put('works')
  })

  test('is one group for all who ask for it at once', async () => {
    const { alice } = await castGroup(world, {})
    const { actor, group, client } = alice
    client.close()
    const open = await world.connect(actor)
    const groups = [...(await Promise.all([open.group(group.id), open.group(group.id)])), ...(await open.groups())]
    expect(new Set(groups).size).toBe(1)
  })
})
