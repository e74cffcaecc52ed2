/** Epochs that cannot be used as they are, and clients that come through all the same, without connecting again. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Group, GroupChange } from '../../client/node/index.ts'
import { kemKeyId } from '../../shared/crypto/keys.ts'
import { randomBytes } from '../../shared/crypto/public-crypto.ts'
import { ClavigerError } from '../../shared/errors.ts'
import { decodeCommit } from '../../shared/group/commit.ts'
import { wrapEpochSecret } from '../../shared/group/epoch.ts'
import type { GroupState } from '../../shared/group/fold.ts'
import { foldCommit } from '../../shared/group/fold.ts'
import { recipients } from '../../shared/group/roster.ts'
import { WRAPS_PER_RECIPIENT_MAX } from '../../shared/limits.ts'
import type { CastMember } from '../support/cast.ts'
import { castGroup } from '../support/cast.ts'
import { epochContext, forge, freshEpoch } from '../support/forge.ts'
import { secretsIn } from '../../examples/demo/former-member.ts'
import { commitsAfter, rekeysAfter } from '../support/server-log.ts'
import { eventually, nextChange, World } from '../support/world.ts'

let world: World
beforeAll(async () => {
  world = await World.start()
})
afterAll(() => world.close())

const AUTOMATIC = { options: { background: true, jitterMs: 0 } } as const
const keyOf = ({ actor }: CastMember): Uint8Array => kemKeyId(actor.identity.kem.publicKey)
const isHeld = (group: Group): boolean => group.epochs().some(({ isCurrent, isHeld: held }) => isCurrent && held)

async function stateOf(group: Group): Promise<GroupState> {
  let state: GroupState | null = null
  for (const commit of await commitsAfter(world, group.id)) ({ state } = foldCommit(state, commit))
  if (state === null) throw new RangeError('the group has a genesis')
  return state
}

function recordOf(group: Group): GroupChange[] {
  const told: GroupChange[] = []
  group.on((change) => void told.push(change))
  return told
}

/** Puts garbage in place of the wraps that somebody has of the next epoch. */
async function rekeyWithout(author: CastMember, victim: CastMember): Promise<{ close(): void; group: Group }> {
  author.client.close()
  const mallory = await world.mallory()
  const client = await world.connect(author.actor, { url: mallory.url })
  const group = await client.group(author.group.id)
  await group.sync()
  const state = await stateOf(group)
  mallory.lie('commit.submit', (params, truth) => {
    const { state: after } = foldCommit(state, decodeCommit(params.commit))
    const spoilt = keyOf(victim)
    return truth({
      ...params,
      wraps: params.wraps.map((wrap, index) =>
        Buffer.compare(recipients(after.roster)[index]?.kemKeyId ?? spoilt, spoilt) === 0 ? randomBytes(48) : wrap,
      ),
    })
  })
  // Nobody helps for now.
  mallory.event = (event) => (event.type === 'wrap-requested' ? null : event)
  await group.rekey()
  return { close: () => client.close(), group }
}

describe('an epoch that somebody has no good wrap of', () => {
  test('A41: is told to them when it comes, and as soon as somebody has helped they go on, in the same session', async () => {
    const { alice, bob } = await castGroup(world, { bob: AUTOMATIC })
    await bob.group.put('settles what the joins owe')
    await alice.group.sync()
    const told = recordOf(bob.group)
    const { group, close } = await rekeyWithout(alice, bob)
    const { id } = await group.put('new')
    await eventually(() => told.some(({ type }) => type === 'epoch-unavailable'))
    expect(told.find(({ type }) => type === 'epoch-unavailable')).toMatchObject({ epoch: group.epoch, error: { code: 'wrap_invalid' } })
    expect(isHeld(bob.group)).toBe(false)
    close()
    const available = nextChange(bob.group, 'epoch-available')
    const again = await (await world.connect(alice.actor)).group(group.id)
    await again.ready()
    expect(await available).toMatchObject({ epoch: group.epoch })
    expect(isHeld(bob.group)).toBe(true)
    expect(await (await bob.group.get(id)).text()).toBe('new')
  })

  test('A41: and whose wraps are all garbage, so that none can be added, is told and opened over by an admin', async () => {
    const { alice, bob, carol } = await castGroup(world, { bob: {}, carol: { role: 'admin', ...AUTOMATIC } })
    await carol.group.put('settles what the joins owe')
    bob.client.close()
    await alice.group.sync()
    const told = recordOf(carol.group)
    const { group } = await rekeyWithout(alice, bob)
    for (let n = 1; n < WRAPS_PER_RECIPIENT_MAX; n += 1) {
      const columns = 'group_id, epoch, recipient_key, n, wrap, at_seq, offerer'
      await world.sql(`insert into wraps (${columns}) values ($1, $2, $3, $4, $5, 0, $6) on conflict do nothing`, [
        group.id,
        group.epoch,
        keyOf(bob),
        n,
        randomBytes(48),
        randomBytes(32),
      ])
    }
    const unfit = group.epoch
    const again = await (await world.connect(bob.actor)).group(group.id)
    await again.ready()
    await eventually(() => carol.group.epoch > unfit)
    await again.sync()
    expect((await again.put('bob is back')).version).toBe(1)
    const full = told.filter((change) => change.type === 'bad-item' && change.error.code === 'wrap_invalid')
    expect(full[0]).toMatchObject({ error: { data: { epoch: unfit } } })
    expect(carol.group.epoch).toBe(unfit + 1)
  })
})

