/** Wraps and links that are missing, spoilt or exchanged: everybody finds out, anybody heals, nothing is bricked. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Group, GroupChange } from '../../client/node/index.ts'
import { kemKeyId } from '../../shared/crypto/keys.ts'
import { randomBytes } from '../../shared/crypto/public-crypto.ts'
import { epochPublic, generateEpochSecret, wrapEpochSecret } from '../../shared/group/epoch.ts'
import type { GroupState } from '../../shared/group/fold.ts'
import { decodeCommit } from '../../shared/group/commit.ts'
import { foldCommit } from '../../shared/group/fold.ts'
import { inviteKeys, parseToken } from '../../shared/group/invite.ts'
import { recipients } from '../../shared/group/roster.ts'
import type { CastMember } from '../support/cast.ts'
import { castGroup } from '../support/cast.ts'
import { epochContext } from '../support/forge.ts'
import type { LyingServer } from '../support/lying-server.ts'
import { commitsAfter } from '../support/server-log.ts'
import { eventually, nextChange, World } from '../support/world.ts'

let world: World
beforeAll(async () => {
  world = await World.start()
})
afterAll(() => world.close())

const keyOf = ({ actor }: CastMember): Uint8Array => kemKeyId(actor.identity.kem.publicKey)

async function stateOf(group: Group): Promise<GroupState> {
  let state: GroupState | null = null
  for (const commit of await commitsAfter(world, group.id)) ({ state } = foldCommit(state, commit))
  if (state === null) throw new RangeError('the group has a genesis')
  return state
}

/** Puts other wraps in place of those that travel beside the next rekeys; true for those that are to be kept. */
function spoil(mallory: LyingServer, state: GroupState, isKept: (recipient: Uint8Array) => boolean): void {
  mallory.lie('commit.submit', (params, truth) => {
    const { state: after } = foldCommit(state, decodeCommit(params.commit))
    const wraps = recipients(after.roster).map(({ kemKeyId: id }, index) =>
      isKept(id) ? (params.wraps[index] ?? new Uint8Array(48)) : randomBytes(48),
    )
    return truth({ ...params, wraps })
  })
}

const isSame = (left: Uint8Array, right: Uint8Array): boolean => Buffer.compare(left, right) === 0

