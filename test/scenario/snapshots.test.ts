/** Snapshots: catching up flat in the number of missed commits, and what they are worth. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Group } from '../../client/node/index.ts'
import { generateEpochSecret, epochPublic, wrapEpochSecret } from '../../shared/group/epoch.ts'
import { decodeCommit } from '../../shared/group/commit.ts'
import type { GroupState } from '../../shared/group/fold.ts'
import { foldCommit } from '../../shared/group/fold.ts'
import { appendCommit, consistencyPath } from '../../shared/group/history.ts'
import type { Roster } from '../../shared/group/roster.ts'
import { encodeRoster, recipients, rosterHash } from '../../shared/group/roster.ts'
import { SNAPSHOT_JUMP_COMMITS } from '../../shared/limits.ts'
import type { CastMember } from '../support/cast.ts'
import { castGroup } from '../support/cast.ts'
import { anyHash, epochContext, signPayload } from '../support/forge.ts'
import type { LyingServer } from '../support/lying-server.ts'
import type { Person } from '../support/people.ts'
import { person } from '../support/people.ts'
import { commitsAfter } from '../support/server-log.ts'
import { eventually, nextChange, World } from '../support/world.ts'

const MISSED = SNAPSHOT_JUMP_COMMITS + 72

let world: World
let alice: CastMember
let bob: CastMember
/** Where bob was when he went away. */
let before: GroupState
beforeAll(async () => {
  world = await World.start()
  ;({ alice, bob } = await castGroup(world, { bob: { role: 'admin' } }))
  await bob.group.put('before')
  before = await stateAt(bob.group.head.seq)
  bob.client.close()
  await manyCommits(alice.group, MISSED)
  await alice.group.put('after')
})
afterAll(() => world.close())

async function manyCommits(group: Group, count: number): Promise<void> {
  for (let commit = 0; commit < count; commit += 1) await group.rekey()
}

async function stateAt(seq: number): Promise<GroupState> {
  let state: GroupState | null = null
  for (const commit of await commitsAfter(world, alice.group.id)) if (commit.payload.seq <= seq) ({ state } = foldCommit(state, commit))
  if (state === null) throw new RangeError('the group has a genesis')
  return state
}

/** A copy of bob as he was when he went away. */
async function bobAway(): Promise<CastMember['actor']> {
  const actor = await world.person('bob')
  await actor.store.write(new Map(await bob.actor.store.getAll('')))
  return { ...bob.actor, store: actor.store }
}

/** Bob comes back to a server that holds the commits he missed back, until told otherwise. */
async function bobReturns(): Promise<{ group: Group; mallory: LyingServer; release: () => void }> {
  const mallory = await world.mallory()
  let release: () => void = () => undefined
  const released = new Promise<void>((resolve) => {
    release = resolve
  })
  let reads = 0
  mallory.lie('log.read', async (params, truth) => {
    reads += 1
    // The first tells how far the head is, the second that nothing follows the snapshot’s last commits.
    if (params.from === before.head.seq + 1 && reads > 1) await released
    return truth()
  })
  const client = await world.connect(await bobAway(), { url: mallory.url })
  const group = await client.group(alice.group.id)
  await group.ready()
  return { group, mallory, release }
}

