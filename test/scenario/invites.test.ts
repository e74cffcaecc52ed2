import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Group } from '../../client/node/index.ts'
import { castGroup } from '../support/cast.ts'
import { commitsAfter } from '../support/server-log.ts'
import { eventually, nextChange, World } from '../support/world.ts'

let world: World
beforeAll(async () => {
  world = await World.start()
})
afterAll(() => world.close())

const activeCount = (group: Group): number => group.members().filter(({ state }) => state === 'active').length
const hasExpired = (group: Group, count = 1): boolean => group.invites().filter(({ expiresAt }) => expiresAt < Date.now()).length === count

describe('an invite', () => {
  test('gives the role it was made with', async () => {
    const { alice } = await castGroup(world, {})
    const dave = await (await world.connect(await world.person('dave'))).join(await alice.group.invite({ role: 'reader' }))
    expect(dave.role).toBe('reader')
    await alice.group.sync()
    expect(alice.group.members().at(-1)).toMatchObject({ role: 'reader', state: 'active' })
    expect(alice.group.members().at(-1)?.via).not.toBe(null)
  })

  test('is used up after as many joins as it was made for', async () => {
    const { alice } = await castGroup(world, {})
    const token = await alice.group.invite({ maxUses: 3 })
    for (let use = 0; use < 3; use += 1) await (await world.connect(await world.person('joiner'))).join(token)
    const late = await world.connect(await world.person('late'))
    await expect(late.join(token)).rejects.toMatchObject({ code: 'invite_spent' })
    await alice.group.sync()
    expect(alice.group.invites()).toEqual([])
    expect(activeCount(alice.group)).toBe(4)
  })

  test('joining again with a token one has used gives the same group', async () => {
    const { alice } = await castGroup(world, {})
    const token = await alice.group.invite()
    const actor = await world.person('bob')
    const bob = await world.connect(actor)
    const [first, second] = await Promise.all([bob.join(token), bob.join(token)])
    expect(second).toBe(first)
    expect(await bob.join(token)).toBe(first)
    bob.close()
    const again = await world.connect(actor)
    expect((await again.join(token)).role).toBe('member')
    await alice.group.sync()
    expect(activeCount(alice.group)).toBe(2)
  })

  test('A49: fifty clients race one token for a single use, and one of them becomes a member', async () => {
    const { alice } = await castGroup(world, {})
    const token = await alice.group.invite()
    const racers = await Promise.all(Array.from({ length: 50 }, async () => world.connect(await world.person('racer'))))
    const outcomes = await Promise.allSettled(racers.map((racer) => racer.join(token)))
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
    for (const outcome of outcomes) if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'invite_spent' })
    await alice.group.sync()
    expect(activeCount(alice.group)).toBe(2)
    const losers = racers.filter((_, position) => outcomes[position]?.status === 'rejected')
    for (const loser of losers) expect(await loser.groups()).toEqual([])
    for (const racer of racers) racer.close()
  })

  test('ten clients who join at once with a token for ten all get in', async () => {
    const { alice } = await castGroup(world, {})
    const token = await alice.group.invite({ maxUses: 10 })
    const racers = await Promise.all(Array.from({ length: 10 }, async () => world.connect(await world.person('racer'))))
    const groups = await Promise.all(racers.map((racer) => racer.join(token)))
    expect(groups.every(({ role }) => role === 'member')).toBe(true)
    await alice.group.sync()
    expect(activeCount(alice.group)).toBe(11)
    for (const racer of racers) racer.close()
  })

  test('that is revoked lets nobody in, and opens a new epoch', async () => {
    const { alice } = await castGroup(world, {})
    const token = await alice.group.invite()
    const [invite] = alice.group.invites()
    const { epoch } = alice.group
    if (invite !== undefined) await alice.group.revokeInvite(invite.id)
    expect(alice.group.epoch).toBe(epoch + 1)
    const bob = await world.connect(await world.person('bob'))
    await expect(bob.join(token)).rejects.toMatchObject({ code: 'invite_spent' })
  })

  test('a token that is cut short, changed or of another kind is refused without a word to the server', async () => {
    const { alice } = await castGroup(world, {})
    const token = await alice.group.invite()
    const mallory = await world.mallory()
    const bob = await world.connect(await world.person('bob'), { url: mallory.url })
    for (const bad of [token.slice(0, -4), `${token}A`, token.replace('clv1.', 'clv2.'), 'clv1.', '', 'hello']) {
      await expect(async () => bob.join(bad)).rejects.toMatchObject({ code: 'invite_invalid' })
    }
    expect(mallory.requests).toEqual([])
  })

  test('a token of another group’s invite joins nothing here', async () => {
    const { alice } = await castGroup(world, {})
    const other = await castGroup(world, {})
    const token = await other.alice.group.invite()
    const bob = await world.connect(await world.person('bob'))
    const group = await bob.join(token)
    expect(group.id).toEqual(other.alice.group.id)
    await expect(group.get((await alice.group.put('elsewhere')).id)).rejects.toMatchObject({ code: 'not_found' })
  })
})

