/**
 * Signed heads: whose word they are, and what they do not vouch for.
 */
import { describe, expect, test } from 'vitest'
import { nodePublicCrypto, useNodePublicCrypto } from '../../../platform/node/index.ts'
import { useNodeSecretCrypto } from '../../../platform/node/secret.ts'
import { encodeCanonical } from '../../../shared/codec.ts'
import { usePublicCrypto } from '../../../shared/crypto/public-crypto.ts'
import type { Signer } from '../../../shared/crypto/signature.ts'
import type { HeadStatement } from '../../../shared/group/signed-head.ts'
import { decodeSignedHead, signHead, verifySignedHead } from '../../../shared/group/signed-head.ts'
import { asGroupId } from '../../../shared/ids.ts'
import { Log, ops, withFlippedBit } from '../../support/forge.ts'
import { people, rotated, seedOf } from '../../support/people.ts'

useNodePublicCrypto()
useNodeSecretCrypto()

const { alice, bob, dave, erin, mallory } = await people('alice', 'bob', 'dave', 'erin', 'mallory')
const log = await Log.found(alice)
await log.commit({ author: alice, ops: [ops.add(bob, 'member'), ops.add(dave, 'depositor'), ops.add(erin, 'member')] })
await log.commit({ author: alice, ops: [ops.remove(erin)], rekey: 'fresh' })
const { group, head, roster } = log.state
const statement = (member: typeof bob, change: Partial<HeadStatement> = {}): Omit<HeadStatement, 'v'> => ({
  group,
  member: member.id,
  at: head,
  time: 1_700_000_000_000,
  ...change,
})
const signed = await signHead(bob.signer, statement(bob))

describe('a signed head', () => {
  test('is its signer’s word on the head, decoded as it was said', async () => {
    const decoded = decodeSignedHead(signed)
    expect(decoded).toMatchObject({ v: 1, group, member: bob.id, at: head, time: 1_700_000_000_000, bytes: signed })
    await expect(verifySignedHead(group, roster, decoded)).resolves.toBeUndefined()
  })

  test('may be a depositor’s', async () => {
    await expect(verifySignedHead(group, roster, decodeSignedHead(await signHead(dave.signer, statement(dave))))).resolves.toBeUndefined()
  })

  test('may be a former member’s, whose key was good in the history that they saw', async () => {
    await expect(verifySignedHead(group, roster, decodeSignedHead(await signHead(erin.signer, statement(erin))))).resolves.toBeUndefined()
  })

  test('may be by the key that a member has replaced', async () => {
    const story = log.fork()
    await story.commit({ author: bob, ops: [ops.leave()] })
    await story.commit({ author: alice, ops: [ops.add(await rotated(bob, 'bob the second'), 'member')] })
    await expect(verifySignedHead(group, story.roster, decodeSignedHead(signed))).resolves.toBeUndefined()
  })

  test('A14 is refused under somebody else’s name', async () => {
    const forged = decodeSignedHead(await signHead(mallory.signer, statement(bob)))
    await expect(verifySignedHead(group, roster, forged)).rejects.toMatchObject({ code: 'invalid_signature' })
  })

  test('is refused from a stranger, and for another group', async () => {
    const stranger = decodeSignedHead(await signHead(mallory.signer, statement(mallory)))
    await expect(verifySignedHead(group, roster, stranger)).rejects.toMatchObject({ code: 'not_a_member' })
    const other = asGroupId(seedOf('hash', 'another group'))
    await expect(verifySignedHead(other, roster, decodeSignedHead(signed))).rejects.toMatchObject({ code: 'not_a_member' })
    const elsewhere = decodeSignedHead(await signHead(bob.signer, statement(bob, { group: other })))
    await expect(verifySignedHead(group, roster, elsewhere)).rejects.toMatchObject({ code: 'not_a_member' })
  })

  test('is refused with any bit flipped', async () => {
    for (let bit = 0; bit < signed.length * 8; bit += 1)
      await expect(
        Promise.resolve().then(() => verifySignedHead(group, roster, decodeSignedHead(withFlippedBit(signed, bit)))),
      ).rejects.toMatchObject({ name: 'ClavigerError' })
  })

  test('does not serve as anything else: a signature over a commit with the same bytes is none of it', async () => {
    const asCommit: Signer = {
      publicKey: bob.signer.publicKey,
      sign: (message) => bob.signer.sign(message.subarray('claviger/1 signed-head\0'.length)),
    }
    await expect(verifySignedHead(group, roster, decodeSignedHead(await signHead(asCommit, statement(bob))))).rejects.toMatchObject({
      code: 'invalid_signature',
    })
  })

  test('asks each key of a member once, however often their role has changed', async () => {
    const story = log.fork()
    for (let index = 0; index < 8; index += 1)
      await story.commit({ author: alice, ops: [ops.setRole(bob, index % 2 === 0 ? 'reader' : 'member')] })
    const forged = decodeSignedHead(await signHead(mallory.signer, statement(bob)))
    let asked = 0
    usePublicCrypto({ ...nodePublicCrypto, verifyEd25519: (...input) => ((asked += 1), nodePublicCrypto.verifyEd25519(...input)) })
    await expect(verifySignedHead(group, story.roster, forged)).rejects.toMatchObject({ code: 'invalid_signature' })
    useNodePublicCrypto()
    expect(asked).toBe(1)
  })

  test.each([
    ['an unknown field', { v: 1, ...statement(bob), role: 'admin' }],
    ['another version', { v: 2, ...statement(bob) }],
    ['no time', { v: 1, group, member: bob.id, at: head }],
    ['a hash of 31 bytes', { v: 1, ...statement(bob), at: { seq: 1, hash: head.hash.subarray(1) } }],
  ])('with %s is malformed', (_, value) => {
    const bytes = encodeCanonical({ statement: encodeCanonical(value), signature: new Uint8Array(64) })
    expect(() => decodeSignedHead(bytes)).toThrow(expect.objectContaining({ code: 'malformed' }))
  })

  test('with a trailing byte is malformed, past its limit too long', () => {
    expect(() => decodeSignedHead(Uint8Array.from([...signed, 0]))).toThrow(expect.objectContaining({ code: 'malformed' }))
    expect(() => decodeSignedHead(new Uint8Array(513))).toThrow(expect.objectContaining({ code: 'limit_exceeded' }))
  })
})