describe('a member who missed more than a hundred commits', () => {
  test('takes a snapshot by an admin it trusts, reads and writes at once, and decides nothing before the rest is checked', async () => {
    const { group, release } = await bobReturns()
    expect(group.isVerified).toBe(false)
    expect(group.epoch).toBe(alice.group.epoch)
    expect(group.counters).toMatchObject({ snapshotsTaken: 1, wrapsOpened: 1 })
    expect(group.counters.commitsFolded).toBeLessThan(SNAPSHOT_JUMP_COMMITS)
    expect(await group.list()).toHaveLength(2)
    const { id } = await group.put('written meanwhile')
    expect(await (await alice.group.get(id)).text()).toBe('written meanwhile')
    const carol = await world.person('carol')
    await expect(group.rekey()).rejects.toMatchObject({ code: 'unverified' })
    await expect(group.invite()).rejects.toMatchObject({ code: 'unverified' })
    await expect(group.add(carol.identity.cards)).rejects.toMatchObject({ code: 'unverified' })
    await expect(group.remove(alice.client.id)).rejects.toMatchObject({ code: 'unverified' })
    const verified = nextChange(group, 'verified')
    release()
    await verified
    await group.verified()
    expect(group.isVerified).toBe(true)
    await group.rekey()
    await alice.group.sync()
    expect(alice.group.epoch).toBe(group.epoch)
    expect(alice.group.head).toEqual(group.head)
  })

  test('goes on checking after a restart in the middle of it', async () => {
    const mallory = await world.mallory()
    const actor = await bobAway()
    let reads = 0
    mallory.lie('log.read', (params, truth) => {
      reads += 1
      return reads === 1 || params.from > before.head.seq + 1 ? truth() : new Promise<never>(() => undefined)
    })
    const first = await world.connect(actor, { url: mallory.url })
    const unverified = await first.group(alice.group.id)
    await unverified.ready()
    expect(unverified.isVerified).toBe(false)
    first.close()
    const again = await (await world.connect(actor)).group(alice.group.id)
    await again.verified()
    expect(again.isVerified).toBe(true)
    expect(again.counters.snapshotsTaken).toBe(0)
    expect(again.counters.wrapsOpened).toBe(0)
    await again.rekey()
    await alice.group.sync()
  })

  test('opens one wrap, and links only down to what is asked for', async () => {
    const mallory = await world.mallory()
    const group = await (await world.connect(await bobAway(), { url: mallory.url })).group(alice.group.id)
    await group.verified()
    expect(group.counters.wrapsOpened).toBe(1)
    expect(group.counters.linksOpened).toBe(0)
    for (const id of await group.list()) await (await group.get(id)).text()
    // What was written before bob went is under an epoch he holds, the rest under the newest ones.
    expect(group.counters.wrapsOpened).toBe(1)
    expect(group.counters.linksOpened).toBeLessThan(10)
  })

  test('folds the commits when the server has no snapshot', async () => {
    const mallory = await world.mallory()
    mallory.lie('log.snapshot', () => ({ snapshot: null }))
    const group = await (await world.connect(await bobAway(), { url: mallory.url })).group(alice.group.id)
    await group.sync()
    expect(group.isVerified).toBe(true)
    expect(group.counters.snapshotsTaken).toBe(0)
    expect(group.counters.commitsFolded).toBeGreaterThanOrEqual(MISSED)
    expect(group.head).toEqual(alice.group.head)
  })

  test('is stopped when the skipped part does not lead to the snapshot', async () => {
    const mallory = await world.mallory()
    const group = await (await world.connect(await bobAway(), { url: mallory.url })).group(alice.group.id)
    const { signer } = alice.actor.identity
    let reads = 0
    mallory.lie('log.read', async (params, truth) => {
      const page = await truth()
      reads += 1
      if (reads < 2 || params.from !== before.head.seq + 1) return page
      // Another commit by the same admin in place of the first one that was skipped: the log has been rewritten.
      const [first, ...rest] = page.commits
      if (first === undefined) return page
      const { payload } = decodeCommit(first)
      return { ...page, commits: [await signPayload({ ...payload, time: payload.time - 1 }, [{ signer }]), ...rest] }
    })
    const ended = nextChange(group, 'ended')
    expect((await ended).error.code).toBe('fork')
    await expect(group.verified()).rejects.toMatchObject({ code: 'group_stopped', cause: { code: 'fork' } })
    await expect(group.put('no')).rejects.toMatchObject({ code: 'group_stopped' })
  })
})

