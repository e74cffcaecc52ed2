/**
 * Safety numbers: the same on both sides, another one for any other key.
 */
import { createHash, createHmac } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { useNodePublicCrypto } from '../../../platform/node/index.ts'
import { useNodeSecretCrypto } from '../../../platform/node/secret.ts'
import { safetyNumber } from '../../../shared/group/safety-number.ts'
import { findMember } from '../../../shared/group/roster.ts'
import { asGroupId } from '../../../shared/ids.ts'
import { encodeCanonical } from '../../../shared/codec.ts'
import { Log, ops } from '../../support/forge.ts'
import { people, rotated, seedOf } from '../../support/people.ts'

useNodePublicCrypto()
useNodeSecretCrypto()

const { alice, bob, carol } = await people('alice', 'bob', 'carol')
const group = asGroupId(seedOf('hash', 'group'))
const party = ({ id, signer, kemPrivateKey }: typeof alice, cardRevision = 0) => ({
  id,
  signingKey: signer.publicKey,
  kemKey: kemPrivateKey.publicKey,
  cardRevision,
})

describe('a safety number', () => {
  test('is twelve groups of five digits', () => {
    expect(safetyNumber(group, party(alice), party(bob))).toMatch(/^(\d{5} ){11}\d{5}$/)
  })

  test('is the same for both', () => {
    expect(safetyNumber(group, party(bob), party(alice))).toBe(safetyNumber(group, party(alice), party(bob)))
  })

  test('is another one for another group, another person and any other key', async () => {
    const next = await rotated(bob, 'bob the second')
    const others = [
      safetyNumber(group, party(alice), party(bob)),
      safetyNumber(asGroupId(seedOf('hash', 'another group')), party(alice), party(bob)),
      safetyNumber(group, party(alice), party(carol)),
      safetyNumber(group, party(alice), party(next, 1)),
      safetyNumber(group, party(alice), { ...party(bob), kemKey: carol.kemPrivateKey.publicKey }),
      safetyNumber(group, party(alice), { ...party(bob), signingKey: carol.signer.publicKey }),
      safetyNumber(group, party(alice), { ...party(bob), id: carol.id }),
      safetyNumber(group, party(alice), party(bob, 1)),
      safetyNumber(group, { ...party(alice), kemKey: carol.kemPrivateKey.publicKey }, party(bob)),
    ]
    expect(new Set(others).size).toBe(others.length)
  })

  test('does not fit when keys change sides', () => {
    const swapped = safetyNumber(
      group,
      { ...party(alice), kemKey: bob.kemPrivateKey.publicKey },
      { ...party(bob), kemKey: alice.kemPrivateKey.publicKey },
    )
    expect(swapped).not.toBe(safetyNumber(group, party(alice), party(bob)))
  })

  test('is what a second implementation makes of the same facts', () => {
    const [first, second] = [party(alice), party(bob)].toSorted((left, right) => Buffer.compare(left.id, right.id))
    if (first === undefined || second === undefined) throw new Error('two parties')
    const facts = [first, second].map(({ id, signingKey, kemKey, cardRevision }) => [id, signingKey, kemKey, cardRevision])
    const key = createHash('sha256')
      .update('claviger/1 safety-number\0')
      .update(encodeCanonical([group, facts]))
      .digest()
    // HKDF-Expand by hand (RFC 5869 §2.3).
    const blocks: Buffer[] = []
    for (let counter = 1; counter <= 2; counter += 1)
      blocks.push(
        createHmac('sha256', key)
          .update(blocks.at(-1) ?? '')
          .update('claviger/1 safety-number\0')
          .update(Uint8Array.of(counter))
          .digest(),
      )
    const bytes = Buffer.concat(blocks)
    const digits = Array.from({ length: 12 }, (_, index) => String(bytes.readUIntBE(5 * index, 5) % 100_000).padStart(5, '0')).join(' ')
    expect(safetyNumber(group, party(alice), party(bob))).toBe(digits)
  })

  test('A03 compares what the roster has, so that a key the server exchanged shows', async () => {
    const log = await Log.found(alice)
    await log.commit({ author: alice, ops: [ops.add(bob, 'member')] })
    const [hers, his] = [findMember(log.roster, alice.id), findMember(log.roster, bob.id)]
    if (hers === null || his === null) throw new Error('both are members')
    expect(safetyNumber(log.state.group, hers, his)).toBe(safetyNumber(log.state.group, party(bob), party(alice)))
  })
})
