/**
 * Snapshots: one at a trusted head, one ahead of it, and the invented ones (A68).
 */
import { describe, expect, test } from 'vitest'
import { useNodePublicCrypto } from '../../../platform/node/index.ts'
import { useNodeSecretCrypto } from '../../../platform/node/secret.ts'
import { applyCommit } from '../../../shared/group/fold.ts'
import { consistencyPath, inclusionPath } from '../../../shared/group/history.ts'
import type { Roster } from '../../../shared/group/roster.ts'
import { decodeRoster, encodeRoster, rosterHash } from '../../../shared/group/roster.ts'
import type { SnapshotBytes } from '../../../shared/group/snapshot.ts'
import { openSnapshotAhead, openSnapshotAt } from '../../../shared/group/snapshot.ts'
import { asGroupId } from '../../../shared/ids.ts'
import { Log, forge, ops, payloadOf, signPayload, withFlippedBit } from '../../support/forge.ts'
import { people } from '../../support/people.ts'

useNodePublicCrypto()
useNodeSecretCrypto()

const { alice, adam, bob, carol, mallory } = await people('alice', 'adam', 'bob', 'carol', 'mallory')

/** What an honest server hands out at the log’s head to somebody who trusts `from`. */
function snapshotOf(log: Log, from: Log): SnapshotBytes {
  const before = log.hashes.slice(0, -1)
  const consistency = from.hashes.length > before.length ? [] : consistencyPath(before, from.hashes.length)
  const genesis = before.length === 0 ? [] : inclusionPath(before, 0)
  return { commit: log.commits.at(-1) ?? new Uint8Array(), roster: encodeRoster(log.roster), consistency, genesis }
}

const trusted = await Log.found(alice)
await trusted.commit({ author: alice, ops: [ops.add(adam, 'admin'), ops.add(bob, 'member')] })
await trusted.commit({ author: alice, rekey: 'fresh' })
/** Eight commits on, the last by an admin. */
const ahead = trusted.fork()
for (let index = 0; index < 7; index += 1)
  await ahead.commit({ author: alice, ops: [ops.setRole(bob, index % 2 === 0 ? 'reader' : 'member')] })
await ahead.commit({ author: adam, rekey: 'fresh' })

