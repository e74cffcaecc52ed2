/** A61: answers that are lost after the server has acted, requests that are lost before, and clients killed in between. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Group } from '../../client/node/index.ts'
import { GroupStore } from '../../client/group-store.ts'
import type { CastMember } from '../support/cast.ts'
import { castGroup } from '../support/cast.ts'
import type { LyingServer } from '../support/lying-server.ts'
import { SILENCE } from '../support/lying-server.ts'
import { commitsAfter } from '../support/server-log.ts'
import { eventually, World } from '../support/world.ts'

let world: World
beforeAll(async () => {
  world = await World.start()
})
afterAll(() => world.close())

/** Cuts the connection just before the server sees a commit, or just before the client sees the answer. */
function loseOnce(
  mallory: LyingServer,
  method: 'commit.submit' | 'object.put' | 'group.create',
  what: 'request' | 'answer',
  times = 1,
): void {
  let left = times
  mallory.lie(method, async (_params, truth) => {
    if (left === 0) return truth()
    left -= 1
    if (what === 'answer') await truth()
    mallory.cut()
    return SILENCE
  })
}

/** Alice, behind mallory, with bob, carol and an invite. */
async function behind(mallory: LyingServer): Promise<{ alice: CastMember; bob: CastMember; carol: CastMember; group: Group }> {
  const cast = await castGroup(world, { bob: { role: 'admin' }, carol: {} })
  await cast.alice.group.rekey()
  await cast.alice.group.invite({ maxUses: 3 })
  cast.alice.client.close()
  const group = await (await world.connect(cast.alice.actor, { url: mallory.url })).group(cast.alice.group.id)
  await group.ready()
  return { ...cast, group }
}

/** Everything that is a commit. */
const COMMITS: Readonly<Record<string, (cast: Awaited<ReturnType<typeof behind>>) => Promise<unknown>>> = {
  rekey: ({ group }) => group.rekey(),
  invite: ({ group }) => group.invite(),
  'revoke-invite': async ({ group }) => {
    const [invite] = group.invites()
    if (invite !== undefined) await group.revokeInvite(invite.id)
  },
  'set-role': ({ group, carol }) => group.setRole(carol.client.id, 'reader'),
  remove: async ({ group, carol }) => (await group.remove(carol.client.id)).finished,
  add: async ({ group }) => group.add((await world.person('dave')).identity.cards),
  leave: ({ group }) => group.leave(),
}

describe('a commit', () => {
  for (const [name, make] of Object.entries(COMMITS)) {
    for (const what of name === 'rekey' ? (['answer', 'request'] as const) : (['answer'] as const)) {
      test(`whose ${what} is lost is made exactly once (${name})`, async () => {
        const mallory = await world.mallory()
        const cast = await behind(mallory)
        const { seq } = cast.group.head
        loseOnce(mallory, 'commit.submit', what)
        await make(cast)
        // A removal also retires the epochs before it.
        const made = (await commitsAfter(world, cast.group.id, seq)).filter(({ payload }) =>
          payload.ops.every(({ type }) => type !== 'retire-epoch'),
        )
        expect(made).toHaveLength(1)
        if (name === 'leave') return
        await cast.bob.group.sync()
        await cast.group.sync()
        expect(cast.group.head).toEqual(cast.bob.group.head)
        const { id } = await cast.group.put('goes on')
        expect(await (await cast.bob.group.get(id)).text()).toBe('goes on')
        expect(await new GroupStore(cast.alice.actor.store, cast.group.id).loadPending()).toBe(null)
      })
    }
  }

  test('whose answer is lost again and again, even while the log is asked for it, is made once', async () => {
    const mallory = await world.mallory()
    const { group, bob } = await behind(mallory)
    const { epoch } = group
    loseOnce(mallory, 'commit.submit', 'answer', 3)
    let cuts = 2
    mallory.lie('log.read', (_params, truth) => {
      if (cuts === 0) return truth()
      cuts -= 1
      mallory.cut()
      return SILENCE
    })
    await group.rekey()
    expect(group.epoch).toBe(epoch + 1)
    await bob.group.sync()
    expect(bob.group.epoch).toBe(epoch + 1)
  })

  test('that somebody else overtook while its request was lost is planned again', async () => {
    const mallory = await world.mallory()
    const { group, bob, carol } = await behind(mallory)
    let isLost = false
    mallory.lie('commit.submit', async (_params, truth) => {
      if (isLost) return truth()
      isLost = true
      await bob.group.rekey()
      mallory.cut()
      return SILENCE
    })
    const receipt = await group.remove(carol.client.id)
    expect(receipt.epoch).toBe(group.epoch)
    await bob.group.sync()
    expect(bob.group.members().find(({ id }) => String(id) === String(carol.client.id))?.state).toBe('removed')
    await receipt.finished
  })

  test('of the genesis whose answer is lost makes one group', async () => {
    const mallory = await world.mallory()
    const client = await world.connect(await world.person('alice'), { url: mallory.url })
    loseOnce(mallory, 'group.create', 'answer')
    const group = await client.createGroup({ name: 'Once' })
    const rows = await world.sql('select 1 from groups where created_by = $1', [client.id])
    expect(rows).toHaveLength(1)
    expect(group.name).toBe('Once')
  })

  test('gives up in bounded time when others are always first (A16), with nothing changed', { timeout: 30_000 }, async () => {
    const mallory = await world.mallory()
    const { group, bob, carol } = await behind(mallory)
    let overtaken = 0
    mallory.lie('commit.submit', async (_params, truth) => {
      overtaken += 1
      await bob.group.invite({ mode: 'approve' })
      return truth()
    })
    await expect(group.remove(carol.client.id)).rejects.toMatchObject({ code: 'gave_up' })
    expect(overtaken).toBe(16)
    mallory.relent('commit.submit')
    await group.sync()
    expect(group.members().find(({ id }) => String(id) === String(carol.client.id))?.state).toBe('active')
    await group.remove(carol.client.id)
  })
})

