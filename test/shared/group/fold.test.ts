/**
 * What commits do: who receives keys, when a rekey is owed, which doors close. Stories of the fold, attacks by their number.
 */
import { ed25519 } from '@noble/curves/ed25519.js'
import { describe, expect, test } from 'vitest'
import { useNodePublicCrypto } from '../../../platform/node/index.ts'
import { useNodeSecretCrypto } from '../../../platform/node/secret.ts'
import { concat } from '../../../shared/bytes.ts'
import type { Signer } from '../../../shared/crypto/signature.ts'
import { asKemPublicKey, asSigningPublicKey } from '../../../shared/crypto/keys.ts'
import { isClavigerCode } from '../../support/refusals.ts'
import { unwrapEpochSecret, wrapEpochSecret } from '../../../shared/group/epoch.ts'
import { applyCommit } from '../../../shared/group/fold.ts'
import type { InviteKeys } from '../../../shared/group/invite.ts'
import type { Roster } from '../../../shared/group/roster.ts'
import { epochAt, findEpoch, findInvite, findMember, recipients, sameBytes, segmentAt } from '../../../shared/group/roster.ts'
import type { Attempt } from '../../support/forge.ts'
import { Log, epochContext, forge, freshEpoch, inviteOf, inviteOp, ops, payloadOf, signPayload } from '../../support/forge.ts'
import type { Person } from '../../support/people.ts'
import { cardWith, people } from '../../support/people.ts'

useNodePublicCrypto()
useNodeSecretCrypto()

const { alice, adam, bob, carol, dave, erin, mallory } = await people('alice', 'adam', 'bob', 'carol', 'dave', 'erin', 'mallory')
const [token, other, third] = [await inviteOf('token'), await inviteOf('another token'), await inviteOf('a third token')]

const join = (invite: InviteKeys, person: Person): Attempt => ({ author: invite, ops: [ops.join(person)], signers: [invite, person] })
const keysOf = (roster: Roster): Uint8Array[] => recipients(roster).map(({ kemKey }) => kemKey)
const stateOf = (roster: Roster, who: Person): string | undefined => findMember(roster, who.id)?.state
const inviteState = (roster: Roster, invite: InviteKeys): string | undefined => findInvite(roster, invite.id)?.state

/** Alice and adam are admins, bob a member, carol a reader, dave a depositor. */
async function group(): Promise<Log> {
  const log = await Log.found(alice)
  await log.commit({
    author: alice,
    ops: [ops.add(adam, 'admin'), ops.add(bob, 'member'), ops.add(carol, 'reader'), ops.add(dave, 'depositor')],
  })
  return log
}

describe('recipients', () => {
  test('are the active members who hold keys, in order of enrolment, then the live open invites', async () => {
    const log = await group()
    await log.commit({
      author: alice,
      ops: [
        await inviteOp(log.state, alice, token),
        await inviteOp(log.state, alice, other, { mode: 'approve' }),
        await inviteOp(log.state, alice, third, { role: 'reader' }),
      ],
    })
    expect(keysOf(log.roster)).toEqual([
      ...[alice, adam, bob, carol].map(({ kemPrivateKey }) => kemPrivateKey.publicKey),
      token.kem.publicKey,
      third.kem.publicKey,
    ])
  })

  test('do not include an open invite for depositors, who hold no keys', async () => {
    const log = await group()
    const { newRecipients } = await log.commit({ author: alice, ops: [await inviteOp(log.state, alice, token, { role: 'depositor' })] })
    expect(newRecipients).toEqual([])
    expect(keysOf(log.roster)).not.toContainEqual(token.kem.publicKey)
    const joined = await log.commit(join(token, erin))
    expect(joined.newRecipients).toEqual([])
    expect(log.roster.rekeyOwed).toBe(false)
  })

  test.each([
    ['an added member', async (): Promise<Attempt> => ({ author: alice, ops: [ops.add(erin, 'reader')] }), [erin.kemPrivateKey.publicKey]],
    ['an added depositor', async (): Promise<Attempt> => ({ author: alice, ops: [ops.add(erin, 'depositor')] }), []],
    [
      'a depositor who becomes a reader',
      async (): Promise<Attempt> => ({ author: alice, ops: [ops.setRole(dave, 'reader')] }),
      [dave.kemPrivateKey.publicKey],
    ],
    [
      'a new open invite',
      async (log: Log): Promise<Attempt> => ({ author: alice, ops: [await inviteOp(log.state, alice, other)] }),
      [other.kem.publicKey],
    ],
    [
      'a new approve-mode invite',
      async (log: Log): Promise<Attempt> => ({ author: alice, ops: [await inviteOp(log.state, alice, other, { mode: 'approve' })] }),
      [],
    ],
    ['a reader who becomes a member', async (): Promise<Attempt> => ({ author: alice, ops: [ops.setRole(carol, 'member')] }), []],
    [
      'two added members',
      async (): Promise<Attempt> => ({ author: alice, ops: [ops.add(mallory, 'reader'), ops.add(erin, 'member')] }),
      [mallory.kemPrivateKey.publicKey, erin.kemPrivateKey.publicKey],
    ],
  ] as const)('who need a wrap beside the commit: %s', async (_, attempt, keys) => {
    const log = await group()
    const { newRecipients } = await log.commit(await attempt(log))
    expect(newRecipients.map(({ kemKey }) => kemKey)).toEqual(keys)
    expect(log.roster.rekeyOwed).toBe(false)
  })

  test('need no wrap of the old epoch when the commit opens a new one', async () => {
    const log = await group()
    const { newRecipients } = await log.commit({ author: alice, ops: [ops.add(erin, 'member'), ops.remove(bob)], rekey: 'fresh' })
    expect(newRecipients).toEqual([])
    expect(keysOf(log.roster)).toContainEqual(erin.kemPrivateKey.publicKey)
  })
})