describe('a snapshot at a trusted head', () => {
  test('is the group at that head, and folding goes on from it', async () => {
    const state = openSnapshotAt(ahead.state.head, snapshotOf(ahead, trusted), ahead.state.group)
    expect(state).toEqual(ahead.state)
    const next = await forge(ahead.state, { author: alice, ops: [ops.add(carol, 'member')] })
    expect((await applyCommit(state, next)).state).toEqual((await applyCommit(ahead.state, next)).state)
  })

  test('may be at the genesis', async () => {
    const young = await Log.found(alice)
    expect(openSnapshotAt(young.state.head, snapshotOf(young, young), young.state.group)).toEqual(young.state)
  })

  test('may be at any commit after it', async () => {
    const log = await Log.found(alice)
    for (let seq = 1; seq <= 17; seq += 1) {
      await log.commit({ author: alice, rekey: 'fresh' })
      expect(openSnapshotAt(log.state.head, snapshotOf(log, log), log.state.group)).toEqual(log.state)
    }
  })

  test('A52 is refused under the name of another group, though its head is the trusted one', async () => {
    const young = await Log.found(alice)
    for (const log of [young, trusted, ahead])
      for (const group of [await Log.found(mallory), await Log.found(bob)].map(({ state }) => state.group))
        expect(() => openSnapshotAt(log.state.head, snapshotOf(log, trusted), group)).toThrow(
          expect.objectContaining({ code: 'roster_mismatch' }),
        )
    // The name of a later commit is not that of the group.
    expect(() => openSnapshotAt(ahead.state.head, snapshotOf(ahead, trusted), asGroupId(ahead.state.head.hash))).toThrow(
      expect.objectContaining({ code: 'roster_mismatch' }),
    )
    const second = asGroupId(ahead.hashes[1] ?? young.state.group)
    const path = inclusionPath(ahead.hashes.slice(0, -1), 1)
    expect(() => openSnapshotAt(ahead.state.head, { ...snapshotOf(ahead, trusted), genesis: path }, second)).toThrow(
      expect.objectContaining({ code: 'roster_mismatch' }),
    )
  })

  test('A52 is refused with a path to the genesis that is short, long or changed', async () => {
    const snapshot = snapshotOf(ahead, trusted)
    const { genesis } = snapshot
    expect(genesis.length).toBeGreaterThan(1)
    for (const bad of [
      [],
      genesis.slice(1),
      genesis.slice(0, -1),
      genesis.toReversed(),
      [...genesis, new Uint8Array(32)],
      ...genesis.map((_, at) => genesis.map((hash, index) => (index === at ? withFlippedBit(hash, 0) : hash))),
    ])
      expect(() => openSnapshotAt(ahead.state.head, { ...snapshot, genesis: bad }, ahead.state.group)).toThrow(
        expect.objectContaining({ code: 'roster_mismatch' }),
      )
    const young = await Log.found(alice)
    const long = { ...snapshotOf(young, young), genesis: [new Uint8Array(32)] }
    expect(() => openSnapshotAt(young.state.head, long, young.state.group)).toThrow(expect.objectContaining({ code: 'roster_mismatch' }))
  })

  test('is refused for another commit', () => {
    expect(() => openSnapshotAt(trusted.state.head, snapshotOf(ahead, trusted), ahead.state.group)).toThrow(
      expect.objectContaining({ code: 'roster_mismatch' }),
    )
  })

  test('is refused with another roster', () => {
    const other = { ...snapshotOf(ahead, trusted), roster: encodeRoster(trusted.roster) }
    expect(() => openSnapshotAt(ahead.state.head, other, ahead.state.group)).toThrow(expect.objectContaining({ code: 'roster_mismatch' }))
  })

  test('A01 A07 is refused with any change to the roster: a ghost, a role', () => {
    const promoted = { ...ahead.roster, members: ahead.roster.members.map((member) => ({ ...member, role: 'admin' as const })) }
    const doubled = { ...ahead.roster, members: [...ahead.roster.members, ...ahead.roster.members] }
    for (const roster of [promoted, doubled])
      expect(() =>
        openSnapshotAt(ahead.state.head, { ...snapshotOf(ahead, trusted), roster: encodeRoster(roster) }, ahead.state.group),
      ).toThrow(expect.objectContaining({ code: 'roster_mismatch' }))
  })

  test('is refused with any bit of the roster flipped', () => {
    const snapshot = snapshotOf(ahead, trusted)
    for (let bit = 0; bit < snapshot.roster.length * 8; bit += 7)
      expect(() =>
        openSnapshotAt(ahead.state.head, { ...snapshot, roster: withFlippedBit(snapshot.roster, bit) }, ahead.state.group),
      ).toThrow(expect.objectContaining({ name: 'ClavigerError' }))
  })
})

