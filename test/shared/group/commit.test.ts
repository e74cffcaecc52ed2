/**
 * Commits as bytes: what is decoded, what is not, and what a hash covers.
 */
import { describe, expect, test } from 'vitest'
import { useNodePublicCrypto } from '../../../platform/node/index.ts'
import { useNodeSecretCrypto } from '../../../platform/node/secret.ts'
import { concat, toHex } from '../../../shared/bytes.ts'
import { encodeCanonical } from '../../../shared/codec.ts'
import { sha256 } from '../../../shared/crypto/public-crypto.ts'
import { assembleCommit, decodeCommit, encodePayload } from '../../../shared/group/commit.ts'
import { foldCommit } from '../../../shared/group/fold.ts'
import { planCommit, signCommit } from '../../../shared/group/plan-commit.ts'
import { rosterHash } from '../../../shared/group/roster.ts'
import * as limits from '../../../shared/limits.ts'
import { Log, START_MS, freshEpoch, inviteOf, inviteOp, ops, payloadOf, signPayload } from '../../support/forge.ts'
import { people } from '../../support/people.ts'

useNodePublicCrypto()
useNodeSecretCrypto()

const { alice, bob, carol } = await people('alice', 'bob', 'carol')
const log = await Log.found(alice)
await log.commit({ author: alice, ops: [ops.add(bob, 'member')] })
const payload = payloadOf(log.state, { author: alice, ops: [ops.setRole(bob, 'reader')], rekey: null })
const bytes = await signPayload(payload, [alice])
const invite = await inviteOp(log.state, alice, await inviteOf('many'))
const malformed = expect.objectContaining({ code: 'malformed' })

describe('the bytes of a commit', () => {
  test('decode to what was signed, and the hash covers payload and signatures', () => {
    const commit = decodeCommit(bytes)
    expect(commit.payload).toEqual(payload)
    expect(commit.bytes).toBe(bytes)
    const label = new TextEncoder().encode('claviger/1 commit-hash\0')
    expect(commit.hash).toEqual(sha256(concat(label, commit.payloadBytes, ...commit.signatures)))
  })

  test('made again from their parts are the same', () => {
    const { payloadBytes, signatures } = decodeCommit(bytes)
    expect(toHex(assembleCommit(payloadBytes, signatures).bytes)).toBe(toHex(bytes))
    expect(toHex(encodePayload(payload).payloadBytes)).toBe(toHex(payloadBytes))
  })

  test('of one payload under another signature have another hash, so that nobody can say the same twice', () => {
    const commit = decodeCommit(bytes)
    const other = assembleCommit(commit.payloadBytes, [
      Uint8Array.from(commit.signatures[0] ?? [], (byte, index) => (index === 63 ? byte ^ 1 : byte)) as (typeof commit.signatures)[number],
    ])
    expect(other.hash).not.toEqual(commit.hash)
  })

  const fields: Readonly<Record<string, unknown>> = payload
  test.each(Object.keys(fields))('without %s are malformed', async (field) => {
    const { [field]: _, ...rest } = fields
    const short = await signPayload(rest, [alice])
    expect(() => decodeCommit(short)).toThrow(malformed)
  })

  test.each([
    ['an unknown field', { extra: null }],
    ['A27 another version', { v: 2 }],
    ['A27 version 0', { v: 0 }],
    ['a negative number', { seq: -1 }],
    ['a number past 2^53', { seq: 2n ** 60n }],
    ['a fraction', { time: 0.5 }],
    ['an epoch past 31 bits', { epoch: 0x8000_0000 }],
    ['a parent of 31 bytes', { parent: new Uint8Array(31) }],
    ['a roster hash of 33 bytes', { roster: new Uint8Array(33) }],
    ['an op that nobody knows', { ops: [{ type: 'set-recovery' }] }],
    ['an op with an unknown field', { ops: [{ ...ops.leave(), member: bob.id }] }],
    ['an op without its fields', { ops: [{ type: 'remove' }] }],
    ['a role that nobody knows', { ops: [{ ...ops.setRole(bob, 'reader'), role: 'owner' }] }],
    ['an op named after what every object inherits', { ops: [{ type: '__proto__' }] }],
    ['an op that is inherited', { ops: [{ type: 'toString' }] }],
    ['no cards in an add', { ops: [{ ...ops.add(bob, 'member'), cards: [] }] }],
    ['more cards than a chain has', { ops: [{ ...ops.add(bob, 'member'), cards: Array.from({ length: 65 }, () => new Uint8Array(1)) }] }],
    ['more ops than a commit has', { ops: Array.from({ length: limits.OPS_PER_COMMIT_MAX + 1 }, () => ops.leave()) }],
    ['A46 more uses of an invite than there may be', { ops: [{ ...invite, maxUses: limits.INVITE_USES_MAX + 1 }] }],
    ['an unknown field in a rekey', { rekey: { commitment: new Uint8Array(32), link: null, depositKey: new Uint8Array(32), extra: 1 } }],
  ])('with %s are malformed', async (_, change) => {
    const odd = await signPayload({ ...payload, ...change }, [alice])
    expect(() => decodeCommit(odd)).toThrow(malformed)
  })

  test.each([
    ['no signature', { signatures: [] }],
    ['three signatures', { signatures: Array.from({ length: 3 }, () => new Uint8Array(64)) }],
    ['a signature of 63 bytes', { signatures: [new Uint8Array(63)] }],
    ['an unknown field beside', { note: 'unsigned' }],
    ['a payload that is text', { payload: 'text' }],
  ])('with %s are malformed', (_, change) => {
    const { payloadBytes, signatures } = decodeCommit(bytes)
    expect(() => decodeCommit(encodeCanonical({ payload: payloadBytes, signatures, ...change }))).toThrow(malformed)
  })

  test('with a trailing byte outside or inside are malformed', async () => {
    expect(() => decodeCommit(concat(bytes, Uint8Array.of(0)))).toThrow(malformed)
    const inner = concat(decodeCommit(bytes).payloadBytes, Uint8Array.of(0xf6))
    expect(() => assembleCommit(inner, decodeCommit(bytes).signatures)).toThrow(malformed)
  })

  test('in any encoding but the shortest and sorted one are malformed', () => {
    const { payloadBytes, signatures } = decodeCommit(bytes)
    const [signature] = signatures
    if (signature === undefined) throw new Error('one signature')
    const at = toHex(payloadBytes).indexOf('617601') / 2
    const longer = concat(payloadBytes.subarray(0, at + 2), Uint8Array.of(0x18, 1), payloadBytes.subarray(at + 3))
    expect(() => assembleCommit(longer, [signature])).toThrow(malformed)
    // The outer map with its two entries exchanged: "signatures" before "payload".
    const parts = [encodeCanonical('signatures'), encodeCanonical([signature]), encodeCanonical('payload'), encodeCanonical(payloadBytes)]
    expect(() => decodeCommit(concat(Uint8Array.of(0xa2), ...parts))).toThrow(malformed)
    expect(() => decodeCommit(concat(Uint8Array.of(0xa2), ...parts.slice(2), ...parts.slice(0, 2)))).not.toThrow()
  })

  test('A46 at their limits are decoded, and past them refused first', async () => {
    const most = await signPayload({ ...payload, ops: Array.from({ length: limits.OPS_PER_COMMIT_MAX }, () => ops.leave()) }, [alice])
    expect(decodeCommit(most).payload.ops.length).toBe(limits.OPS_PER_COMMIT_MAX)
    expect(() => decodeCommit(new Uint8Array(limits.COMMIT_BYTES_MAX + 1))).toThrow(expect.objectContaining({ code: 'limit_exceeded' }))
    expect(() => decodeCommit(new Uint8Array(limits.COMMIT_BYTES_MAX).fill(0x81))).toThrow(malformed)
  })

  test('A46 of a whole department fit: 512 adds with their cards', async () => {
    const crowd = Object.values(await people(...Array.from({ length: limits.OPS_PER_COMMIT_MAX }, (_, index) => `colleague ${index}`)))
    const story = log.fork()
    const fold = await story.commit({ author: alice, ops: crowd.map((one) => ops.add(one, 'member')) })
    expect(fold.commit.bytes.length).toBeLessThan(limits.COMMIT_BYTES_MAX)
    expect(story.roster.members.length).toBe(2 + crowd.length)
  })
})