describe('a rekey is owed', () => {
  test('after somebody with keys leaves, until it is settled', async () => {
    const log = await group()
    await log.commit({ author: bob, ops: [ops.leave()] })
    expect(log.roster.rekeyOwed).toBe(true)
    await log.commit({ author: alice, ops: [ops.add(erin, 'member')] })
    expect(log.roster.rekeyOwed).toBe(true)
    await log.commit({ author: erin, rekey: 'fresh' })
    expect(log.roster.rekeyOwed).toBe(false)
    expect(stateOf(log.roster, bob)).toBe('left')
  })

  test('not after a depositor leaves, who had no keys', async () => {
    const log = await group()
    await log.commit({ author: dave, ops: [ops.leave()] })
    expect(log.roster.rekeyOwed).toBe(false)
  })

  test('but is when a depositor leaves who came in through an open invite that others could read through', async () => {
    const log = await group()
    await log.commit({ author: alice, ops: [await inviteOp(log.state, alice, token, { role: 'reader', maxUses: 3 })] })
    await log.commit(join(token, erin))
    await log.commit({ author: alice, ops: [ops.setRole(erin, 'depositor')], rekey: 'fresh' })
    expect(inviteState(log.roster, token)).toBe('revoked')
  })

  test('after the last use of an open invite, which is still a recipient before it', async () => {
    const log = await group()
    await log.commit({ author: alice, ops: [await inviteOp(log.state, alice, token, { maxUses: 2 })] })
    await log.commit(join(token, erin))
    expect([log.roster.rekeyOwed, inviteState(log.roster, token)]).toEqual([false, 'live'])
    await log.commit(join(token, mallory))
    expect([log.roster.rekeyOwed, inviteState(log.roster, token)]).toEqual([true, 'spent'])
    expect(keysOf(log.roster)).not.toContainEqual(token.kem.publicKey)
  })

  test('once for many reasons: a hundred joins and leaves cost one', async () => {
    const log = await group()
    await log.commit({ author: alice, ops: [await inviteOp(log.state, alice, token), await inviteOp(log.state, alice, other)] })
    await log.commit(join(token, erin))
    await log.commit(join(other, mallory))
    await log.commit({ author: bob, ops: [ops.leave()] })
    await log.commit({ author: mallory, rekey: 'fresh' })
    expect([log.roster.rekeyOwed, log.roster.epoch]).toEqual([false, 1])
  })

  test('not after an approval, whose invite never held keys', async () => {
    const log = await group()
    await log.commit({ author: alice, ops: [await inviteOp(log.state, alice, token, { mode: 'approve' })] })
    await log.commit({ author: alice, ops: [ops.approve(erin, token)] })
    expect([log.roster.rekeyOwed, inviteState(log.roster, token)]).toEqual([false, 'spent'])
  })
})