describe('an epoch whose deposit key is not that of its secret', () => {
  test('is told by everybody who opens it, and opened over once by an admin', async () => {
    const { alice, bob, mallory } = await castGroup(world, { bob: {}, mallory: { role: 'admin' } })
    await bob.group.put('settles what the joins owe')
    for (const { group } of [alice, mallory]) await group.sync()
    alice.client.close()
    const aliceGroup = await (await world.connect(alice.actor, { background: true, jitterMs: 0 })).group(alice.group.id)
    await aliceGroup.ready()
    const told = recordOf(bob.group)

    const state = await stateOf(mallory.group)
    const fresh = await freshEpoch(state, await secretsIn(mallory.actor.store, state.group))
    const rekey = { ...fresh.rekey, depositKey: (await freshEpoch(state)).rekey.depositKey }
    const commit = await forge(state, { author: mallory.actor.identity, rekey, time: Date.now() })
    const { state: after } = foldCommit(state, decodeCommit(commit))
    const { enc, wraps } = await wrapEpochSecret(fresh.secret, epochContext(after, after.roster.epoch), recipients(after.roster))
    const unfit = after.roster.epoch
    await mallory.client.connection.request('commit.submit', {
      group: state.group,
      commit,
      enc,
      wraps: wraps.filter((wrap) => wrap !== null),
      link: fresh.link,
    })

    await bob.group.sync()
    await bob.group.put('opens it').catch(() => undefined)
    await eventually(() => aliceGroup.epoch > unfit)
    expect(aliceGroup.epoch).toBe(unfit + 1)
    await eventually(
      () => told.some((change) => change.type === 'bad-item' && change.error.code === 'rekey_invalid') || bob.group.epoch > unfit,
    )
    await bob.group.put('goes on')
    expect(await rekeysAfter(world, state.group, after.head.seq)).toHaveLength(1)
  })
})

describe('somebody who was removed and added again while away', () => {
  test('is in, though the log comes page by page', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    bob.client.close()
    await alice.group.remove(bob.client.id)
    await alice.group.rekey()
    await alice.group.add(bob.client.identity.cards)
    const { id } = await alice.group.put('welcome back')
    const mallory = await world.mallory()
    mallory.lie('log.read', async (_, truth) => {
      const { commits, head } = await truth()
      return { commits: commits.slice(0, 1), head }
    })
    const group = await (await world.connect(bob.actor, { url: mallory.url })).group(alice.group.id)
    const told = recordOf(group)
    await group.sync()
    expect(group.ended).toBeNull()
    expect(group.role).toBe('member')
    expect(await (await group.get(id)).text()).toBe('welcome back')
    expect(told.filter(({ type }) => type === 'ended')).toEqual([])
  })

  test('and somebody who was only removed is out', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const ended = nextChange(bob.group, 'ended')
    await alice.group.remove(bob.client.id)
    expect((await ended).error.code).toBe('not_a_member')
    await expect(bob.group.put('no')).rejects.toMatchObject({ code: 'not_a_member' })
  })
})

describe('a server that fails', () => {
  test('while the skipped part of the log is checked does not end the check', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    await bob.group.put('settles what the joins owe')
    bob.client.close()
    for (let commit = 0; commit < 200; commit += 1) await alice.group.rekey()
    const mallory = await world.mallory()
    const { seq } = bob.group.head
    let reads = 0
    mallory.lie('log.read', (params, truth) => {
      if (params.from !== seq + 1) return truth()
      reads += 1
      if (reads === 2 || reads === 3) throw new ClavigerError('internal')
      return truth()
    })
    const client = await world.connect(bob.actor, { url: mallory.url })
    const group = await client.group(bob.group.id)
    await group.ready()
    await eventually(() => group.isVerified)
    expect(group.counters.snapshotsTaken).toBe(1)
    expect(reads).toBeGreaterThan(3)
  })
})