describe('A68: a snapshot that was made up', () => {
  /** A roster of mallory’s making, at the head’s place, signed by whoever is said. */
  async function madeUp(liar: Person, change: (roster: Roster) => Roster, signer: { readonly signer: Person['signer'] }) {
    const state = await stateAt(alice.group.head.seq)
    const hashes = (await commitsAfter(world, alice.group.id)).map(({ hash }) => hash)
    const seq = state.head.seq + 1
    const secret = generateEpochSecret()
    const epoch = state.roster.epoch + 1
    const rekey = { ...(await epochPublic(secret, { suite: 1, epoch })), link: null }
    const opened = { epoch, seq, parent: state.head.hash, commitment: rekey.commitment, link: null, depositKey: rekey.depositKey }
    const roster = change({
      ...state.roster,
      seq,
      epoch,
      epochs: [...state.roster.epochs, opened],
      history: appendCommit(state.roster.history, state.head.hash),
    })
    const payload = {
      v: 1,
      suite: 1,
      seq,
      parent: state.head.hash,
      epoch,
      author: signer.signer.publicKey,
      time: Date.now(),
      ops: [],
      roster: rosterHash(roster),
      rekey,
    }
    const commit = await signPayload(payload, [signer])
    const { enc, wraps } = await wrapEpochSecret(secret, epochContext({ ...state, roster }, epoch), recipients(roster))
    const hash = decodeCommit(commit).hash
    return {
      liar,
      snapshot: { commit, roster: encodeRoster(roster), consistency: consistencyPath(hashes, before.head.seq + 1), genesis: [] },
      head: { seq, hash },
      enc,
      wraps,
      roster,
    }
  }

  async function expectRefused(made: Awaited<ReturnType<typeof madeUp>>, code: string): Promise<void> {
    const mallory = await world.mallory()
    mallory.lie('log.snapshot', () => ({ snapshot: made.snapshot }))
    mallory.lie('log.read', async (_params, truth) => ({ ...(await truth()), head: made.head }))
    mallory.lie('epoch.read', () => ({ enc: made.enc, wraps: made.wraps.filter((wrap) => wrap !== null), links: [] }))
    const group = await (await world.connect(await bobAway(), { url: mallory.url })).group(alice.group.id)
    const alarm = nextChange(group, 'bad-item')
    void group.ready().catch(() => undefined)
    expect((await alarm).error.code).toBe(code)
    await eventually(() => mallory.count('log.read') > 1)
    expect(group.counters).toMatchObject({ snapshotsTaken: 0, wrapsOpened: 0 })
    expect(group.members().some(({ id }) => String(id) === String(made.liar.id))).toBe(false)
    expect(mallory.count('object.put')).toBe(0)
    group.close()
  }

  const withLiar =
    (liar: Person) =>
    (roster: Roster): Roster => {
      const [admin] = roster.members
      if (admin === undefined) throw new RangeError('the group has an admin')
      const segments = [{ fromSeq: 0, toSeq: null, role: 'admin' as const, signingKey: liar.signer.publicKey }]
      const member = { ...admin, id: liar.id, signingKey: liar.signer.publicKey, kemKey: liar.kemPrivateKey.publicKey, segments }
      return { ...roster, members: [...roster.members, member] }
    }

  test('by the server’s own admin is refused before anything is opened or sealed', async () => {
    const liar = await person('mallory')
    await expectRefused(await madeUp(liar, withLiar(liar), liar), 'not_authorised')
  })

  test('in the name of an admin one trusts is refused', async () => {
    const liar = await person('mallory')
    const signer = { ...liar.signer, publicKey: alice.actor.identity.signer.publicKey }
    await expectRefused(await madeUp(liar, withLiar(liar), { signer }), 'invalid_signature')
  })

  test('with another roster than the commit names is refused', async () => {
    const liar = await person('mallory')
    const honest = await madeUp(liar, (roster) => roster, { signer: alice.actor.identity.signer })
    const roster = encodeRoster(withLiar(liar)(honest.roster))
    await expectRefused({ ...honest, snapshot: { ...honest.snapshot, roster } }, 'roster_mismatch')
  })

  test('by an admin of another history than one’s own is refused', async () => {
    const liar = await person('mallory')
    const otherHistory = ({ history, ...roster }: Roster): Roster => ({
      ...roster,
      history: { ...history, peaks: history.peaks.map(anyHash) },
    })
    await expectRefused(await madeUp(liar, otherHistory, { signer: alice.actor.identity.signer }), 'fork')
    const honest = await madeUp(liar, (roster) => roster, { signer: alice.actor.identity.signer })
    await expectRefused(
      { ...honest, snapshot: { ...honest.snapshot, consistency: honest.snapshot.consistency.map(() => anyHash()) } },
      'fork',
    )
  })
})

describe('joining', () => {
  test('a joiner starts from the roster at the token’s commit, and folds only what follows', async () => {
    const token = await alice.group.invite()
    await alice.group.rekey()
    await alice.group.rekey()
    const dave = await world.connect(await world.person('dave'))
    const group = await dave.join(token)
    expect(group.head.seq).toBeGreaterThan(MISSED)
    expect(group.isVerified).toBe(true)
    expect(group.counters.commitsFolded).toBe(0)
    // Heads from before it came are checked by inclusion proofs.
    for (const id of await group.list()) await (await group.get(id)).text()
    expect(await group.list()).toEqual(await alice.group.list())
  })
})