describe('a wrap', () => {
  test('A20: that the server has deleted is asked for by its owner, supplied by any member, and everything opens', async () => {
    const { alice, bob } = await castGroup(world, { bob: {}, carol: {} })
    bob.client.close()
    await alice.group.rekey()
    const { id } = await alice.group.put('for everybody')
    await world.sql('delete from wraps where group_id = $1 and recipient_key = $2', [alice.group.id, keyOf(bob)])
    const healed = nextChange(alice.group, 'healed')
    const again = await (await world.connect(bob.actor)).group(alice.group.id)
    await again.ready()
    await healed
    expect(await (await again.get(id)).text()).toBe('for everybody')
    const { id: own } = await again.put('and back')
    expect(await (await alice.group.get(own)).text()).toBe('and back')
  })

  test('A20: is supplied by whoever comes online next, when nobody is there to ask', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    bob.client.close()
    await alice.group.rekey()
    const { id } = await alice.group.put('later')
    alice.client.close()
    await world.sql('delete from wraps where group_id = $1 and recipient_key = $2', [alice.group.id, keyOf(bob)])
    const bobGroup = await (await world.connect(bob.actor)).group(alice.group.id)
    await expect(bobGroup.get(id)).rejects.toMatchObject({ code: 'wrap_invalid' })
    const aliceGroup = await (await world.connect(alice.actor)).group(alice.group.id)
    await aliceGroup.ready()
    expect(await (await bobGroup.get(id)).text()).toBe('later')
  })

  test('is supplied also by a member who has not opened the epoch yet', async () => {
    const { alice, bob, carol } = await castGroup(world, { bob: {}, carol: {} })
    bob.client.close()
    await alice.group.rekey()
    await carol.group.sync()
    alice.client.close()
    expect(carol.group.epochs().find(({ isCurrent }) => isCurrent)?.isHeld).toBe(false)
    await world.sql('delete from wraps where group_id = $1 and recipient_key = $2', [alice.group.id, keyOf(bob)])
    const healed = nextChange(carol.group, 'healed')
    const again = await (await world.connect(bob.actor)).group(alice.group.id)
    await again.ready()
    await healed
    expect((await again.put('open')).version).toBe(1)
  })

  test('A41: that is garbage for one member leaves them readable on the last epoch until somebody heals it', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const { id: before } = await alice.group.put('before')
    await bob.group.get(before)
    alice.client.close()
    const mallory = await world.mallory()
    const lied = await (await world.connect(alice.actor, { url: mallory.url })).group(alice.group.id)
    await lied.ready()
    spoil(mallory, await stateOf(lied), (recipient) => !isSame(recipient, keyOf(bob)))
    // Nobody answers for now.
    mallory.event = (event) => (event.type === 'wrap-requested' ? null : event)
    const told: GroupChange[] = []
    bob.group.on((change) => void told.push(change))
    await lied.rekey()
    const { id: after } = await lied.put('after')
    await bob.group.sync()
    await expect(bob.group.get(after)).rejects.toMatchObject({ code: 'wrap_invalid' })
    await expect(bob.group.put('no key')).rejects.toMatchObject({ code: 'wrap_invalid' })
    expect(told.filter(({ type }) => type === 'epoch-unavailable')).toMatchObject([{ epoch: lied.epoch }])
    expect(await (await bob.group.get(before)).text()).toBe('before')
    mallory.event = (event) => event
    mallory.relent('commit.submit')
    mallory.cut()
    await lied.sync()
    await eventually(async () => (await bob.group.get(after).catch(() => null)) !== null)
    expect(await (await bob.group.get(after)).text()).toBe('after')
    await bob.group.put('has the key')
  })

  test('A19, A23: that was exchanged for one of the attacker’s own secret opens nothing, and nothing is sealed with it', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    bob.client.close()
    await alice.group.rekey()
    const { id } = await alice.group.put('true')
    const state = await stateOf(alice.group)
    const chosen = generateEpochSecret()
    const honest = epochContext(state, state.roster.epoch)
    const own = { ...honest, ...(await epochPublic(chosen, { suite: 1, epoch: honest.epoch })) }
    const healed = nextChange(alice.group, 'healed')
    const position = recipients(state.roster).findIndex(({ kemKeyId: recipient }) => isSame(recipient, keyOf(bob)))
    const [first, second] = await Promise.all(
      [honest, own].map(async (at) => (await wrapEpochSecret(chosen, at, recipients(state.roster))).wraps[position]),
    )
    await world.sql('update wraps set wrap = $3 where group_id = $1 and recipient_key = $2 and epoch = $4', [
      alice.group.id,
      keyOf(bob),
      first,
      honest.epoch,
    ])
    await world.sql('insert into wraps (group_id, epoch, recipient_key, n, wrap, at_seq) values ($1, $2, $3, 1, $4, 0)', [
      alice.group.id,
      honest.epoch,
      keyOf(bob),
      second,
    ])
    const again = await (await world.connect(bob.actor)).group(alice.group.id)
    await again.ready()
    await healed
    const { id: written } = await again.put('sealed under the true epoch')
    expect(await (await again.get(id)).text()).toBe('true')
    expect(await (await alice.group.get(written)).text()).toBe('sealed under the true epoch')
  })

  test('A19: of another group or epoch opens nothing here', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const other = await alice.client.createGroup()
    await other.add(bob.client.identity.cards)
    bob.client.close()
    await alice.group.rekey()
    const elsewhere = await world.sql<{ wrap: Uint8Array }>('select wrap from wraps where group_id = $1 and recipient_key = $2', [
      other.id,
      keyOf(bob),
    ])
    await world.sql('update wraps set wrap = $3 where group_id = $1 and recipient_key = $2 and epoch = $4', [
      alice.group.id,
      keyOf(bob),
      elsewhere[0]?.wrap,
      alice.group.epoch,
    ])
    alice.client.close()
    const again = await (await world.connect(bob.actor)).group(alice.group.id)
    await expect(again.put('no')).rejects.toMatchObject({ code: 'wrap_invalid' })
  })

  test('A76: of a member who is away, or of an open invite, is found bad and healed before they need it', async () => {
    const { alice, bob, carol } = await castGroup(world, { bob: { options: { background: true, jitterMs: 0 } }, carol: {} })
    const token = await alice.group.invite({ maxUses: 2 })
    carol.client.close()
    alice.client.close()
    const mallory = await world.mallory()
    const lied = await (await world.connect(alice.actor, { url: mallory.url })).group(alice.group.id)
    await lied.ready()
    const invited = kemKeyId((await inviteKeys(parseToken(token).secret, 1)).kem.publicKey)
    spoil(mallory, await stateOf(lied), (recipient) => !isSame(recipient, keyOf(carol)) && !isSame(recipient, invited))
    const healed = nextChange(bob.group, 'healed')
    await lied.rekey()
    expect(await healed).toMatchObject({ epoch: lied.epoch, wraps: 2 })
    lied.close()
    const watcher = await world.mallory()
    const again = await (await world.connect(carol.actor, { url: watcher.url })).group(alice.group.id)
    await again.ready()
    expect(watcher.count('wrap.request')).toBe(0)
    expect(again.epochs().find(({ isCurrent }) => isCurrent)?.isHeld).toBe(true)
    expect((await (await world.connect(await world.person('dave'))).join(token)).role).toBe('member')
  })

  test('is not given to a recipient whom only the server names', async () => {
    const { alice } = await castGroup(world, { bob: {} })
    const liar = await world.person('mallory')
    const mallory = await world.mallory()
    const lied = await (await world.connect(alice.actor, { url: mallory.url })).group(alice.group.id)
    await lied.ready()
    const refused = new Promise<void>((resolve) => {
      mallory.lie('head.list', async (_params, truth) => {
        resolve()
        return truth()
      })
    })
    mallory.say({ type: 'wrap-requested', group: lied.id, epoch: lied.epoch, recipient: kemKeyId(liar.identity.kem.publicKey) })
    mallory.lie('wrap.requests', () => ({ epoch: lied.epoch, recipients: [kemKeyId(liar.identity.kem.publicKey)] }))
    mallory.cut()
    await lied.sync()
    await refused
    expect(mallory.count('wrap.offer')).toBe(0)
    expect(mallory.count('wrap.requests')).toBeGreaterThan(1)
  })
})

