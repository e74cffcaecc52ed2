import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { toHex } from '../../shared/bytes.ts'
import { hashLabelled } from '../../shared/crypto/public-crypto.ts'
import { kemKeyId } from '../../shared/crypto/keys.ts'
import type { ClavigerError } from '../../shared/errors.ts'
import { decodeCommit } from '../../shared/group/commit.ts'
import { historyRoot, verifyInclusion } from '../../shared/group/history.ts'
import { inviteSessionMessage } from '../../shared/group/invite-proof.ts'
import { signJoinRequest } from '../../shared/group/join-request.ts'
import { signHead } from '../../shared/group/signed-head.ts'
import { findInvite } from '../../shared/group/roster.ts'
import { openSnapshotAhead, openSnapshotAt } from '../../shared/group/snapshot.ts'
import { asCommitHash } from '../../shared/ids.ts'
import { CLOCK_SKEW_MS_MAX } from '../../shared/limits.ts'
import type { Params } from '../../shared/protocol/messages.ts'
import type { Attempt } from '../support/forge.ts'
import { anyHash, forge, inviteOf, inviteOp, ops } from '../support/forge.ts'
import { genesis, LiveGroup } from '../support/live-group.ts'
import type { Person } from '../support/people.ts'
import { people } from '../support/people.ts'
import { RawClient } from '../support/raw-client.ts'
import { ServerStage } from '../support/server-stage.ts'

let stage: ServerStage
let cast: Record<'alice' | 'bob' | 'carol' | 'mallory', Person>
let alice: RawClient
let bob: RawClient
let mallory: RawClient
let group: LiveGroup

beforeAll(async () => {
  stage = await ServerStage.start()
  await stage.addServer()
  cast = await people('alice', 'bob', 'carol', 'mallory')
  alice = await stage.open(cast.alice)
  bob = await stage.open(cast.bob, { server: 1 })
  mallory = await stage.open(cast.mallory)
})
beforeEach(async () => {
  group = await LiveGroup.found(alice, cast.alice)
})
afterAll(() => stage.close())

/** The error for an attempt whose parameters are changed before they are sent. */
async function refusal(
  attempt: Attempt,
  change: (params: Params<'commit.submit'>) => Partial<Params<'commit.submit'>> = () => ({}),
  client = alice,
): Promise<ClavigerError> {
  const { params } = await group.prepare(attempt)
  return client.refusal('commit.submit', { ...params, ...change(params) })
}

const adds = (person: Person): Attempt => ({ author: cast.alice, ops: [ops.add(person, 'member')] })

describe('creating a group', () => {
  it('gives the hash of the genesis as its id, to its creator alone', async () => {
    const { params, state } = await genesis(cast.bob)
    expect((await bob.request('group.create', params)).group).toEqual(state.group)
    expect((await bob.request('group.list', {})).groups).toContainEqual(state.group)
    expect((await mallory.request('group.list', {})).groups).toEqual([])
  })

  it('again with the same genesis is no error', async () => {
    const { params, state } = await genesis(cast.alice)
    await alice.request('group.create', params)
    expect((await alice.request('group.create', params)).group).toEqual(state.group)
  })

  it('by somebody else’s genesis is refused', async () => {
    const { params } = await genesis(cast.alice)
    expect((await mallory.refusal('group.create', params)).code).toBe('not_authorised')
  })

  it('with too few wraps, or a genesis of last week, is refused', async () => {
    const { params } = await genesis(cast.alice)
    expect((await alice.refusal('group.create', { ...params, wraps: [] })).code).toBe('wraps_incomplete')
    expect((await alice.refusal('group.create', { ...params, enc: new Uint8Array(31) })).code).toBe('malformed')
    const old = await genesis(cast.alice, Date.now() - CLOCK_SKEW_MS_MAX - 60_000)
    expect((await alice.refusal('group.create', old.params)).code).toBe('clock_skew')
  })
})

describe('quotas', () => {
  it('an identity creates as many groups as it may, and is told so', async () => {
    const strict = await stage.addServer({ limits: { groupsPerIdentity: 1 } })
    const { erin } = await people('erin')
    const client = await RawClient.open(strict.url, erin)
    const first = await genesis(erin)
    await client.request('group.create', first.params)
    expect((await client.refusal('group.create', (await genesis(erin)).params)).code).toBe('limit_exceeded')
    client.close()
  })
})