describe('an expired invite', () => {
  test('is refused by the server’s clock, whatever the joiner’s says', async () => {
    const { alice } = await castGroup(world, {})
    const token = await alice.group.invite({ expiresIn: 30 })
    const yesterday = { now: () => Date.now() - 86_400_000 }
    await eventually(() => hasExpired(alice.group))
    const bob = await world.connect(await world.person('bob'), yesterday)
    await expect(bob.join(token)).rejects.toMatchObject({ code: 'invite_expired' })
    expect(await bob.groups()).toEqual([])
  })

  test('is revoked with the next rekey, whoever makes it', async () => {
    const { alice, bob, carol } = await castGroup(world, { bob: {}, carol: {} })
    await alice.group.rekey()
    await alice.group.invite({ expiresIn: 1 })
    await alice.group.invite({ expiresIn: 1, mode: 'approve' })
    const kept = await alice.group.invite({ expiresIn: '1h' })
    await bob.group.leave()
    await eventually(() => hasExpired(alice.group, 2))
    await carol.group.sync()
    await carol.group.put('settles what is owed')
    expect(carol.group.invites()).toHaveLength(1)
    const dave = await (await world.connect(await world.person('dave'))).join(kept)
    expect(dave.role).toBe('member')
  })

  test('does not stand in the way of removing the admin who made it', async () => {
    const { alice, bob } = await castGroup(world, { bob: { role: 'admin' } })
    await bob.group.invite({ expiresIn: 1 })
    await alice.group.sync()
    await eventually(() => hasExpired(alice.group))
    await alice.group.remove(bob.client.id)
    expect(alice.group.invites()).toEqual([])
  })

  test('is revoked in the background, with a new epoch, and nobody writes anything', async () => {
    const { alice, bob } = await castGroup(world, { bob: { options: { background: true, jitterMs: 10 } } })
    await alice.group.rekey()
    await bob.group.sync()
    const { epoch, head } = bob.group
    const revoked = nextChange(bob.group, 'invite-revoked')
    const opened = nextChange(bob.group, 'epoch-opened')
    await alice.group.invite({ expiresIn: 50 })
    await Promise.all([revoked, opened])
    expect(bob.group.epoch).toBe(epoch + 1)
    await alice.group.sync()
    expect(alice.group.invites()).toEqual([])
    expect(await commitsAfter(world, alice.group.id, head.seq)).toHaveLength(2)
  })
})

describe('joining', () => {
  test('an abort ends the wait for an approval, and nothing of the group is kept', async () => {
    const { alice } = await castGroup(world, {})
    const token = await alice.group.invite({ mode: 'approve' })
    const actor = await world.person('bob')
    const bob = await world.connect(actor)
    const stop = new AbortController()
    await expect(bob.join(token, { signal: stop.signal, onWaiting: () => stop.abort() })).rejects.toMatchObject({ name: 'AbortError' })
    expect(await bob.groups()).toEqual([])
    const once = new AbortController()
    once.abort()
    await expect(bob.join(await alice.group.invite(), { signal: once.signal })).rejects.toMatchObject({ name: 'AbortError' })
    expect((await bob.join(await alice.group.invite())).role).toBe('member')
  })

  test('an abort ends the wait for a server that is not there', async () => {
    const { alice } = await castGroup(world, {})
    const token = await alice.group.invite()
    const proxy = await world.proxy()
    const bob = await world.connect(await world.person('bob'), { url: proxy.url })
    proxy.refuse()
    await eventually(() => bob.connection.session === null)
    const stop = new AbortController()
    const joining = bob.join(token, { signal: stop.signal })
    stop.abort()
    await expect(joining).rejects.toMatchObject({ name: 'AbortError' })
  })

  test('a join whose answer is lost is recognised, not doubled', async () => {
    const { alice } = await castGroup(world, {})
    const token = await alice.group.invite({ maxUses: 5 })
    const mallory = await world.mallory()
    const bob = await world.connect(await world.person('bob'), { url: mallory.url })
    let cuts = 0
    mallory.lie('commit.submit', async (_params, truth) => {
      const answer = await truth()
      cuts += 1
      if (cuts === 1) mallory.cut()
      return answer
    })
    const group = await bob.join(token)
    expect(cuts).toBeGreaterThan(0)
    expect(group.role).toBe('member')
    await alice.group.sync()
    expect(activeCount(alice.group)).toBe(2)
    expect(alice.group.invites()[0]?.uses).toBe(1)
  })

  test('a join goes on in the next session when the connection breaks before any of its steps', async () => {
    const { alice } = await castGroup(world, {})
    for (const method of ['invite.open', 'log.snapshot', 'log.read', 'epoch.read', 'commit.submit'] as const) {
      const token = await alice.group.invite()
      const mallory = await world.mallory()
      const bob = await world.connect(await world.person('bob'), { url: mallory.url })
      let isBroken = false
      mallory.lie(method, (_params, truth) => {
        if (isBroken) return truth()
        isBroken = true
        mallory.cut()
        return truth()
      })
      expect((await bob.join(token)).role).toBe('member')
      expect(isBroken).toBe(true)
      bob.close()
    }
  })

  test('a client that was killed in mid-join finds itself a member, or joins again', async () => {
    const { alice } = await castGroup(world, {})
    for (const reaches of [true, false]) {
      const token = await alice.group.invite()
      const mallory = await world.mallory()
      const actor = await world.person('bob')
      const bob = await world.connect(actor, { url: mallory.url })
      const killed = new Promise<void>((resolve) => {
        mallory.lie('commit.submit', async (_params, truth) => {
          const answer = reaches ? await truth() : null
          bob.close()
          resolve()
          return answer ?? truth()
        })
      })
      await Promise.all([expect(bob.join(token)).rejects.toMatchObject({ code: 'closed' }), killed])
      mallory.cut()
      const again = await world.connect(actor)
      const group = await again.join(token)
      expect(group.role).toBe('member')
      await group.put('here')
    }
  })
})