describe('an epoch that nobody but its author can open (A70)', () => {
  /** Mallory, an admin, rekeys with garbage for everybody else. */
  async function stranded(): Promise<{
    alice: CastMember
    bob: CastMember
    lied: Group
    malloryActor: CastMember['actor']
    before: Uint8Array
  }> {
    const { alice, bob, mallory: villain } = await castGroup(world, { bob: {}, mallory: { role: 'admin' } })
    const { id: before } = await bob.group.put('before')
    await alice.group.get(before)
    villain.client.close()
    const server = await world.mallory()
    server.event = (event) => (event.type === 'wrap-requested' ? null : event)
    const client = await world.connect(villain.actor, { url: server.url })
    const lied = await client.group(alice.group.id)
    await lied.ready()
    spoil(server, await stateOf(lied), (recipient) => isSame(recipient, keyOf(villain)))
    await lied.rekey()
    return { alice, bob, lied, malloryActor: villain.actor, before }
  }

  test('does not stop the group: another admin opens the next one over it, and its objects open again once a holder is back', async () => {
    const { alice, bob, lied, malloryActor } = await stranded()
    const { id: sealed } = await lied.put('under the stranded epoch')
    const { epoch } = lied
    lied.close()
    await alice.group.sync()
    await expect(alice.group.put('no key')).rejects.toMatchObject({ code: 'wrap_invalid' })
    await alice.group.rekey()
    expect(alice.group.epoch).toBe(epoch + 1)
    const { id: after } = await alice.group.put('and goes on')
    expect(await (await bob.group.get(after)).text()).toBe('and goes on')
    await expect(bob.group.get(sealed)).rejects.toMatchObject({ code: 'epoch_unavailable' })

    const returned = await (await world.connect(malloryActor, { background: true, jitterMs: 0 })).group(alice.group.id)
    await returned.ready()
    await eventually(async () => (await bob.group.get(sealed).catch(() => null)) !== null)
    expect(await (await bob.group.get(sealed)).text()).toBe('under the stranded epoch')
    expect(await (await alice.group.get(sealed)).text()).toBe('under the stranded epoch')
    const outcome = await alice.group.rewrap()
    expect(outcome).toMatchObject({ retiredThrough: alice.group.epoch - 1, unopenable: 0 })
    expect(await (await bob.group.get(sealed)).text()).toBe('under the stranded epoch')
  })

  test('is not retired, and loses nothing, before that', async () => {
    const { alice, lied } = await stranded()
    const { id: sealed } = await lied.put('under the stranded epoch')
    lied.close()
    await alice.group.sync()
    await alice.group.rekey()
    await alice.group.rewrap().catch(() => undefined)
    const [seals] = await world.sql<{ count: number }>('select count(*) as count from loose_deks where group_id = $1 and object_id = $2', [
      alice.group.id,
      sealed,
    ])
    expect(seals?.count).toBe(1)
    expect(alice.group.retiredThrough).toBeLessThan(lied.epoch)
  })

  test('can be removed together with its author', async () => {
    const { alice, bob, malloryActor, before } = await stranded()
    await alice.group.sync()
    const receipt = await alice.group.remove(malloryActor.identity.id)
    const { id } = await bob.group.put('without mallory')
    expect(await (await alice.group.get(id)).text()).toBe('without mallory')
    expect((await receipt.finished).retiredThrough).toBe(receipt.epoch - 1)
    expect(await (await bob.group.get(before as typeof id)).text()).toBe('before')
  })
})

describe('a link', () => {
  test('that is garbage, or gone from the database, is supplied again by whoever holds both epochs', async () => {
    for (const spoilt of ['garbage', 'gone'] as const) {
      const watcher = await world.mallory()
      const { alice, bob } = await castGroup(world, { bob: { options: { background: true, jitterMs: 0, url: watcher.url } } })
      const { id } = await alice.group.put('old')
      await bob.group.get(id)
      const carol = await world.connect(await world.person('carol'))
      const token = await alice.group.invite()
      const audits = watcher.count('wrap.read')
      await alice.group.rekey()
      await eventually(() => watcher.count('wrap.read') > audits)
      if (spoilt === 'garbage') await world.sql('update links set link = $2 where group_id = $1', [alice.group.id, randomBytes(48)])
      else await world.sql('delete from links where group_id = $1', [alice.group.id])
      const joined = await carol.join(token)
      await expect(joined.get(id)).rejects.toMatchObject({ code: 'epoch_unavailable' })
      await alice.group.rekey()
      await eventually(async () => (await joined.get(id).catch(() => null)) !== null)
      expect(await (await joined.get(id)).text()).toBe('old')
      bob.client.close()
    }
  })
})
