/** Doors: what tokens and old keys open after somebody is out. Whoever tries has a copy of all the server ever had. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Group } from '../../client/node/index.ts'
import { Archive } from '../support/archive.ts'
import { castGroup } from '../support/cast.ts'
import { World } from '../support/world.ts'

let world: World
beforeAll(async () => {
  world = await World.start()
})
afterAll(() => world.close())

const roleOf = (group: Group, member: Uint8Array): string | undefined =>
  group.members().find(({ id, state }) => state === 'active' && String(id) === String(member))?.role

describe('a removed member', () => {
  test('A32: opens no later epoch with all keys they held and everything the server ever had', async () => {
    const { alice, bob } = await castGroup(world, { bob: {}, carol: {} })
    const archive = new Archive(world, alice.group.id)
    await archive.copy()
    const receipt = await alice.group.remove(bob.client.id)
    await archive.copy()
    await receipt.finished
    await alice.group.rekey()
    await archive.copy()
    const opened = await archive.openedWith(bob.actor.identity.kem)
    expect(opened.length).toBeGreaterThan(0)
    expect(Math.max(...opened)).toBeLessThan(receipt.epoch)
    expect(await archive.openedWith(alice.actor.identity.kem)).toContain(alice.group.epoch)
  })

  test('A36: comes back neither with an unused token, nor with one they came in through, nor with one they made', async () => {
    const { alice } = await castGroup(world, {})
    const [unused, door] = [await alice.group.invite(), await alice.group.invite({ maxUses: 10 })]
    const actor = await world.person('bob')
    const bob = await world.connect(actor)
    const group = await bob.join(door)
    await alice.group.sync()
    await alice.group.setRole(bob.id, 'admin')
    await group.sync()
    const own = await group.invite({ mode: 'approve' })
    await alice.group.sync()
    await alice.group.remove(bob.id, { keepInvites: alice.group.invites().map(({ id }) => id) })
    for (const token of [unused, door, own]) await expect(bob.join(token)).rejects.toMatchObject({ code: 'not_a_member' })
    bob.close()
    const again = await world.connect(actor)
    for (const token of [unused, door, own]) await expect(again.join(token)).rejects.toMatchObject({ code: 'not_a_member' })
    expect(roleOf(alice.group, actor.identity.id)).toBe(undefined)
    // Nor does anybody else by the doors that were theirs.
    const mallory = await world.connect(await world.person('mallory'))
    for (const token of [door, own]) await expect(mallory.join(token)).rejects.toMatchObject({ code: 'invite_spent' })
  })

  test('is brought back by an admin’s add and reads what was written meanwhile', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    await (
      await alice.group.remove(bob.client.id)
    ).finished
    const { id } = await alice.group.put('while bob was out')
    await expect(bob.group.get(id)).rejects.toMatchObject({ code: 'not_a_member' })
    await alice.group.add(bob.client.identity.cards, 'reader')
    const back = await bob.client.group(alice.group.id)
    await back.sync()
    expect(back.role).toBe('reader')
    expect(await (await back.get(id)).text()).toBe('while bob was out')
    expect(roleOf(alice.group, bob.client.id)).toBe('reader')
  })

  test('is not brought back by a request that an admin has not approved', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    await alice.group.remove(bob.client.id)
    const token = await alice.group.invite({ mode: 'approve' })
    await expect(bob.client.join(token)).rejects.toMatchObject({ code: 'not_a_member' })
    expect(await alice.group.joinRequests()).toEqual([])
  })
})

describe('somebody who is added', () => {
  test('A03: cards that the server gives for another identity are refused, and nothing is signed', async () => {
    const { alice } = await castGroup(world, {})
    const [carol, mallory] = [await world.person('carol'), await world.person('mallory')]
    for (const actor of [carol, mallory]) (await world.connect(actor)).close()
    const liar = await world.mallory()
    const lied = await world.connect(alice.actor, { url: liar.url })
    liar.lie('identity.read', (_params, truth) => truth({ identity: mallory.identity.id }))
    await expect(lied.cardsOf(carol.identity.id)).rejects.toMatchObject({ code: 'invalid_key' })
    expect(liar.count('commit.submit')).toBe(0)
    liar.relent('identity.read')
    await (await lied.group(alice.group.id)).add(await lied.cardsOf(carol.identity.id))
    await alice.group.sync()
    expect(roleOf(alice.group, carol.identity.id)).toBe('member')
  })

  test('opens the group by its id, which is the hash of its genesis', async () => {
    const { alice } = await castGroup(world, {})
    const { id } = await alice.group.put('before carol')
    const carol = await world.connect(await world.person('carol'))
    await expect(carol.group(alice.group.id)).rejects.toMatchObject({ code: 'unknown_group' })
    await alice.group.add(carol.identity.cards)
    const group = await carol.group(alice.group.id)
    expect(await (await group.get(id)).text()).toBe('before carol')
    expect((await group.put('by carol')).version).toBe(1)
    expect(await carol.groups()).toEqual([group])
  })

  test('A52: a server that shows another group under that id is refused', async () => {
    const { alice } = await castGroup(world, {})
    const other = await castGroup(world, { dave: {} })
    const liar = await world.mallory()
    const dave = await world.connect(await world.person('dave'), { url: liar.url })
    await other.alice.group.add(dave.identity.cards)
    await alice.group.add(dave.identity.cards)
    liar.lie('log.read', (params, truth) => truth({ ...params, group: other.alice.group.id }))
    await expect(dave.group(alice.group.id)).rejects.toMatchObject({ code: 'unknown_group' })
    expect(await dave.groups()).toEqual([])
  })
})

describe('an open invite', () => {
  test('A51: is a reader of every epoch while it is open, and of none after it was revoked', async () => {
    const { alice } = await castGroup(world, {})
    const token = await alice.group.invite({ maxUses: 5 })
    await alice.group.rekey()
    const archive = new Archive(world, alice.group.id)
    await archive.copy()
    expect(await archive.openedWithToken(token)).toContain(alice.group.epoch)
    const [invite] = alice.group.invites()
    if (invite !== undefined) await alice.group.revokeInvite(invite.id)
    await alice.group.rekey()
    await archive.copy()
    expect(Math.max(...(await archive.openedWithToken(token)))).toBe(alice.group.epoch - 2)
  })

  test('A67: that a removed member has seen opens nothing new, unless it was kept by name, and the receipt says which', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const tokens = [await alice.group.invite(), await alice.group.invite({ maxUses: 9 }), await alice.group.invite({ role: 'reader' })]
    const [first, second, third] = alice.group.invites()
    if (first === undefined || second === undefined || third === undefined) throw new RangeError('three invites are live')
    const approval = await alice.group.invite({ mode: 'approve' })
    const receipt = await alice.group.remove(bob.client.id, { keepInvites: [third.id] })
    expect(receipt.revokedInvites).toEqual([first.id, second.id])
    expect(receipt.keptInvites).toContainEqual(third.id)
    await receipt.finished
    await alice.group.rekey()
    const archive = new Archive(world, alice.group.id)
    await archive.copy()
    expect(await archive.openedWithToken(tokens[0] ?? '')).toEqual([])
    expect(await archive.openedWithToken(tokens[1] ?? '')).toEqual([])
    expect(await archive.openedWithToken(tokens[2] ?? '')).toEqual([receipt.epoch, receipt.epoch + 1])
    expect(await archive.openedWithToken(approval)).toEqual([])
  })

  test('A67: that somebody made or came in through is closed when they leave or are lowered, and opens nothing new', async () => {
    for (const end of ['leave', 'lowered'] as const) {
      const { alice } = await castGroup(world, {})
      const door = await alice.group.invite({ maxUses: 9 })
      const bob = await world.connect(await world.person('bob'))
      const group = await bob.join(door)
      await alice.group.sync()
      await alice.group.setRole(bob.id, 'admin')
      await group.sync()
      const made = await group.invite({ maxUses: 9 })
      await alice.group.sync()
      const { epoch } = alice.group
      if (end === 'leave') await group.leave()
      else await alice.group.setRole(bob.id, 'reader')
      await alice.group.sync()
      await alice.group.put('settles what is owed')
      await alice.group.rekey()
      const archive = new Archive(world, alice.group.id)
      await archive.copy()
      for (const token of [door, made]) expect(Math.max(...(await archive.openedWithToken(token)))).toBeLessThanOrEqual(epoch)
      const late = await world.connect(await world.person('late'))
      for (const token of [door, made]) await expect(late.join(token)).rejects.toMatchObject({ code: 'invite_spent' })
    }
  })

  test('A67: that somebody without keys from now on may have seen is closed with theirs', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const token = await alice.group.invite({ maxUses: 9 })
    const { epoch } = alice.group
    await alice.group.setRole(bob.client.id, 'depositor')
    const archive = new Archive(world, alice.group.id)
    await archive.copy()
    expect(Math.max(...(await archive.openedWithToken(token)))).toBe(epoch)
    expect(alice.group.invites()).toEqual([])
  })

  test('A75: for one use opens nothing written after the join', async () => {
    const { alice } = await castGroup(world, {})
    const token = await alice.group.invite()
    const archive = new Archive(world, alice.group.id)
    await archive.copy()
    const bob = await world.connect(await world.person('bob'))
    const group = await bob.join(token)
    const joinedAt = group.epoch
    expect(group.isRekeyOwed).toBe(true)
    const { id } = await group.put('for members only')
    await archive.copy()
    expect(await archive.openedWithToken(token)).toContain(joinedAt)
    expect(Math.max(...(await archive.openedWithToken(token)))).toBe(joinedAt)
    const rows = await world.sql<{ epoch: number }>('select epoch from objects where group_id = $1 and object_id = $2', [group.id, id])
    expect(rows[0]?.epoch).toBeGreaterThan(joinedAt)
    const copy = await world.connect(await world.person('whoever copied it'))
    await expect(copy.join(token)).rejects.toMatchObject({ code: 'invite_spent' })
  })

  test('of a depositor opens nothing at all', async () => {
    const { alice } = await castGroup(world, {})
    const token = await alice.group.invite({ role: 'depositor', maxUses: 3 })
    await alice.group.rekey()
    const archive = new Archive(world, alice.group.id)
    await archive.copy()
    expect(await archive.openedWithToken(token)).toEqual([])
    expect((await (await world.connect(await world.person('dora'))).join(token)).role).toBe('depositor')
  })
})