describe('a removed member keeps no door', () => {
  const doors = async (): Promise<Log> => {
    const log = await group()
    await log.commit({ author: adam, ops: [await inviteOp(log.state, adam, token, { maxUses: 5 })] })
    await log.commit(join(token, erin))
    await log.commit({
      author: alice,
      ops: [await inviteOp(log.state, alice, other), await inviteOp(log.state, alice, third, { mode: 'approve' })],
    })
    return log
  }

  test.each([
    ['removal of its creator', { author: alice, ops: [ops.remove(adam)], rekey: 'fresh' }],
    ['removal of who came in through it', { author: alice, ops: [ops.remove(erin)], rekey: 'fresh' }],
    ['demotion of its creator', { author: alice, ops: [ops.setRole(adam, 'member')], rekey: 'fresh' }],
    ['demotion of who came in through it', { author: alice, ops: [ops.setRole(erin, 'reader')], rekey: 'fresh' }],
    ['its creator’s leaving', { author: adam, ops: [ops.leave()] }],
    ['leaving of who came in through it', { author: erin, ops: [ops.leave()] }],
  ] as const)('A36 A67 %s kills an invite, and no other', async (_, attempt) => {
    const log = await doors()
    await log.commit(attempt)
    expect([token, other, third].map((invite) => inviteState(log.roster, invite))).toEqual(['revoked', 'live', 'live'])
    expect(keysOf(log.roster)).not.toContainEqual(token.kem.publicKey)
    expect((await log.refusal(join(token, mallory))).data).toEqual({ rule: 'G04' })
  })

  test('A36 a promotion closes nothing', async () => {
    const log = await doors()
    await log.commit({ author: alice, ops: [ops.setRole(erin, 'admin')] })
    expect(inviteState(log.roster, token)).toBe('live')
  })

  test('A36 a removed member does not come back through another invite, only by an admin’s hand', async () => {
    const log = await doors()
    await log.commit({ author: alice, ops: [ops.remove(erin)], rekey: 'fresh' })
    expect((await log.refusal(join(other, erin))).data).toEqual({ rule: 'G31' })
    await log.commit({ author: alice, ops: [ops.approve(erin, third)] })
    expect(stateOf(log.roster, erin)).toBe('active')
  })

  test('A36 one who has just left is removed all the same: what they were keeps its end, and no token brings them back', async () => {
    const log = await doors()
    await log.commit({ author: erin, ops: [ops.leave()] })
    const back = log.fork()
    await back.commit(join(other, erin))
    expect(stateOf(back.roster, erin)).toBe('active')
    const left = findMember(log.roster, erin.id)
    await log.commit({ author: alice, ops: [ops.remove(erin)], rekey: 'fresh' })
    expect(findMember(log.roster, erin.id)).toEqual({ ...left, state: 'removed' })
    expect(log.roster.rekeyOwed).toBe(false)
    expect((await log.refusal(join(other, erin))).data).toEqual({ rule: 'G31' })
    expect((await log.refusal({ author: alice, ops: [ops.remove(erin)], rekey: 'fresh' })).data).toEqual({ rule: 'G49' })
  })

  test('A67 a token that bob has seen opens no epoch after the removal that revokes it', async () => {
    const log = await doors()
    await log.commit({ author: alice, ops: [ops.revoke(other), ops.remove(bob)], rekey: 'fresh' })
    const at = epochContext(log.state, log.roster.epoch)
    const { enc, wraps } = await wrapEpochSecret(log.secret, at, recipients(log.roster))
    const bobs = [bob.kemPrivateKey, other.kem]
    const opened = await Promise.allSettled(
      wraps.flatMap((wrap) => bobs.map((key) => unwrapEpochSecret(key, at, { enc, wrap: wrap ?? enc }))),
    )
    expect(opened.filter(({ status }) => status === 'fulfilled')).toEqual([])
    // The invite that was kept by name goes on opening: that is what keeping it means.
    expect(await unwrapEpochSecret(token.kem, at, { enc, wrap: wraps.at(-1) ?? enc })).toEqual(log.secret)
  })
})