describe('submitting a commit', () => {
  it('puts it into the log, for everybody and every process', async () => {
    await group.commit(alice, adds(cast.bob))
    const { head, epoch } = await bob.request('log.head', { group: group.id })
    expect([head, epoch]).toEqual([group.state.head, 0])
    const { commits } = await bob.request('log.read', { group: group.id, from: 0 })
    expect(commits.map((bytes) => decodeCommit(bytes).payload.seq)).toEqual([0, 1])
  })

  it('on an older head is refused with the current one', async () => {
    const late = await group.prepare(adds(cast.carol))
    await group.commit(alice, adds(cast.bob))
    const error = await alice.refusal('commit.submit', late.params)
    expect([error.code, error.data['seq'], error.data['hash'], error.data['epoch']]).toEqual(['stale_head', 1, group.state.head.hash, 0])
  })

  it('of two at once accepts one, whichever process they reach', async () => {
    await group.commit(alice, { author: cast.alice, ops: [ops.add(cast.bob, 'admin')] })
    const one = await group.prepare(adds(cast.carol))
    const other = await group.prepare({ author: cast.bob, ops: [ops.add(cast.mallory, 'member')] })
    const outcomes = await Promise.allSettled([alice.request('commit.submit', one.params), bob.request('commit.submit', other.params)])
    expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
    expect(outcomes.find((outcome) => outcome.status === 'rejected')?.reason).toMatchObject({ code: 'stale_head' })
    expect((await alice.request('log.head', { group: group.id })).head.seq).toBe(2)
  })

  it('whose time is far from the server’s clock is refused', async () => {
    for (const offset of [-CLOCK_SKEW_MS_MAX - 5000, CLOCK_SKEW_MS_MAX + 5000]) {
      expect((await refusal({ ...adds(cast.bob), time: Date.now() + offset })).code).toBe('clock_skew')
    }
  })

  it('that breaks a rule of the fold is refused with its number', async () => {
    const commit = await forge(group.state, { author: cast.alice, ops: [ops.remove(cast.alice)], rekey: 'fresh', time: Date.now() })
    const error = await alice.refusal('commit.submit', { group: group.id, commit, enc: new Uint8Array(32), wraps: [], link: null })
    expect(error.data['rule']).toMatch(/^G\d+/)
  })

  it('with a signature that does not verify is refused', async () => {
    const { params } = await group.prepare(adds(cast.bob))
    const broken = await forge(group.state, { ...adds(cast.bob), time: Date.now(), signers: [cast.mallory] })
    expect((await alice.refusal('commit.submit', { ...params, commit: broken })).code).toBe('invalid_signature')
  })

  it('of another member is refused: a session submits its own', async () => {
    await group.commit(alice, { author: cast.alice, ops: [ops.add(cast.bob, 'admin')] })
    expect((await refusal(adds(cast.carol), () => ({}), bob)).code).toBe('not_authorised')
  })

  it('by a stranger is refused as if there were no group', async () => {
    expect((await refusal({ author: cast.alice, ops: [ops.add(cast.bob, 'member')] }, () => ({}), mallory)).code).toBe('unknown_group')
  })
})

