import { describe, expect, test } from 'vitest'
import type { Roster } from '../../../shared/group/roster.ts'
import { PROFILE_OBJECT_ID } from '../../../shared/ids.ts'
import type { Header } from '../../../shared/objects/header.ts'
import { acceptHeader, judgeHeader, judgeSuccessor, needsVouching } from '../../../shared/objects/header-rules.ts'
import {
  alice,
  always,
  bob,
  carol,
  failureOf,
  filled,
  group,
  headAt,
  headerOf,
  mallory,
  objectId,
  otherGroup,
  rosterOf,
  signedBy,
  tombstoneOf,
} from './fixtures.ts'

const roster = rosterOf([
  [alice, always('admin')],
  [bob, always('member')],
  [carol, always('reader')],
])

async function verdict(author: typeof alice, changes: Partial<Header> = {}, at: Roster = roster): Promise<string> {
  const signed = await signedBy(author, headerOf({ author: author.id, ...changes }))
  return failureOf(() => acceptHeader(group, at, signed))
}

describe('a header', () => {
  test('of an admin or a member is accepted', async () => {
    expect(await verdict(alice)).toBe('nothing')
    expect(await verdict(bob)).toBe('nothing')
  })

  test('of another group is refused (O5, A18)', async () => {
    expect(await verdict(alice, { group: otherGroup })).toBe('rule_violated O5_groupMatches')
  })

  test('with a head this roster has not reached is refused (O6)', async () => {
    expect(await verdict(alice, { at: headAt(40) })).toBe('nothing')
    expect(await verdict(alice, { at: headAt(41) })).toBe('bad_head O6_headIsKnown')
    expect(await verdict(alice, { at: headAt(Number.MAX_SAFE_INTEGER) })).toBe('bad_head O6_headIsKnown')
  })

  test('of somebody the roster does not know is refused (O7, A01)', async () => {
    expect(await verdict(mallory)).toBe('not_authorised O7_authorIsMemberThen')
  })

  test('in the name of another member is refused (A39)', async () => {
    expect(await verdict(mallory, { author: alice.id })).toBe('invalid_signature')
    expect(await verdict(carol, { author: alice.id })).toBe('invalid_signature')
  })

  test('of a reader or a depositor is refused (O8)', async () => {
    expect(await verdict(carol)).toBe('not_authorised O8_authorMayWriteThen')
    expect(await verdict(carol, {}, rosterOf([[carol, always('depositor')]]))).toBe('not_authorised O8_authorMayWriteThen')
  })

  test('is judged by the role at its head, not by the role now (A44)', async () => {
    const demoted = rosterOf([
      [
        bob,
        [
          { fromSeq: 0, toSeq: 35, role: 'member' },
          { fromSeq: 35, toSeq: null, role: 'reader' },
        ],
      ],
    ])
    expect(await verdict(bob, { at: headAt(34) }, demoted)).toBe('nothing')
    expect(await verdict(bob, { at: headAt(35) }, demoted)).toBe('not_authorised O8_authorMayWriteThen')
  })

  test('of a removed member counts up to the removal and not from it on (A35)', async () => {
    const removed = rosterOf([[bob, [{ fromSeq: 5, toSeq: 35, role: 'member' }]]])
    expect(await verdict(bob, { at: headAt(34) }, removed)).toBe('nothing')
    for (const seq of [35, 36, 40]) expect(await verdict(bob, { at: headAt(seq) }, removed)).toBe('not_authorised O7_authorIsMemberThen')
    expect(await verdict(bob, { at: headAt(4), epoch: 0 }, removed)).toBe('not_authorised O7_authorIsMemberThen')
  })

  test('must verify under the key its author had then', async () => {
    const rotated = rosterOf([[bob, always('member')]])
    const [member] = rotated.members
    if (member === undefined) throw new Error('no member')
    const segments = [
      { fromSeq: 0, toSeq: 35, role: 'member', signingKey: bob.signer.publicKey },
      { fromSeq: 35, toSeq: null, role: 'member', signingKey: mallory.signer.publicKey },
    ] as const
    const after: Roster = { ...rotated, members: [{ ...member, segments }] }
    expect(await verdict(bob, { at: headAt(34) }, after)).toBe('nothing')
    expect(await verdict(bob, { at: headAt(36) }, after)).toBe('invalid_signature')
  })

  test('of the profile is accepted from admins alone (O9)', async () => {
    expect(await verdict(alice, { object: PROFILE_OBJECT_ID })).toBe('nothing')
    expect(await verdict(bob, { object: PROFILE_OBJECT_ID })).toBe('not_authorised O9_profileIsWrittenByAdmins')
    const signed = await signedBy(bob, tombstoneOf({ object: PROFILE_OBJECT_ID, author: bob.id }))
    expect(await failureOf(() => acceptHeader(group, roster, signed))).toBe('not_authorised O9_profileIsWrittenByAdmins')
  })

  test('whose epoch is not that of its head is refused (O10, A15)', async () => {
    expect(await verdict(alice, { at: headAt(29), epoch: 2 })).toBe('nothing')
    expect(await verdict(alice, { at: headAt(29), epoch: 3 })).toBe('rule_violated O10_epochIsThatOfTheHead')
    expect(await verdict(alice, { at: headAt(30), epoch: 2 })).toBe('rule_violated O10_epochIsThatOfTheHead')
    expect(await verdict(alice, { at: headAt(30), epoch: 4 })).toBe('rule_violated O10_epochIsThatOfTheHead')
  })

  test('of a retired epoch cannot pose as one of a live epoch, to be spared its page (A73)', async () => {
    expect(await verdict(alice, { at: headAt(19), epoch: 1 })).toBe('nothing')
    expect(await verdict(alice, { at: headAt(19), epoch: 2 })).toBe('rule_violated O10_epochIsThatOfTheHead')
    expect(await verdict(alice, { at: headAt(19), epoch: 3 })).toBe('rule_violated O10_epochIsThatOfTheHead')
  })

  test('of a retired epoch needs a page that vouches for it, a tombstone has none', () => {
    expect(needsVouching(roster, headerOf({ epoch: 1 }))).toBe(true)
    expect(needsVouching(roster, headerOf({ epoch: 2 }))).toBe(false)
    expect(needsVouching(roster, tombstoneOf({ epoch: 1 }))).toBe(false)
  })

  test('that breaks a rule is refused before any signature is checked', async () => {
    const signed = await signedBy(mallory, headerOf({ author: carol.id }))
    expect(await failureOf(() => judgeHeader(group, roster, signed))).toBe('not_authorised O8_authorMayWriteThen')
  })
})

