/**
 * Cards: chains that are linked and signed twice, and all that is not one.
 */
import { describe, expect, test } from 'vitest'
import { useNodePublicCrypto } from '../../../platform/node/index.ts'
import { useNodeSecretCrypto } from '../../../platform/node/secret.ts'
import { concat } from '../../../shared/bytes.ts'
import { encodeCanonical } from '../../../shared/codec.ts'
import { labelled } from '../../../shared/crypto/labels.ts'
import { hashLabelled } from '../../../shared/crypto/public-crypto.ts'
import { verifyCards } from '../../../shared/group/card.ts'
import * as limits from '../../../shared/limits.ts'
import { withFlippedBit } from '../../support/forge.ts'
import type { Person } from '../../support/people.ts'
import { cardWith, people, rotated, seedOf, unsignedCard } from '../../support/people.ts'

useNodePublicCrypto()
useNodeSecretCrypto()

const { alice, bob, mallory } = await people('alice', 'bob', 'mallory')
const second = await rotated(alice, 'alice the second')
const third = await rotated(second, 'alice the third')
const malformed = { code: 'malformed' }

/** A second card for alice, every part as given. */
async function forgedRotation(
  change: Record<string, unknown>,
  by: { next?: Person; previous?: Person | null; label?: 'card' | 'card-rotation' } = {},
): Promise<Uint8Array[]> {
  const { next = second, previous = alice, label = 'card-rotation' } = by
  const parent = hashLabelled('card', unsignedCard(alice.cards[0]))
  const card = encodeCanonical({
    v: 1,
    revision: 1,
    parent,
    signingKey: next.signer.publicKey,
    kemKey: next.kemPrivateKey.publicKey,
    ...change,
  })
  const own = await next.signer.sign(concat(labelled('card'), card))
  const signatures = previous === null ? [own] : [own, await previous.signer.sign(concat(labelled(label), card))]
  return [...alice.cards, encodeCanonical({ card, signatures })]
}

describe('a chain of cards', () => {
  test('is one identity, its first card’s, with the newest keys', async () => {
    for (const person of [alice, second, third]) {
      const verified = await verifyCards(person.cards)
      expect(verified.identity).toEqual(alice.id)
      expect(verified.newest).toMatchObject({
        signingKey: person.signer.publicKey,
        kemKey: person.kemPrivateKey.publicKey,
        revision: person.cards.length - 1,
      })
      expect(verified.chain.length).toBe(person.cards.length)
    }
  })

  test('of one card is its signer’s: the id is a hash of the signed keys', async () => {
    const { identity } = await verifyCards([await cardWith(alice.signer, bob.kemPrivateKey.publicKey)])
    expect(identity).not.toEqual(alice.id)
    expect(hashLabelled('identity-id', unsignedCard(alice.cards[0]))).toEqual(alice.id)
  })

  test('rotates with both keys’ word', async () => {
    await expect(verifyCards(await forgedRotation({}))).resolves.toMatchObject({ identity: alice.id })
  })

  test.each([
    ['A04 without the old key’s word', forgedRotation({}, { previous: mallory }), { code: 'invalid_signature' }],
    [
      'A04 without the new key’s word',
      forgedRotation(
        {},
        { next: { ...second, signer: { publicKey: second.signer.publicKey, sign: (message) => mallory.signer.sign(message) } } },
      ),
      { code: 'invalid_signature' },
    ],
    ['with one signature', forgedRotation({}, { previous: null }), malformed],
    ['whose second signature is of the first kind', forgedRotation({}, { label: 'card' }), { code: 'invalid_signature' }],
    ['with a skipped revision', forgedRotation({ revision: 2 }), malformed],
    ['with revision 0', forgedRotation({ revision: 0 }), malformed],
    ['without a parent', forgedRotation({ parent: null }), malformed],
    ['with another parent', forgedRotation({ parent: seedOf('hash', 'parent') }), malformed],
    ['with an unknown field', forgedRotation({ name: 'Alice' }), malformed],
    ['of another version', forgedRotation({ v: 2 }), malformed],
    ['A31 with a KEM key of small order', forgedRotation({ kemKey: new Uint8Array(32) }), { code: 'invalid_key' }],
    ['with a KEM key of another length', forgedRotation({ kemKey: new Uint8Array(31) }), malformed],
    [
      'A45 with the identity as signing key',
      forgedRotation({ signingKey: Uint8Array.from([1, ...new Uint8Array(31)]) }),
      { code: 'invalid_key' },
    ],
  ])('%s is refused', async (_, cards, error) => {
    await expect(verifyCards(await cards)).rejects.toMatchObject(error)
  })

  test('is refused out of order, with a gap, twice over or empty', async () => {
    const [one, two, three] = third.cards
    if (one === undefined || two === undefined || three === undefined) throw new Error('three cards')
    for (const cards of [[two, one], [two], [one, three], [one, two, two], [one, one], [one, two, three, one], []])
      await expect(verifyCards(cards)).rejects.toMatchObject(malformed)
    await expect(verifyCards([...bob.cards, two])).rejects.toMatchObject(malformed)
  })

  test('whose first card has two signatures or a parent is refused', async () => {
    const card = encodeCanonical({
      v: 1,
      revision: 0,
      parent: seedOf('hash', 'parent'),
      signingKey: bob.signer.publicKey,
      kemKey: bob.kemPrivateKey.publicKey,
    })
    const signature = await bob.signer.sign(concat(labelled('card'), card))
    await expect(verifyCards([encodeCanonical({ card, signatures: [signature] })])).rejects.toMatchObject(malformed)
    const own = unsignedCard(bob.cards[0])
    const proof = await bob.signer.sign(concat(labelled('card'), own))
    await expect(verifyCards([encodeCanonical({ card: own, signatures: [proof, proof] })])).rejects.toMatchObject(malformed)
  })

  test('is refused with any bit of any card flipped', async () => {
    for (const [at, bytes] of second.cards.entries())
      for (let bit = 0; bit < bytes.length * 8; bit += 1) {
        const cards = second.cards.map((other, index) => (index === at ? withFlippedBit(bytes, bit) : other))
        await expect(verifyCards(cards)).rejects.toMatchObject({ name: 'ClavigerError' })
      }
  })

  test('of the greatest length is taken, and one more is not', async () => {
    let person = alice
    while (person.cards.length < limits.CARDS_PER_CHAIN_MAX) person = await rotated(person, `alice ${person.cards.length}`)
    expect((await verifyCards(person.cards)).newest.revision).toBe(limits.CARDS_PER_CHAIN_MAX - 1)
    await expect(verifyCards((await rotated(person, 'alice again')).cards)).rejects.toMatchObject(malformed)
  })

  test('with a card past its limit is refused before it is decoded', async () => {
    await expect(verifyCards([new Uint8Array(limits.CARD_BYTES_MAX + 1)])).rejects.toMatchObject({ code: 'limit_exceeded' })
  })
})