describe('what travels beside a commit', () => {
  it('is exactly one wrap for a new recipient', async () => {
    expect((await refusal(adds(cast.bob), () => ({ wraps: [] }))).code).toBe('wraps_incomplete')
    expect((await refusal(adds(cast.bob), ({ wraps }) => ({ wraps: [...wraps, ...wraps] }))).code).toBe('wraps_incomplete')
    expect((await refusal(adds(cast.bob), () => ({ wraps: [new Uint8Array(47)] }))).code).toBe('wraps_incomplete')
    expect(
      (await refusal({ author: cast.alice, ops: [ops.add(cast.bob, 'depositor')] }, () => ({ wraps: [new Uint8Array(80)] }))).code,
    ).toBe('wraps_incomplete')
  })

  it('is one wrap for everybody with a rekey, and the encapsulation of the epoch', async () => {
    await group.commit(alice, adds(cast.bob))
    const rekey: Attempt = { author: cast.alice, rekey: 'fresh' }
    expect((await refusal(rekey, ({ wraps }) => ({ wraps: wraps.slice(1) }))).code).toBe('wraps_incomplete')
    expect((await refusal(rekey, () => ({ enc: new Uint8Array(0) }))).code).toBe('malformed')
    expect((await refusal(rekey, () => ({ enc: new Uint8Array(33) }))).code).toBe('malformed')
    expect((await refusal(adds(cast.carol), () => ({ enc: new Uint8Array(32) }))).code).toBe('malformed')
  })

  it('is exactly the link that the commit names', async () => {
    const rekey: Attempt = { author: cast.alice, rekey: 'fresh' }
    expect((await refusal(rekey, () => ({ link: null }))).code).toBe('malformed')
    expect((await refusal(rekey, () => ({ link: new Uint8Array(48) }))).code).toBe('malformed')
    expect((await refusal(adds(cast.bob), () => ({ link: new Uint8Array(48) }))).code).toBe('malformed')
  })

  it('is handed out to its recipients, and to whoever checks', async () => {
    await group.commit(alice, adds(cast.bob))
    await group.commit(alice, { author: cast.alice, rekey: 'fresh' })
    const recipient = cast.bob.kemPrivateKey.publicKey
    const own = await bob.request('epoch.read', { group: group.id, epoch: 1, recipient: kemKeyId(recipient), downTo: 0 })
    expect([own.enc.length, own.wraps.length, own.wraps[0]?.length, own.links.length, own.links[0]?.to]).toEqual([32, 1, 48, 1, 0])
    const others = await bob.request('wrap.read', {
      group: group.id,
      epoch: 1,
      recipients: [kemKeyId(cast.alice.kemPrivateKey.publicKey), kemKeyId(recipient)],
    })
    expect(others.wraps[1]).toEqual(own.wraps)
  })
})

describe('healing', () => {
  it('a member without a good wrap asks, others are told and offer', async () => {
    await group.commit(alice, adds(cast.bob))
    const recipient = kemKeyId(cast.bob.kemPrivateKey.publicKey)
    await alice.request('feed.subscribe', { group: group.id, cursor: 0, seq: 0 })
    await bob.request('wrap.request', { group: group.id, epoch: 0, recipient })
    await alice.until(() =>
      alice.eventsOf('wrap-requested').some((event) => event.recipient.every((byte, index) => byte === recipient[index])),
    )
    expect((await alice.request('wrap.requests', { group: group.id })).recipients).toEqual([recipient])
    await alice.request('wrap.offer', { group: group.id, epoch: 0, recipient, wrap: new Uint8Array(80) })
    expect((await bob.request('epoch.read', { group: group.id, epoch: 0, recipient, downTo: 0 })).wraps).toHaveLength(2)
    expect((await alice.request('wrap.requests', { group: group.id })).recipients).toEqual([])
  })

  it('nothing is offered for a key that is no recipient, a wrong epoch, or of a wrong length', async () => {
    const recipient = kemKeyId(cast.alice.kemPrivateKey.publicKey)
    const offer = { group: group.id, epoch: 0, recipient, wrap: new Uint8Array(80) }
    expect((await alice.refusal('wrap.offer', { ...offer, recipient: kemKeyId(cast.mallory.kemPrivateKey.publicKey) })).code).toBe(
      'not_authorised',
    )
    expect((await alice.refusal('wrap.offer', { ...offer, epoch: 1 })).code).toBe('stale_epoch')
    expect((await alice.refusal('wrap.offer', { ...offer, wrap: new Uint8Array(79) })).code).toBe('malformed')
    expect((await alice.refusal('wrap.request', { group: group.id, epoch: 7, recipient })).code).toBe('stale_epoch')
    expect((await alice.refusal('link.offer', { group: group.id, epoch: 0, to: 0, link: new Uint8Array(48) })).code).toBe(
      'epoch_unavailable',
    )
  })
})