const first = await signedBy(alice, headerOf())
const second = await signedBy(alice, headerOf({ version: 2, generation: 2, previous: first.hash }))

describe('a version', () => {
  test('is accepted by somebody who holds none', () => {
    expect(judgeSuccessor(null, first)).toBe('first')
    expect(judgeSuccessor(null, second)).toBe('first')
  })

  test('is accepted on top of the one held, and when it is the one held', () => {
    expect(judgeSuccessor(first, second)).toBe('next')
    expect(judgeSuccessor(second, second)).toBe('same')
  })

  test('is a fork if it is older than the one held (A13)', async () => {
    expect(await failureOf(() => judgeSuccessor(second, first))).toBe('object_fork O12_versionGrows')
  })

  test('is a fork if another version has its number, with both as evidence (A14)', async () => {
    const other = await signedBy(bob, headerOf({ version: 2, generation: 2, previous: first.hash, author: bob.id }))
    expect(await failureOf(() => judgeSuccessor(second, other))).toBe('object_fork O12_versionGrows')
    await expect(async () => judgeSuccessor(second, other)).rejects.toMatchObject({ data: { held: second.bytes, offered: other.bytes } })
  })

  test('is a fork if it follows another version than the one held', async () => {
    const third = await signedBy(alice, headerOf({ version: 3, generation: 3, previous: filled(32, 99) }))
    expect(await failureOf(() => judgeSuccessor(second, third))).toBe('object_fork O13_previousIsTheOneHeld')
  })

  test('is a fork if its head is older than that of the one held', async () => {
    const backdated = await signedBy(alice, headerOf({ version: 3, generation: 3, previous: second.hash, at: headAt(29), epoch: 2 }))
    expect(await failureOf(() => judgeSuccessor(second, backdated))).toBe('object_fork O14_headNeverGoesBack')
    const muchLater = await signedBy(alice, headerOf({ version: 9, generation: 9, at: headAt(29), epoch: 2 }))
    expect(await failureOf(() => judgeSuccessor(second, muchLater))).toBe('object_fork O14_headNeverGoesBack')
  })

  test('of another object or group is none', async () => {
    const other = await signedBy(alice, headerOf({ object: objectId(2), version: 2, generation: 2, previous: first.hash }))
    expect(await failureOf(() => judgeSuccessor(first, other))).toBe('object_fork O11_sameObject')
    const elsewhere = await signedBy(alice, headerOf({ group: otherGroup, version: 2, generation: 2, previous: first.hash }))
    expect(await failureOf(() => judgeSuccessor(first, elsewhere))).toBe('object_fork O11_sameObject')
  })

  test('after versions that were not seen is later, not next', async () => {
    expect(judgeSuccessor(first, await signedBy(alice, headerOf({ version: 4, generation: 4 })))).toBe('later')
  })

  test('signed again, alone or in a batch, is the same version', async () => {
    expect(judgeSuccessor(first, await signedBy(mallory, headerOf()))).toBe('same')
  })
})
