import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import type { Group } from '../../client/node/index.ts'
import { castGroup } from '../support/cast.ts'
import { eventually, nextChange, World } from '../support/world.ts'

let world: World
beforeAll(async () => {
  world = await World.start()
})
afterAll(() => world.close())

const inStep = async (...groups: readonly Group[]): Promise<void> => {
  for (const group of groups) await group.sync()
}
const activeIds = (group: Group): string[] =>
  group
    .members()
    .filter(({ state }) => state === 'active')
    .map(({ id }) => String(id))
    .sort()

describe('roles', () => {
  test('a reader reads everything and writes nothing', async () => {
    const { alice, bob } = await castGroup(world, { bob: { role: 'reader' } })
    const { id } = await alice.group.put('for everybody')
    expect(await (await bob.group.get(id)).text()).toBe('for everybody')
    await expect(bob.group.put('mine')).rejects.toMatchObject({ code: 'not_authorised' })
    await expect(bob.group.put('mine', { id })).rejects.toMatchObject({ code: 'not_authorised' })
    await expect(bob.group.delete(id)).rejects.toMatchObject({ code: 'not_authorised' })
    await expect(bob.group.invite()).rejects.toMatchObject({ code: 'not_authorised' })
    await expect(bob.group.remove(alice.client.id)).rejects.toMatchObject({ code: 'not_authorised' })
    await expect(bob.group.rekey()).rejects.toMatchObject({ code: 'not_authorised' })
    expect(bob.group.mayWrite).toBe(false)
  })

  test('a member writes and decides nothing about others', async () => {
    const { alice, bob, carol } = await castGroup(world, { bob: {}, carol: {} })
    const { id } = await bob.group.put('one')
    expect(await (await alice.group.get(id)).text()).toBe('one')
    await expect(bob.group.remove(carol.client.id)).rejects.toMatchObject({ code: 'not_authorised' })
    await expect(bob.group.setRole(bob.client.id, 'admin')).rejects.toMatchObject({ code: 'not_authorised' })
    await expect(bob.group.add(carol.client.identity.cards)).resolves.toBeUndefined()
    await expect(bob.group.rekey()).rejects.toMatchObject({ code: 'not_authorised' })
    await expect(bob.group.rename('Mine')).rejects.toMatchObject({ code: 'not_authorised' })
  })

  test('a depositor follows the log and gets no key, no object and no wrap', async () => {
    const { alice, bob } = await castGroup(world, { bob: { role: 'depositor' } })
    const { id } = await alice.group.put('not for bob')
    await bob.group.sync()
    expect(bob.group.role).toBe('depositor')
    expect(bob.group.epochs().some(({ isHeld }) => isHeld)).toBe(false)
    await expect(bob.group.get(id)).rejects.toMatchObject({ code: 'not_authorised' })
    expect(await bob.group.list()).toEqual([])
    await alice.group.rekey()
    await bob.group.sync()
    expect(bob.group.epoch).toBe(alice.group.epoch)
    expect(bob.group.counters.wrapsOpened).toBe(0)
  })

  test('raising a depositor gives them a wrap of the current epoch and everything written before', async () => {
    const { alice, bob } = await castGroup(world, { bob: { role: 'depositor' } })
    const { id } = await alice.group.put('before')
    await bob.group.sync()
    const epoch = alice.group.epoch
    await alice.group.setRole(bob.client.id, 'member')
    expect(alice.group.epoch).toBe(epoch)
    await bob.group.sync()
    expect(await (await bob.group.get(id)).text()).toBe('before')
    expect(await bob.group.list()).toEqual([id])
    const { id: own } = await bob.group.put('after')
    expect(await (await alice.group.get(own)).text()).toBe('after')
  })

  test('raising a member makes an admin without a new epoch', async () => {
    const { alice, bob, carol } = await castGroup(world, { bob: {}, carol: {} })
    const epoch = alice.group.epoch
    await alice.group.setRole(bob.client.id, 'admin')
    expect(alice.group.epoch).toBe(epoch)
    await bob.group.sync()
    expect(bob.group.role).toBe('admin')
    await bob.group.remove(carol.client.id)
    await alice.group.sync()
    expect(activeIds(alice.group)).toEqual([alice.client.id, bob.client.id].map(String).sort())
  })

  test('lowering an admin opens an epoch and closes the invites they made', async () => {
    const { alice, bob } = await castGroup(world, { bob: { role: 'admin' } })
    const token = await bob.group.invite()
    const kept = await bob.group.invite({ mode: 'approve' })
    await inStep(alice.group)
    expect(alice.group.invites()).toHaveLength(2)
    const epoch = alice.group.epoch
    await alice.group.setRole(bob.client.id, 'member')
    expect(alice.group.epoch).toBe(epoch + 1)
    expect(alice.group.invites()).toEqual([])
    const carol = await world.connect(await world.person('carol'))
    await expect(carol.join(token)).rejects.toMatchObject({ code: 'invite_spent' })
    await expect(carol.join(kept)).rejects.toMatchObject({ code: 'invite_spent' })
  })

  test('somebody lowered to depositor opens no later epoch', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    await bob.group.put('while a member')
    await alice.group.sync()
    await alice.group.setRole(bob.client.id, 'depositor')
    const { id } = await alice.group.put('afterwards')
    await bob.group.sync()
    expect(bob.group.epochs().find(({ isCurrent }) => isCurrent)?.isHeld).toBe(false)
    await expect(bob.group.get(id)).rejects.toMatchObject({ code: 'not_authorised' })
  })

  test('an admin lowered in mid-session loses the role at once', async () => {
    const { alice, bob, carol } = await castGroup(world, { bob: { role: 'admin' }, carol: {} })
    await alice.group.setRole(bob.client.id, 'reader')
    await expect(bob.group.remove(carol.client.id)).rejects.toMatchObject({ code: 'not_authorised' })
    await expect(bob.group.put('no')).rejects.toMatchObject({ code: 'not_authorised' })
  })
})

