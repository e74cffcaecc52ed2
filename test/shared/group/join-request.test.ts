/**
 * Join requests: signed by the invite and by the joiner, for one live approve-mode invite of one group.
 */
import { describe, expect, test } from 'vitest'
import { useNodePublicCrypto } from '../../../platform/node/index.ts'
import { useNodeSecretCrypto } from '../../../platform/node/secret.ts'
import { decodeCanonical, encodeCanonical } from '../../../shared/codec.ts'
import { hashLabelled } from '../../../shared/crypto/public-crypto.ts'
import { signJoinRequest, verifyJoinRequest } from '../../../shared/group/join-request.ts'
import { asGroupId } from '../../../shared/ids.ts'
import { Log, inviteOf, inviteOp, ops, withFlippedBit } from '../../support/forge.ts'
import { people, rotated, seedOf } from '../../support/people.ts'

useNodePublicCrypto()
useNodeSecretCrypto()

const { alice, bob, carol, mallory } = await people('alice', 'bob', 'carol', 'mallory')
const [invite, open, dead, spent, never] = [
  await inviteOf('waiting'),
  await inviteOf('open'),
  await inviteOf('dead'),
  await inviteOf('spent'),
  await inviteOf('never'),
]
const log = await Log.found(alice)
await log.commit({
  author: alice,
  ops: [
    await inviteOp(log.state, alice, invite, { mode: 'approve', maxUses: 5 }),
    await inviteOp(log.state, alice, open),
    await inviteOp(log.state, alice, dead, { mode: 'approve' }),
    await inviteOp(log.state, alice, spent, { mode: 'approve' }),
  ],
})
await log.commit({ author: alice, ops: [ops.revoke(dead), ops.approve(carol, spent)] })
const { group, head, roster } = log.state

const statement = (keys = invite, person = bob) => ({ group, invite: keys.id, cards: [...person.cards], at: head })
const signers = (keys = invite, person = bob) => ({ invite: keys.signer, joiner: person.signer })
const request = await signJoinRequest(statement(), signers())

describe('a join request', () => {
  test('names its invite and joiner, and the hash that the approval embeds', async () => {
    const verified = await verifyJoinRequest(group, roster, request)
    expect(verified).toMatchObject({ invite: invite.id, bytes: request, hash: hashLabelled('join-request', request) })
    expect(verified.cards.identity).toEqual(bob.id)
  })

  test('may carry a chain of cards: the newest key signs', async () => {
    const next = await rotated(bob, 'bob the second')
    const verified = await verifyJoinRequest(group, roster, await signJoinRequest(statement(invite, next), signers(invite, next)))
    expect(verified.cards.newest.revision).toBe(1)
    const stale = await signJoinRequest(statement(invite, next), signers(invite, bob))
    await expect(verifyJoinRequest(group, roster, stale)).rejects.toMatchObject({ code: 'invalid_signature' })
  })

  test.each([
    ['by the joiner alone', { invite: bob.signer, joiner: bob.signer }],
    ['by the invite alone: whoever has the token does not speak for bob', { invite: invite.signer, joiner: invite.signer }],
    ['in another order', { invite: bob.signer, joiner: invite.signer }],
    ['by mallory for bob', { invite: invite.signer, joiner: mallory.signer }],
  ])('signed %s is refused', async (_, by) => {
    await expect(verifyJoinRequest(group, roster, await signJoinRequest(statement(), by))).rejects.toMatchObject({
      code: 'invalid_signature',
    })
  })

  test.each([
    ['an open invite', open, 'invite_invalid'],
    ['a revoked invite', dead, 'invite_spent'],
    ['a spent invite', spent, 'invite_spent'],
    ['an invite that never was', never, 'invite_invalid'],
  ] as const)('through %s is refused', async (_, keys, code) => {
    await expect(verifyJoinRequest(group, roster, await signJoinRequest(statement(keys), signers(keys)))).rejects.toMatchObject({ code })
  })

  test('A18 for another group is refused, wherever it is shown', async () => {
    const other = asGroupId(seedOf('hash', 'another group'))
    await expect(verifyJoinRequest(other, roster, request)).rejects.toMatchObject({ code: 'invite_invalid' })
    await expect(
      verifyJoinRequest(group, roster, await signJoinRequest({ ...statement(), group: other }, signers())),
    ).rejects.toMatchObject({ code: 'invite_invalid' })
  })

  test('A03 with a card exchanged on the way is refused', async () => {
    // The envelope was made above: its shape is known.
    const { signatures } = decodeCanonical(request) as { readonly signatures: readonly Uint8Array[] }
    const swapped = encodeCanonical({ statement: encodeCanonical({ v: 1, ...statement(invite, mallory) }), signatures })
    await expect(verifyJoinRequest(group, roster, swapped)).rejects.toMatchObject({ code: 'invalid_signature' })
  })

  test('is refused with any bit flipped', async () => {
    for (let bit = 0; bit < request.length * 8; bit += 1)
      await expect(verifyJoinRequest(group, roster, withFlippedBit(request, bit))).rejects.toMatchObject({ name: 'ClavigerError' })
  })

  test.each([
    ['an unknown field', { v: 1, ...statement(), role: 'admin' }],
    ['no cards', { v: 1, ...statement(), cards: [] }],
    ['another version', { v: 2, ...statement() }],
  ])('with %s is malformed', async (_, value) => {
    const bytes = encodeCanonical({ statement: encodeCanonical(value), signatures: [new Uint8Array(64), new Uint8Array(64)] })
    await expect(verifyJoinRequest(group, roster, bytes)).rejects.toMatchObject({ code: 'malformed' })
  })

  test('with one or three signatures, or a trailing byte, is malformed', async () => {
    const bytes = encodeCanonical({ v: 1, ...statement() })
    for (const count of [0, 1, 3]) {
      const signatures = Array.from({ length: count }, () => new Uint8Array(64))
      await expect(verifyJoinRequest(group, roster, encodeCanonical({ statement: bytes, signatures }))).rejects.toMatchObject({
        code: 'malformed',
      })
    }
    await expect(verifyJoinRequest(group, roster, Uint8Array.from([...request, 0]))).rejects.toMatchObject({ code: 'malformed' })
  })

  test('past its limit is too long', async () => {
    await expect(verifyJoinRequest(group, roster, new Uint8Array(16_385))).rejects.toMatchObject({ code: 'limit_exceeded' })
  })
})