describe('invites', () => {
  const openWith = async (client: RawClient, name: string): Promise<void> => {
    const keys = await inviteOf(name)
    const invite = group.state.roster.invites.find(({ signingKey }) =>
      signingKey.every((byte, index) => byte === keys.signer.publicKey[index]),
    )
    if (client.hello === null || invite === undefined) throw new Error('no such invite')
    const message = inviteSessionMessage({ nonce: client.hello.nonce, host: client.host }, group.id, invite.id)
    await client.request('invite.open', { group: group.id, invite: invite.id, signature: await keys.signer.sign(message) })
  }
  const join = async (person: Person, name: string): Promise<Attempt> => ({
    author: await inviteOf(name),
    ops: [ops.join(person)],
    signers: [await inviteOf(name), person],
  })

  it('let somebody in who is a member from then on, and is no guest any more', async () => {
    await group.commit(alice, {
      author: cast.alice,
      ops: [await inviteOp(group.state, cast.alice, await inviteOf('one'), { expiresAt: Date.now() + 60_000 })],
    })
    await openWith(bob, 'one')
    await group.commit(bob, await join(cast.bob, 'one'))
    expect((await bob.request('object.headers', { group: group.id, objects: [] })).headers).toEqual([])
  })

  it('a guest does not join in the name of somebody else', async () => {
    await group.commit(alice, {
      author: cast.alice,
      ops: [await inviteOp(group.state, cast.alice, await inviteOf('two'), { expiresAt: Date.now() + 60_000 })],
    })
    await openWith(mallory, 'two')
    expect((await refusal(await join(cast.carol, 'two'), () => ({}), mallory)).code).toBe('not_authorised')
  })

  it('a spent invite opens nothing, for those who had opened it neither', async () => {
    await group.commit(alice, {
      author: cast.alice,
      ops: [await inviteOp(group.state, cast.alice, await inviteOf('three'), { expiresAt: Date.now() + 60_000 })],
    })
    await openWith(mallory, 'three')
    await openWith(bob, 'three')
    await group.commit(bob, await join(cast.bob, 'three'))
    expect((await mallory.refusal('log.head', { group: group.id })).code).toBe('invite_spent')
    await expect(openWith(mallory, 'three')).rejects.toMatchObject({ code: 'invite_spent' })
  })

  it('a signature for another session opens nothing', async () => {
    await group.commit(alice, {
      author: cast.alice,
      ops: [await inviteOp(group.state, cast.alice, await inviteOf('four'), { expiresAt: Date.now() + 60_000 })],
    })
    const keys = await inviteOf('four')
    const [invite] = group.state.roster.invites
    if (invite === undefined || alice.hello === null) throw new Error('no invite')
    const message = inviteSessionMessage({ nonce: alice.hello.nonce, host: mallory.host }, group.id, invite.id)
    expect(
      (await mallory.refusal('invite.open', { group: group.id, invite: invite.id, signature: await keys.signer.sign(message) })).code,
    ).toBe('invite_invalid')
  })

  it('of approve mode take a request, which admins are told of', async () => {
    const keys = await inviteOf('five')
    await group.commit(alice, {
      author: cast.alice,
      ops: [await inviteOp(group.state, cast.alice, keys, { mode: 'approve', expiresAt: Date.now() + 60_000 })],
    })
    const [invite] = group.state.roster.invites
    if (invite === undefined) throw new Error('no invite')
    await openWith(bob, 'five')
    await alice.request('feed.subscribe', { group: group.id, cursor: 0, seq: 0 })
    const statement = { group: group.id, invite: invite.id, cards: [...cast.bob.cards], at: group.state.head }
    const request = await signJoinRequest(statement, { invite: keys.signer, joiner: cast.bob.signer })
    await bob.request('join.request', { group: group.id, request })
    await alice.until(() => alice.eventsOf('join-requested').length > 0)
    const { requests } = await alice.request('join.requests', { group: group.id })
    expect([...requests, alice.eventsOf('join-requested')[0]?.request ?? new Uint8Array(0)].map(toHex)).toEqual([
      toHex(request),
      toHex(request),
    ])
    const forCarol = await signJoinRequest(
      { ...statement, cards: [...cast.carol.cards] },
      { invite: keys.signer, joiner: cast.carol.signer },
    )
    expect((await bob.refusal('join.request', { group: group.id, request: forCarol })).code).toBe('not_authorised')
    expect(findInvite(group.state.roster, invite.id)?.uses).toBe(0)
    const approve = { ...ops.approve(cast.bob, invite), request: hashLabelled('join-request', request) }
    await group.commit(alice, { author: cast.alice, ops: [approve] })
    expect((await alice.request('join.requests', { group: group.id })).requests).toEqual([])
    expect(findInvite(group.state.roster, invite.id)?.state).toBe('spent')
  })
})