describe('two at once', () => {
  test('A43 of two admins who remove each other exactly one does, whoever is first', async () => {
    const log = await group()
    const removals = [
      await forge(log.state, { author: alice, ops: [ops.remove(adam)], rekey: 'fresh' }),
      await forge(log.state, { author: adam, ops: [ops.remove(alice)], rekey: 'fresh' }),
    ]
    for (const [first, second] of [removals, removals.toReversed()]) {
      const { state } = await applyCommit(log.state, first ?? new Uint8Array())
      await expect(applyCommit(state, second ?? new Uint8Array())).rejects.toMatchObject({ code: 'stale_head' })
      expect([alice, adam].map((admin) => stateOf(state.roster, admin)).toSorted()).toEqual(['active', 'removed'])
    }
  })

  test('A43 the loser has no authority to try again', async () => {
    const log = await group()
    await log.commit({ author: alice, ops: [ops.remove(adam)], rekey: 'fresh' })
    expect((await log.refusal({ author: adam, ops: [ops.remove(alice)], rekey: 'fresh' })).data).toEqual({ rule: 'G04' })
  })

  test('A35 a removed member’s commit on the old head is refused, whatever time it claims', async () => {
    const log = await group()
    const late = await forge(log.state, { author: adam, ops: [ops.add(mallory, 'admin')], time: 0 })
    await log.commit({ author: alice, ops: [ops.remove(adam)], rekey: 'fresh' })
    await expect(applyCommit(log.state, late)).rejects.toMatchObject({ code: 'stale_head' })
  })

  test('A49 of fifty who race one single-use token one gets in', async () => {
    const log = await group()
    await log.commit({ author: alice, ops: [await inviteOp(log.state, alice, token)] })
    const crowd = Object.values(await people(...Array.from({ length: 50 }, (_, index) => `racer ${index}`)))
    const joins = await Promise.all(crowd.map((racer) => forge(log.state, join(token, racer))))
    const before = log.roster.members.length
    for (const bytes of joins) await log.append(bytes).catch(isClavigerCode('stale_head'))
    for (const racer of crowd) await log.commit(join(token, racer)).catch(isClavigerCode('not_authorised'))
    expect(log.roster.members.length).toBe(before + 1)
  })

  test('A49 an invite lets in as many as it has uses, and not one more', async () => {
    const log = await group()
    await log.commit({ author: alice, ops: [await inviteOp(log.state, alice, token, { maxUses: 2 })] })
    await log.commit(join(token, erin))
    await log.commit(join(token, mallory))
    const late = (await people('latecomer')).latecomer
    expect((await log.refusal(join(token, late))).code).toBe('not_authorised')
    expect(findInvite(log.roster, token.id)?.uses).toBe(2)
  })
})

describe('admins', () => {
  test('A42 there is always one, whatever admins do to each other and themselves', async () => {
    const log = await Log.found(alice)
    await log.commit({ author: alice, ops: [ops.add(adam, 'admin'), ops.add(bob, 'member')] })
    await log.commit({ author: alice, ops: [ops.leave()] })
    for (const attempt of [
      { author: adam, ops: [ops.leave()] },
      { author: adam, ops: [ops.setRole(adam, 'member')] },
      { author: adam, ops: [ops.setRole(adam, 'reader')], rekey: 'fresh' },
      { author: adam, ops: [ops.setRole(adam, 'reader'), ops.remove(bob)], rekey: 'fresh' },
    ] as const)
      expect((await log.refusal(attempt)).code).toBe('last_admin')
  })
})