describe('a client that is killed while it waits for the answer to a commit', () => {
  for (const what of ['answer', 'request'] as const) {
    test(`knows after its restart what became of it (lost ${what})`, async () => {
      const mallory = await world.mallory()
      const { group, alice, bob } = await behind(mallory)
      const { epoch } = group
      const store = new GroupStore(alice.actor.store, group.id)
      let isLost = false
      mallory.lie('commit.submit', async (_params, truth) => {
        if (what === 'answer') await truth()
        isLost = true
        return SILENCE
      })
      const rekeying = group.rekey()
      rekeying.catch(() => undefined)
      await eventually(() => isLost)
      group.close()
      mallory.cut()
      expect((await store.loadPending())?.epoch).toBe(epoch + 1)

      const again = await (await world.connect(alice.actor)).group(group.id)
      await again.ready()
      expect(again.epoch).toBe(what === 'answer' ? epoch + 1 : epoch)
      expect(await store.loadPending()).toBe(null)
      // The secret was in the journal: it takes no wrap to go on.
      expect(again.counters.wrapsOpened).toBe(0)
      const { id } = await again.put('goes on')
      expect(await (await bob.group.get(id)).text()).toBe('goes on')
      await again.rekey()
      await bob.group.sync()
      expect(bob.group.epoch).toBe(again.epoch)
    })
  }

  test('keeps the journal until it has reached the server', async () => {
    const mallory = await world.mallory()
    const { group, alice } = await behind(mallory)
    const store = new GroupStore(alice.actor.store, group.id)
    let isLost = false
    mallory.lie('commit.submit', async (_params, truth) => {
      await truth()
      isLost = true
      return SILENCE
    })
    group.rekey().catch(() => undefined)
    await eventually(() => isLost)
    group.close()
    mallory.cut()
    // The next start does not get far.
    const second = await world.mallory()
    second.lie('log.read', () => SILENCE)
    const client = await world.connect(alice.actor, { url: second.url })
    await client.group(group.id)
    await eventually(() => second.count('log.read') > 0)
    client.close()
    expect(await store.loadPending()).not.toBe(null)
    const again = await (await world.connect(alice.actor)).group(group.id)
    await again.ready()
    expect(again.epochs().find(({ isCurrent }) => isCurrent)?.isHeld).toBe(true)
    expect(again.counters.wrapsOpened).toBe(0)
  })
})

describe('a write', () => {
  for (const what of ['answer', 'request'] as const) {
    test(`whose ${what} is lost is written exactly once`, async () => {
      const mallory = await world.mallory()
      const { group, bob } = await behind(mallory)
      loseOnce(mallory, 'object.put', what)
      const { id, version } = await group.put('once')
      expect(version).toBe(1)
      loseOnce(mallory, 'object.put', what)
      expect((await group.put('twice', { id })).version).toBe(2)
      expect(await bob.group.list()).toEqual([id])
      const read = await bob.group.get(id)
      expect([read.version, await read.text()]).toEqual([2, 'twice'])
    })
  }
})
