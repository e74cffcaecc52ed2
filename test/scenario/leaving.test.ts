import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Claviger, Group } from '../../client/node/index.ts'
import { castGroup } from '../support/cast.ts'
import { commitsAfter, isBy, rekeysAfter } from '../support/server-log.ts'
import { eventually, nextChange, World } from '../support/world.ts'

let world: World
beforeAll(async () => {
  world = await World.start()
})
afterAll(() => world.close())

/** The epochs that the group’s objects were written in. */
async function epochsOfObjects(group: Group): Promise<number[]> {
  const rows = await world.sql<{ epoch: number }>('select epoch from objects where group_id = $1 order by change_seq', [group.id])
  return rows.map(({ epoch }) => epoch)
}

/** Everybody joins with one token, one after the other. */
async function crowd(
  group: Group,
  size: number,
  options: Parameters<World['connect']>[1] = {},
): Promise<{ client: Claviger; group: Group }[]> {
  const token = await group.invite({ maxUses: size })
  const joined: { client: Claviger; group: Group }[] = []
  for (let member = 0; member < size; member += 1) {
    const client = await world.connect(await world.person(`member ${member}`), options)
    joined.push({ client, group: await client.join(token) })
  }
  return joined
}

describe('leaving', () => {
  test('makes a rekey owed, and a writer settles it before the next write', async () => {
    const { alice, bob, carol } = await castGroup(world, { bob: {}, carol: {} })
    await alice.group.rekey()
    await carol.group.sync()
    const { epoch } = carol.group
    await bob.group.leave()
    await carol.group.sync()
    expect(carol.group.isRekeyOwed).toBe(true)
    expect(carol.group.epoch).toBe(epoch)
    const { id } = await carol.group.put('after bob')
    expect(carol.group.isRekeyOwed).toBe(false)
    expect(carol.group.epoch).toBe(epoch + 1)
    expect(await epochsOfObjects(carol.group)).toEqual([epoch + 1])
    expect(await (await alice.group.get(id)).text()).toBe('after bob')
    await expect(bob.group.get(id)).rejects.toMatchObject({ code: 'not_a_member' })
    expect(bob.group.role).toBe(null)
  })

  test('writers who write at that moment leave nothing under the old epoch', async () => {
    const cast = await castGroup(world, { bob: {}, carol: {}, dave: {}, erin: {} })
    const { bob, ...others } = cast
    const { epoch } = bob.group
    const writers = Object.values(others)
    const writes = writers.flatMap(({ group }) => [0, 1, 2, 3].map((write) => group.put(`write ${write}`)))
    await bob.group.leave()
    const { seq } = bob.group.head
    await Promise.all(writes)
    await Promise.all(writers.map(({ group }) => group.put('afterwards')))
    const rekeys = await rekeysAfter(world, bob.group.id, seq)
    expect(rekeys).toHaveLength(1)
    const [left] = await world.sql<{ change_seq: number }>('select change_seq from commits where group_id = $1 and seq = $2', [
      bob.group.id,
      seq,
    ])
    const late = await world.sql('select 1 from objects where group_id = $1 and change_seq > $2 and epoch <= $3', [
      bob.group.id,
      left?.change_seq,
      epoch,
    ])
    expect(late).toEqual([])
    for (const { group } of writers) expect(await group.list()).toHaveLength(20)
  })

  test('a write under the old epoch is refused while the rekey is owed', async () => {
    const { bob, carol } = await castGroup(world, { bob: {}, carol: {} })
    await bob.group.leave()
    await carol.group.sync()
    const { head, epoch, id } = carol.group
    const item = { header: new Uint8Array(10), seal: null, body: null, bodyId: null }
    await expect(carol.client.connection.request('object.put', { group: id, seq: head.seq, epoch, items: [item] })).rejects.toMatchObject({
      code: 'rekey_owed',
    })
  })

  test('A38: twenty members are online, one leaves, and exactly one of the others opens the next epoch', async () => {
    const alice = await world.connect(await world.person('alice'), { background: true, jitterMs: 200 })
    const group = await alice.createGroup()
    const members = await crowd(group, 19, { background: true, jitterMs: 200 })
    await eventually(() => !group.isRekeyOwed && members.every((member) => member.group.epoch === group.epoch))
    const [leaver, ...rest] = members
    const { epoch } = group
    await leaver?.group.leave()
    const { seq } = leaver?.group.head ?? group.head
    await eventually(async () => {
      await group.sync()
      return group.epoch > epoch
    })
    await Promise.all(rest.map((member) => member.group.sync()))
    await Promise.all(rest.map((member) => member.group.put('and goes on')))
    expect(await rekeysAfter(world, group.id, seq)).toHaveLength(1)
    expect(rest.every((member) => member.group.epoch === epoch + 1)).toBe(true)
    expect(new Set(await epochsOfObjects(group))).toEqual(new Set([epoch + 1]))
    for (const { client } of members) client.close()
    alice.close()
  })

  test('readers and depositors never settle: the next writer to come online does', async () => {
    const background = { background: true, jitterMs: 0 }
    const { alice, bob, carol, dave } = await castGroup(world, {
      bob: {},
      carol: { role: 'reader', options: background },
      dave: { role: 'depositor', options: background },
    })
    await alice.group.rekey()
    alice.client.close()
    const owed = [carol, dave].map(({ group }) => nextChange(group, 'rekey-owed'))
    await bob.group.leave()
    const { seq } = bob.group.head
    await Promise.all(owed)
    await expect(carol.group.put('settle it')).rejects.toMatchObject({ code: 'not_authorised' })
    const again = await (await world.connect(alice.actor, background)).group(bob.group.id)
    await eventually(() => again.ended === null && !again.isRekeyOwed && again.head.seq > seq)
    const rekeys = await rekeysAfter(world, bob.group.id, seq)
    expect(rekeys.map((commit) => isBy(commit, alice.actor.identity.signer))).toEqual([true])
  })

  test('thirty joins in a row cost one rekey', async () => {
    const alice = await world.connect(await world.person('alice'))
    const group = await alice.createGroup()
    const tokens = await Promise.all(Array.from({ length: 30 }, () => group.invite()))
    const { epoch } = group
    const { seq } = group.head
    for (const [position, token] of tokens.entries()) {
      const client = await world.connect(await world.person(`joiner ${position}`))
      await client.join(token)
      client.close()
    }
    await group.put('for all of them')
    expect(group.epoch).toBe(epoch + 1)
    expect(await rekeysAfter(world, group.id, seq)).toHaveLength(1)
    expect(await commitsAfter(world, group.id, seq)).toHaveLength(31)
  })

  test('somebody who left comes back with a new token and reads on', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    await bob.group.put('before')
    await bob.group.leave()
    const { id } = await alice.group.put('while bob was away')
    const token = await alice.group.invite()
    const again = await bob.client.join(token)
    expect(again.role).toBe('member')
    expect(await (await again.get(id)).text()).toBe('while bob was away')
    expect(await again.list()).toHaveLength(2)
    await alice.group.sync()
    expect(alice.group.members().filter(({ state }) => state === 'active')).toHaveLength(2)
  })

  test('somebody who has just left is removed all the same: one commit, and no token brings them back', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    await bob.group.leave()
    await alice.group.sync()
    const [seq, epoch] = [alice.group.head.seq, alice.group.epoch]
    const removed = nextChange(alice.group, 'member-removed')
    const receipt = await alice.group.remove(bob.client.id)
    expect([alice.group.head.seq, alice.group.epoch, alice.group.isRekeyOwed]).toEqual([seq + 1, epoch + 1, false])
    expect(await removed).toMatchObject({ member: bob.client.id, by: alice.client.id })
    expect(alice.group.members().map(({ state }) => state)).toEqual(['active', 'removed'])
    await receipt.finished
    await expect(bob.client.join(await alice.group.invite())).rejects.toMatchObject({ code: 'not_a_member' })
    await alice.group.add(bob.client.identity.cards)
    expect(alice.group.members().map(({ state }) => state)).toEqual(['active', 'active'])
  })

  test('whoever is removed already is removed again without a commit, whoever never was a member is refused', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    await (
      await alice.group.remove(bob.client.id)
    ).finished
    const { head, epoch } = alice.group
    await (
      await alice.group.remove(bob.client.id)
    ).finished
    expect([alice.group.head, alice.group.epoch]).toEqual([head, epoch])
    const { identity } = await world.person('mallory')
    await expect(alice.group.remove(identity.id)).rejects.toMatchObject({ code: 'not_a_member' })
    await expect(alice.group.remove([bob.client.id, identity.id])).rejects.toMatchObject({ code: 'not_a_member' })
    expect([alice.group.head, alice.group.epoch]).toEqual([head, epoch])
  })

  test('somebody who left comes back with a client that was restarted, and never goes behind what it had seen', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const token = await alice.group.invite({ maxUses: 3 })
    await alice.group.rename('Later than the token')
    await bob.group.sync()
    await bob.group.leave()
    bob.client.close()
    const returned = await world.connect(bob.actor)
    const group = await returned.join(token)
    expect(group.role).toBe('member')
    expect(group.head.seq).toBeGreaterThan(bob.group.head.seq)
  })
})