describe('a snapshot ahead of the trusted head', () => {
  test('is taken from an admin of the trusted roster who still is one', async () => {
    expect(await openSnapshotAhead(trusted.state, snapshotOf(ahead, trusted))).toEqual(ahead.state)
  })

  test.each([1, 2, 3, 4, 5, 6, 7, 8])('is taken %i commits ahead', async (distance) => {
    const log = trusted.fork()
    for (let index = 0; index < distance; index += 1)
      await log.commit({ author: alice, ops: [ops.setRole(bob, index % 2 === 0 ? 'reader' : 'member')] })
    expect(await openSnapshotAhead(trusted.state, snapshotOf(log, trusted))).toEqual(log.state)
  })

  test('is refused if its signer was no admin before: a member, or one who became admin meanwhile', async () => {
    const log = trusted.fork()
    await log.commit({ author: bob, ops: [ops.leave()] })
    await expect(openSnapshotAhead(trusted.state, snapshotOf(log, trusted))).rejects.toMatchObject({ code: 'not_authorised' })
    const risen = trusted.fork()
    await risen.commit({ author: alice, ops: [ops.setRole(bob, 'admin')] })
    await risen.commit({ author: bob, rekey: 'fresh' })
    await expect(openSnapshotAhead(trusted.state, snapshotOf(risen, trusted))).rejects.toMatchObject({ code: 'not_authorised' })
  })

  test('is refused if its signer is no admin in it any more', async () => {
    const log = trusted.fork()
    await log.commit({ author: adam, ops: [ops.setRole(adam, 'member')] })
    await expect(openSnapshotAhead(trusted.state, snapshotOf(log, trusted))).rejects.toMatchObject({ code: 'not_authorised' })
  })

  test('is refused if its signer left with it', async () => {
    const log = trusted.fork()
    await log.commit({ author: adam, ops: [ops.leave()] })
    await expect(openSnapshotAhead(trusted.state, snapshotOf(log, trusted))).rejects.toMatchObject({ code: 'not_authorised' })
  })

  test('A68 is refused with the server’s own admin, however well it is made', async () => {
    const fake = await Log.found(mallory)
    for (let index = 0; index < 6; index += 1)
      await fake.commit({ author: mallory, ...(index === 0 ? { ops: [ops.add(bob, 'member')] } : { rekey: 'fresh' }) })
    const consistency = consistencyPath(fake.hashes.slice(0, -1), trusted.hashes.length)
    await expect(openSnapshotAhead(trusted.state, { ...snapshotOf(fake, trusted), consistency })).rejects.toMatchObject({
      code: 'not_authorised',
    })
  })

  test('A68 is refused if alice’s name stands over the server’s signature', async () => {
    const invented: Roster = {
      ...ahead.roster,
      members: ahead.roster.members.map((member, index) => (index === 0 ? member : { ...member, kemKey: mallory.kemPrivateKey.publicKey })),
    }
    const payload = {
      ...payloadOf(trusted.state, { author: alice, ops: [], rekey: null }),
      seq: ahead.state.head.seq,
      epoch: ahead.roster.epoch,
      roster: rosterHash(invented),
    }
    const commit = await signPayload(payload, [mallory])
    await expect(
      openSnapshotAhead(trusted.state, { ...snapshotOf(ahead, trusted), commit, roster: encodeRoster(invented) }),
    ).rejects.toMatchObject({ code: 'invalid_signature' })
  })

  test('A68 is refused on another branch, even by the same admin', async () => {
    const branch = await Log.found(alice)
    await branch.commit({ author: alice, ops: [ops.add(adam, 'admin'), ops.add(bob, 'member')] })
    for (let index = 0; index < 9; index += 1) await branch.commit({ author: alice, rekey: 'fresh' })
    await expect(openSnapshotAhead(trusted.state, snapshotOf(branch, trusted))).rejects.toMatchObject({ code: 'fork' })
  })

  test('is refused at or behind the trusted head', async () => {
    await expect(openSnapshotAhead(ahead.state, { ...snapshotOf(ahead, trusted), consistency: [] })).rejects.toMatchObject({ code: 'fork' })
    await expect(openSnapshotAhead(ahead.state, snapshotOf(trusted, ahead))).rejects.toMatchObject({ code: 'fork' })
  })

  test('is refused with a proof that is short, long or changed', async () => {
    const snapshot = snapshotOf(ahead, trusted)
    const { consistency } = snapshot
    expect(consistency.length).toBeGreaterThan(1)
    for (const bad of [
      [],
      consistency.slice(1),
      [...consistency, new Uint8Array(32)],
      consistency.map((hash, index) => (index === 0 ? withFlippedBit(hash, 0) : hash)),
    ])
      await expect(openSnapshotAhead(trusted.state, { ...snapshot, consistency: bad })).rejects.toMatchObject({ code: 'fork' })
  })

  test('is refused if the roster is of another commit than the one signed', async () => {
    const older = trusted.fork()
    await older.commit({ author: alice, ops: [ops.setRole(bob, 'reader')] })
    const mixed = { ...snapshotOf(ahead, trusted), roster: encodeRoster(older.roster) }
    await expect(openSnapshotAhead(trusted.state, mixed)).rejects.toMatchObject({ code: 'roster_mismatch' })
  })

  test('A13 a roster whose own number is not its commit’s is refused', async () => {
    const odd = { ...decodeRoster(encodeRoster(ahead.roster)), seq: ahead.roster.seq + 1 }
    const payload = {
      ...payloadOf(trusted.state, { author: alice, ops: [], rekey: null }),
      seq: ahead.state.head.seq,
      roster: rosterHash(odd),
    }
    const commit = await signPayload(payload, [alice])
    await expect(
      openSnapshotAhead(trusted.state, { commit, roster: encodeRoster(odd), consistency: [], genesis: [] }),
    ).rejects.toMatchObject({
      code: 'roster_mismatch',
    })
  })
})
