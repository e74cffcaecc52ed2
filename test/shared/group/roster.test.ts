/**
 * The roster’s bytes and hash.
 */
import { describe, expect, test } from 'vitest'
import { useNodePublicCrypto } from '../../../platform/node/index.ts'
import { useNodeSecretCrypto } from '../../../platform/node/secret.ts'
import { toHex } from '../../../shared/bytes.ts'
import { encodeCanonical } from '../../../shared/codec.ts'
import type { Roster } from '../../../shared/group/roster.ts'
import {
  ROLE_RIGHTS,
  canWrite,
  currentEpoch,
  decodeRoster,
  encodeRoster,
  findActive,
  findInviteBySigningKey,
  findMember,
  findMemberBySigningKey,
  holdsKeys,
  rosterHash,
} from '../../../shared/group/roster.ts'
import * as limits from '../../../shared/limits.ts'
import { Log, inviteOf, inviteOp, ops } from '../../support/forge.ts'
import { people } from '../../support/people.ts'

useNodePublicCrypto()
useNodeSecretCrypto()

const { alice, bob, carol } = await people('alice', 'bob', 'carol')
const [open, dead] = [await inviteOf('open'), await inviteOf('dead')]
const log = await Log.found(alice)
await log.commit({
  author: alice,
  ops: [
    ops.add(bob, 'member'),
    ops.add(carol, 'reader'),
    await inviteOp(log.state, alice, open),
    await inviteOp(log.state, alice, dead, { mode: 'approve' }),
  ],
})
await log.commit({ author: alice, ops: [ops.revoke(dead), ops.setRole(carol, 'depositor')], rekey: 'fresh' })
const { roster } = log
/** What takes most bytes. */
const [GREATEST, key] = [Number.MAX_SAFE_INTEGER, alice.signer.publicKey]

type Plain = Uint8Array | number | string | boolean | null | readonly Plain[] | { readonly [field: string]: Plain }

/** Every value that differs from this one in one leaf. */
function* changes(value: Plain, path: string): Generator<{ path: string; changed: Plain }> {
  if (value instanceof Uint8Array) yield { path, changed: value.map((byte, index) => (index === value.length - 1 ? byte ^ 1 : byte)) }
  else if (Array.isArray(value)) yield* changesInList(value, path)
  else if (typeof value === 'number') yield { path, changed: value + 1 }
  else if (typeof value === 'boolean') yield { path, changed: !value }
  else if (typeof value === 'string') yield { path, changed: `${value}!` }
  else if (value === null) yield { path, changed: 0 }
  // What is neither a leaf nor a list is a map.
  else
    for (const [field, part] of Object.entries(value as { readonly [field: string]: Plain }))
      for (const inner of changes(part, `${path}.${field}`)) yield { path: inner.path, changed: { ...value, [field]: inner.changed } }
}

function* changesInList(list: readonly Plain[], path: string): Generator<{ path: string; changed: Plain }> {
  for (const [index, item] of list.entries())
    for (const inner of changes(item, `${path}[${index}]`))
      yield { path: inner.path, changed: list.map((other, at) => (at === index ? inner.changed : other)) }
  if (list.length > 0) yield { path: `${path} without its last`, changed: list.slice(0, -1) }
  if (list.length > 1) yield { path: `${path} in another order`, changed: list.toReversed() }
  const [first] = list
  if (first !== undefined) yield { path: `${path} with one more`, changed: [...list, first] }
}

describe('the hash of a roster', () => {
  test('changes with every field of every entry, with their number and their order', () => {
    const hash = toHex(rosterHash(roster))
    const variants = [...changes(roster, 'roster')]
    // The variants are rosters in all but the one change.
    const hashes = variants.map(({ path, changed }) => [path, toHex(rosterHash(changed as unknown as Roster))] as const)
    expect(hashes.filter(([, other]) => other === hash)).toEqual([])
    expect(new Set(hashes.map(([, other]) => other)).size).toBe(hashes.length)
    expect(hashes.length).toBeGreaterThan(90)
  })

  test('does not depend on which objects hold the entries', () => {
    expect(rosterHash(decodeRoster(encodeRoster(roster)))).toEqual(rosterHash(roster))
  })

  test('tells a member from an invite with the same bytes in another list', () => {
    const moved = { ...roster, members: [], invites: roster.members as unknown as Roster['invites'] }
    expect(rosterHash(moved)).not.toEqual(rosterHash({ ...roster, invites: [] }))
  })
})