describe('joining', () => {
  test('A50 gives the role that the invite has: the op has no place for another', async () => {
    const log = await group()
    await log.commit({ author: alice, ops: [await inviteOp(log.state, alice, token, { role: 'reader' })] })
    const payload = payloadOf(log.state, { author: token, ops: [ops.join(erin)], rekey: null })
    const inflated = await signPayload({ ...payload, ops: [{ ...ops.join(erin), role: 'admin' }] }, [token, erin])
    await expect(applyCommit(log.state, inflated)).rejects.toMatchObject({ code: 'malformed' })
    await log.commit(join(token, erin))
    expect(findMember(log.roster, erin.id)).toMatchObject({ role: 'reader', via: token.id })
  })

  test.each([
    ['a promotion', [ops.setRole(erin, 'admin')]],
    ['a removal', [ops.remove(bob)]],
    ['another enrolment', [ops.add(mallory, 'member')]],
    ['another join', [ops.join(mallory)]],
  ] as const)('A50 carries nothing else: not %s', async (_, more) => {
    const log = await group()
    await log.commit({ author: alice, ops: [await inviteOp(log.state, alice, token, { maxUses: 9 })] })
    expect((await log.refusal({ ...join(token, erin), ops: [ops.join(erin), ...more] })).data).toEqual({ rule: 'G05' })
  })

  test('A48 needs the token: the log alone makes no join', async () => {
    const log = await group()
    await log.commit({ author: alice, ops: [await inviteOp(log.state, alice, token)] })
    const thief: { signer: Signer } = { signer: { publicKey: token.signer.publicKey, sign: (message) => mallory.signer.sign(message) } }
    expect((await log.refusal({ author: token, ops: [ops.join(mallory)], signers: [thief, mallory] })).code).toBe('invalid_signature')
  })

  test('enrols nobody who has not signed, even for the holder of the token', async () => {
    const log = await group()
    await log.commit({ author: alice, ops: [await inviteOp(log.state, alice, token)] })
    expect((await log.refusal({ author: token, ops: [ops.join(erin)], signers: [token, mallory] })).code).toBe('invalid_signature')
  })
})

describe('keys', () => {
  test('A45 somebody else’s signing key is not enrolled: the card needs its signature, and it is taken already', async () => {
    const log = await group()
    const borrowed = { cards: [await cardWith(bob.signer, mallory.kemPrivateKey.publicKey)] }
    expect((await log.refusal({ author: alice, ops: [ops.add(borrowed, 'member')] })).data).toEqual({ rule: 'G45' })
    const elsewhere = await Log.found(alice)
    const claimed = {
      cards: [
        await cardWith(
          { publicKey: bob.signer.publicKey, sign: (message) => mallory.signer.sign(message) },
          mallory.kemPrivateKey.publicKey,
        ),
      ],
    }
    expect((await elsewhere.refusal({ author: alice, ops: [ops.add(claimed, 'member')] })).code).toBe('invalid_signature')
  })

  /** A point of order 8, so that adding it makes a key of mixed order. */
  const torsion = ed25519.Point.fromHex('26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05')
  const mixed = ed25519.Point.fromBytes(mallory.signer.publicKey).add(torsion).toBytes()
  test.each([
    ['the identity', Uint8Array.from([1, ...new Uint8Array(31)])],
    ['of small order', torsion.toBytes()],
    ['of mixed order', mixed],
    ['not canonical', Uint8Array.from([0xed, ...new Uint8Array(30).fill(0xff), 0x7f])],
    ['no point', concat(Uint8Array.of(2), new Uint8Array(31))],
  ])('A45 A69 a signing key that is %s is enrolled neither in a card nor in an invite', async (_, key) => {
    const signer: Signer = { publicKey: asSigningPublicKey(key), sign: (message) => mallory.signer.sign(message) }
    const log = await group()
    const cards = [await cardWith(signer, mallory.kemPrivateKey.publicKey)]
    expect((await log.refusal({ author: alice, ops: [ops.add({ cards }, 'member')] })).code).toBe('invalid_key')
    expect((await log.refusal({ author: alice, ops: [await inviteOp(log.state, alice, { ...token, signer })] })).data).toEqual({
      rule: 'G24',
    })
    await expect(
      forge(null, { author: { signer }, ops: [ops.create({ cards })], rekey: (await freshEpoch(null)).rekey }).then((bytes) =>
        applyCommit(null, bytes),
      ),
    ).rejects.toMatchObject({ code: 'invalid_key' })
  })
})

describe('a recipient whose key cannot be sealed to', () => {
  test('A74 is taken out in the commit that removes somebody else, and the new epoch reaches everybody left', async () => {
    const log = await group()
    const { roster } = log
    const members = roster.members.map((member) =>
      sameBytes(member.id, carol.id) ? { ...member, kemKey: asKemPublicKey(new Uint8Array(32)) } : member,
    )
    // Past enrolment: no commit could have brought this roster about.
    const state = { ...log.state, roster: { ...roster, members } }
    const { rekey, secret } = await freshEpoch(state)
    const blocked = await wrapEpochSecret(secret, { ...epochContext(state, 0), epoch: 1 }, recipients(state.roster))
    expect(blocked.wraps.map((wrap) => wrap !== null)).toEqual([true, true, true, false])
    const bytes = await forge(state, { author: alice, ops: [ops.remove(bob), ops.remove(carol)], rekey })
    const { state: after } = await applyCommit(state, bytes)
    const { wraps } = await wrapEpochSecret(secret, epochContext(after, 1), recipients(after.roster))
    expect(wraps.length).toBe(2)
    expect(wraps).not.toContain(null)
  })
})