describe('planning a commit', () => {
  test('gives the payload that the fold accepts, genesis and next', async () => {
    const { rekey } = await freshEpoch(null)
    const genesis = planCommit(null, alice.signer, { time: START_MS, ops: [ops.create(alice)], rekey })
    const { state } = foldCommit(null, await signCommit(genesis.payload, [alice.signer]))
    expect(rosterHash(state.roster)).toEqual(genesis.payload.roster)
    const next = planCommit(state, alice.signer, { time: START_MS + 1, ops: [ops.add(bob, 'reader')], rekey: null })
    expect(next.transition.newRecipients.map(({ kemKey }) => kemKey)).toEqual([bob.kemPrivateKey.publicKey])
    expect(next.transition.signers).toEqual([alice.signer.publicKey])
    const fold = foldCommit(state, await signCommit(next.payload, [alice.signer]))
    expect(fold.state.roster.members.length).toBe(2)
  })

  test('names both signers of a join', async () => {
    const story = log.fork()
    const keys = await inviteOf('plan')
    await story.commit({ author: alice, ops: [await inviteOp(story.state, alice, keys)] })
    const { transition } = planCommit(story.state, keys.signer, { time: story.roster.logTime, ops: [ops.join(carol)], rekey: null })
    expect(transition.signers).toEqual([keys.signer.publicKey, carol.signer.publicKey])
  })

  test('refuses with the rule that would refuse the commit, before anything is signed', () => {
    const plan = () => planCommit(log.state, bob.signer, { time: START_MS, ops: [ops.remove(alice)], rekey: null })
    expect(plan).toThrow(expect.objectContaining({ code: 'not_authorised', data: { rule: 'G48' } }))
  })
})