describe('the bytes of a roster', () => {
  test('decode to the same roster and encode to the same bytes', () => {
    const bytes = encodeRoster(roster)
    expect(decodeRoster(bytes)).toEqual(roster)
    expect(encodeRoster(decodeRoster(bytes))).toEqual(bytes)
  })

  test.each([
    ['an unknown field', { ...roster, extra: 1 }],
    ['an unknown field in a member', { ...roster, members: roster.members.map((member) => ({ ...member, admin: true })) }],
    ['no epoch', { ...roster, epochs: [] }],
    ['fewer peaks than its size has', { ...roster, history: { ...roster.history, peaks: [] } }],
    ['another version', { ...roster, v: 2 }],
    ['a suite that nobody knows', { ...roster, suite: 9 }],
    ['a role that nobody knows', { ...roster, members: roster.members.map((member) => ({ ...member, role: 'owner' })) }],
    ['a negative number', { ...roster, seq: -1 }],
    ['a fraction', { ...roster, logTime: 0.5 }],
    [
      'a key of 31 bytes',
      { ...roster, members: roster.members.map((member) => ({ ...member, signingKey: member.signingKey.subarray(1) })) },
    ],
  ])('are refused with %s', (_, value) => {
    expect(() => decodeRoster(encodeCanonical(value))).toThrow(expect.objectContaining({ code: 'malformed' }))
  })

  test('are refused with a trailing byte', () => {
    expect(() => decodeRoster(Uint8Array.from([...encodeRoster(roster), 0]))).toThrow(expect.objectContaining({ code: 'malformed' }))
  })

  test('are refused past their limit', () => {
    expect(() => decodeRoster(new Uint8Array(limits.ROSTER_BYTES_MAX + 1))).toThrow(expect.objectContaining({ code: 'limit_exceeded' }))
  })

  test('A46 hold the greatest group within their limit', () => {
    const [one, two, epoch] = [roster.members[0], roster.invites[0], { ...currentEpoch(roster), link: { to: GREATEST, hash: key } }]
    if (one === undefined || two === undefined) throw new Error('the roster has both')
    const segment = { fromSeq: GREATEST, toSeq: GREATEST, role: 'depositor' as const, signingKey: key }
    const segments = Array.from({ length: limits.SEGMENTS_MAX / limits.MEMBERS_MAX }, () => segment)
    const member = { ...one, state: 'removed' as const, role: 'depositor' as const, cardRevision: GREATEST, via: open.id, segments }
    const invite = {
      ...two,
      state: 'revoked' as const,
      role: 'depositor' as const,
      expiresAt: GREATEST,
      uses: GREATEST,
      createdSeq: GREATEST,
    }
    const full = {
      ...roster,
      members: Array.from({ length: limits.MEMBERS_MAX }, () => member),
      invites: Array.from({ length: limits.INVITES_MAX }, () => invite),
      epochs: Array.from({ length: limits.LIVE_EPOCHS_MAX }, () => epoch),
    }
    const bytes = encodeRoster(full)
    expect(bytes.length).toBeLessThan(limits.ROSTER_BYTES_MAX)
    expect(decodeRoster(bytes).members).toHaveLength(limits.MEMBERS_MAX)
    const long = { ...member, segments: Array.from({ length: limits.SEGMENTS_PER_MEMBER_MAX }, () => segment) }
    expect(decodeRoster(encodeRoster({ ...roster, members: [long] })).members[0]).toEqual(long)
    for (const more of [
      { members: Array.from({ length: limits.MEMBERS_MAX + 1 }, () => one) },
      { invites: [...full.invites, invite] },
      { epochs: [...full.epochs, epoch] },
      { members: [{ ...long, segments: [...long.segments, segment] }] },
    ])
      expect(() => decodeRoster(encodeRoster({ ...roster, ...more }))).toThrow(expect.objectContaining({ code: 'malformed' }))
  })
})

describe('finding', () => {
  test('by id finds former members too, by key only active ones', async () => {
    const later = log.fork()
    await later.commit({ author: alice, ops: [ops.remove(bob)], rekey: 'fresh' })
    expect(findMember(later.roster, bob.id)?.state).toBe('removed')
    expect(findActive(later.roster, bob.id)).toBeNull()
    expect(findMemberBySigningKey(later.roster, bob.signer.publicKey)).toBeNull()
    expect(findMemberBySigningKey(later.roster, alice.signer.publicKey)?.role).toBe('admin')
  })

  test('an invite by its key finds live ones', () => {
    expect(findInviteBySigningKey(roster, open.signer.publicKey)?.state).toBe('live')
    expect(findInviteBySigningKey(roster, dead.signer.publicKey)).toBeNull()
  })
})

describe('roles', () => {
  test('hold keys and write as their table says', () => {
    const roles = ['admin', 'member', 'reader', 'depositor'] as const
    expect(Object.keys(ROLE_RIGHTS)).toEqual(roles)
    expect(roles.map((role) => [holdsKeys(role), canWrite(role)])).toEqual([
      [true, true],
      [true, true],
      [true, false],
      [false, false],
    ])
  })
})