describe('signed heads', () => {
  it('are kept, handed out and told, across processes', async () => {
    await group.commit(alice, adds(cast.bob))
    await bob.request('feed.subscribe', { group: group.id, cursor: 0, seq: 0 })
    const head = await signHead(cast.alice.signer, { group: group.id, member: cast.alice.id, at: group.state.head, time: Date.now() })
    await alice.request('head.sign', { group: group.id, head })
    await bob.until(() => bob.eventsOf('signed-head').length > 0)
    expect((await bob.request('head.list', { group: group.id })).heads.map(toHex)).toEqual([toHex(head)])
  })

  it('of somebody else, or of a head that is not in the log, are refused', async () => {
    await group.commit(alice, adds(cast.bob))
    const own = { group: group.id, member: cast.bob.id, at: group.state.head, time: Date.now() }
    const sign = async (statement: typeof own, signer = cast.bob.signer): Promise<string> =>
      (await bob.refusal('head.sign', { group: group.id, head: await signHead(signer, statement) })).code
    expect(await sign({ ...own, member: cast.alice.id }, cast.alice.signer)).toBe('not_authorised')
    expect(await sign({ ...own, at: { ...own.at, hash: asCommitHash(anyHash()) } })).toBe('bad_head')
    expect(await sign({ ...own, at: { ...own.at, seq: 99 } })).toBe('bad_head')
    expect(await sign(own, cast.mallory.signer)).toBe('invalid_signature')
  })
})

describe('the log', () => {
  it('is handed out with proofs and snapshots that clients accept', async () => {
    const trusted = group.state
    for (let count = 0; count < 70; count += 1) {
      const role = count % 2 === 0 ? 'member' : 'reader'
      await group.commit(alice, count === 0 ? adds(cast.bob) : { author: cast.alice, ops: [ops.setRole(cast.bob, role)] })
    }
    const { snapshot } = await alice.request('log.snapshot', { kind: 'ahead', group: group.id, after: 0 })
    if (snapshot === null) throw new Error('there is no snapshot')
    const jumped = await openSnapshotAhead(trusted, snapshot)
    expect(jumped.head.seq).toBeGreaterThanOrEqual(63)
    const at = await alice.request('log.snapshot', { kind: 'at', group: group.id, seq: 70 })
    if (at.snapshot === null) throw new Error('there is no snapshot')
    expect(openSnapshotAt(group.state.head, at.snapshot, group.id)).toEqual(group.state)
    const { history } = group.state.roster
    for (const seq of [0, 1, 2, 31, 64, 69]) {
      const { hash } = await alice.request('log.inclusion', { group: group.id, seq, size: history.size })
      const { snapshot: then } = await alice.request('log.snapshot', { kind: 'at', group: group.id, seq })
      if (then === null) throw new Error('there is no snapshot')
      const { head } = openSnapshotAt({ hash: asCommitHash(hash) }, then, group.id)
      expect(head).toEqual({ seq, hash })
    }
    const { hash, path } = await alice.request('log.inclusion', { group: group.id, seq: 5, size: history.size })
    expect(verifyInclusion({ commitHash: hash, index: 5, size: history.size, root: historyRoot(history) }, path)).toBe(true)
    expect((await alice.refusal('log.inclusion', { group: group.id, seq: 5, size: 5 })).code).toBe('not_found')
    expect((await alice.refusal('log.inclusion', { group: group.id, seq: 0, size: 1000 })).code).toBe('not_found')
  })

  it('is judged alike by a process that starts from storage', async () => {
    await group.commit(alice, adds(cast.bob))
    const late = await stage.addServer()
    const client = await RawClient.open(late.url, cast.alice)
    await group.commit(client, { author: cast.alice, ops: [ops.remove(cast.bob)], rekey: 'fresh' })
    expect((await bob.refusal('log.head', { group: group.id })).code).toBe('not_a_member')
    client.close()
  })
})

describe('retiring', () => {
  it('an epoch that still seals something is refused, and done once nothing is left', async () => {
    const object = await group.write(alice, cast.alice)
    await group.commit(alice, { author: cast.alice, rekey: 'fresh' })
    expect((await refusal({ author: cast.alice, ops: [ops.retire(0)] })).code).toBe('not_retirable')
    await group.write(alice, cast.alice, { previous: object })
    await group.commit(alice, { author: cast.alice, ops: [ops.retire(0)] })
    const recipient = kemKeyId(cast.alice.kemPrivateKey.publicKey)
    expect((await alice.refusal('epoch.read', { group: group.id, epoch: 0, recipient, downTo: 0 })).code).toBe('epoch_retired')
  })
})