describe('checking keys, which costs most', () => {
  test('A46 comes after authority: who may not enrol anybody makes nobody check keys', async () => {
    const log = await group()
    const { state } = log
    await log.commit({ author: alice, ops: [await inviteOp(log.state, alice, token, { mode: 'approve' })] })
    // A card whose keys would be refused says whether they were looked at.
    const cards = [await cardWith(mallory.signer, new Uint8Array(32))]
    const add = [ops.add({ cards }, 'member')]
    expect((await log.refusal({ author: alice, ops: add })).code).toBe('invalid_key')
    expect((await log.refusal({ author: bob, ops: add })).data).toEqual({ rule: 'G43' })
    expect((await log.refusal({ author: bob, ops: [ops.approve({ cards }, token)] })).data).toEqual({ rule: 'G36' })
    expect((await log.refusal({ author: bob, ops: [ops.leave(), ...add] })).data).toEqual({ rule: 'G07' })
    expect((await log.refusal({ author: mallory, ops: add })).data).toEqual({ rule: 'G04' })
    expect((await log.refusal({ author: alice, ops: add, payload: { parent: state.head.hash } })).data).toEqual({ rule: 'G01' })
    expect((await log.refusal({ author: token, ops: [ops.join({ cards }), ...add], signers: [token] })).data).toEqual({ rule: 'G05' })
  })
})

describe('the roster', () => {
  test('keeps what every member could do at every commit', async () => {
    const log = await group()
    await log.commit({ author: alice, ops: [ops.setRole(bob, 'reader')] })
    await log.commit({ author: alice, ops: [ops.setRole(bob, 'admin')] })
    await log.commit({ author: alice, ops: [ops.remove(bob)], rekey: 'fresh' })
    await log.commit({ author: alice, ops: [ops.add(bob, 'member')] })
    const member = findMember(log.roster, bob.id)
    if (member === null) throw new Error('bob is in the roster')
    const roles = log.hashes.map((_, seq) => segmentAt(member, seq)?.role ?? null)
    expect(roles).toEqual([null, 'member', 'reader', 'admin', null, 'member'])
    expect(segmentAt(member, 99)?.role).toBe('member')
  })

  test('knows the epoch at every commit, and forgets retired ones', async () => {
    const log = await group()
    await log.commit({ author: alice, rekey: 'fresh' })
    await log.commit({ author: alice, ops: [ops.setRole(bob, 'reader')] })
    await log.commit({ author: alice, rekey: 'fresh' })
    expect([0, 1, 2, 3, 4].map((seq) => epochAt(log.roster, seq))).toEqual([0, 0, 1, 1, 2])
    expect(findEpoch(log.roster, 2)).toMatchObject({ seq: 4, parent: log.hashes[3], link: { to: 1 } })
    await log.commit({ author: alice, ops: [ops.retire(1)] })
    expect([0, 1, 2, 3, 4, 5].map((seq) => epochAt(log.roster, seq))).toEqual([null, null, null, null, 2, 2])
    expect(log.roster.retiredThrough).toBe(1)
  })

  test('takes the greatest time as the log’s, so that a commit dated back turns no clock back', async () => {
    const log = await group()
    const { logTime } = log.roster
    await log.commit({ author: alice, ops: [ops.setRole(bob, 'reader')], time: 0 })
    expect(log.roster.logTime).toBe(logTime)
  })

  test('A18 a commit of one group does not apply to another with the same people', async () => {
    const [one, two] = [await group(), await group()]
    const bytes = await forge(one.state, { author: alice, ops: [ops.setRole(bob, 'reader')] })
    await expect(applyCommit(two.state, bytes)).rejects.toMatchObject({ code: 'stale_head' })
  })

  test('A39 a commit that names another author is refused', async () => {
    const log = await group()
    expect((await log.refusal({ author: alice, ops: [ops.add(mallory, 'admin')], signers: [bob] })).code).toBe('invalid_signature')
  })
})