describe('admins', () => {
  test('A42: the last admin cannot leave, nor give the role away', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    await expect(alice.group.leave()).rejects.toMatchObject({ code: 'last_admin' })
    await expect(alice.group.setRole(alice.client.id, 'member')).rejects.toMatchObject({ code: 'last_admin' })
    await alice.group.setRole(bob.client.id, 'admin')
    await alice.group.leave()
    await bob.group.sync()
    await expect(bob.group.leave()).rejects.toMatchObject({ code: 'last_admin' })
  })

  test('nobody removes themselves', async () => {
    const { alice } = await castGroup(world, { bob: { role: 'admin' } })
    await expect(alice.group.remove(alice.client.id)).rejects.toMatchObject({ code: 'rule_violated', data: { rule: 'G50' } })
  })

  test('A43: of two admins who remove each other exactly one stays', async () => {
    for (let round = 0; round < 5; round += 1) {
      const { alice, bob, carol } = await castGroup(world, { bob: { role: 'admin' }, carol: {} })
      const outcomes = await Promise.allSettled([alice.group.remove(bob.client.id), bob.group.remove(alice.client.id)])
      expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
      const [winner, loser] = outcomes[0]?.status === 'fulfilled' ? [alice, bob] : [bob, alice]
      expect(outcomes.find(({ status }) => status === 'rejected')).toMatchObject({ reason: { code: 'not_a_member' } })
      await inStep(winner.group, carol.group)
      expect(activeIds(carol.group)).toEqual([winner.client.id, carol.client.id].map(String).sort())
      expect(carol.group.head).toEqual(winner.group.head)
      await expect(loser.group.put('still here')).rejects.toMatchObject({ code: 'not_a_member' })
      const { id } = await carol.group.put('goes on')
      expect(await (await winner.group.get(id)).text()).toBe('goes on')
    }
  })

  test('two admins who remove the same member both succeed with one commit', async () => {
    const { alice, bob, carol } = await castGroup(world, { bob: { role: 'admin' }, carol: {} })
    const { seq } = alice.group.head
    const epoch = alice.group.epoch
    const receipts = await Promise.all([alice.group.remove(carol.client.id), bob.group.remove(carol.client.id)])
    await Promise.all(receipts.map(({ finished }) => finished))
    await inStep(alice.group, bob.group)
    expect(alice.group.epoch).toBe(epoch + 1)
    // The removal and the retiring of the epoch before.
    expect(alice.group.head.seq).toBe(seq + 2)
    expect(bob.group.head).toEqual(alice.group.head)
  })

  test('removing five members is one commit and one epoch', async () => {
    const cast = await castGroup(world, { bob: {}, carol: {}, dave: { role: 'reader' }, erin: {}, frank: { role: 'depositor' } })
    const { alice, ...others } = cast
    const [seq, epoch] = [alice.group.head.seq, alice.group.epoch]
    const gone = Object.values(others)
    const ended = gone.map(({ group }) => nextChange(group, 'ended'))
    const receipt = await alice.group.remove(gone.map(({ client }) => client.id))
    expect([alice.group.head.seq, alice.group.epoch]).toEqual([seq + 1, epoch + 1])
    expect(receipt.epoch).toBe(epoch + 1)
    for (const { error } of await Promise.all(ended)) expect(error.code).toBe('not_a_member')
    for (const { group } of gone) await expect(group.sync()).rejects.toMatchObject({ code: 'not_a_member' })
    await receipt.finished
    expect(activeIds(alice.group)).toEqual([String(alice.client.id)])
  })
})

describe('what members are told', () => {
  test('a removal, a change of role and a new epoch are changes with their author', async () => {
    const { alice, bob, carol } = await castGroup(world, { bob: {}, carol: {} })
    const seen: string[] = []
    bob.group.on((change) => void seen.push(change.type))
    const role = nextChange(bob.group, 'role-changed')
    await alice.group.setRole(carol.client.id, 'reader')
    expect(await role).toMatchObject({ member: carol.client.id, role: 'reader' })
    const removed = nextChange(bob.group, 'member-removed')
    await alice.group.remove(carol.client.id)
    expect(await removed).toMatchObject({ member: carol.client.id, by: alice.client.id })
    await eventually(() => seen.filter((type) => type === 'epoch-opened').length === 2)
  })

  test('changes() ends when one is removed', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const seen: string[] = []
    const reading = (async () => {
      for await (const change of bob.group.changes()) seen.push(change.type)
    })()
    await alice.group.remove(bob.client.id)
    await reading
    expect(seen.at(-1)).toBe('ended')
  })

  test('a listener that throws stops neither the others nor the group', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    // Where it is reported as uncaught.
    const uncaught = vi.spyOn(globalThis, 'queueMicrotask').mockImplementation(() => undefined)
    const stop = bob.group.on(() => {
      throw new Error('by the app')
    })
    const told = nextChange(bob.group, 'epoch-opened')
    await alice.group.rekey()
    await told
    await bob.group.sync()
    expect(bob.group.head).toEqual(alice.group.head)
    expect(uncaught).toHaveBeenCalled()
    stop()
    uncaught.mockRestore()
  })
})
