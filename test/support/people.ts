/**
 * The people of the tests, with real keys that derive from their names: a test that fails fails again.
 */
import { utf8ToBytes } from '@noble/hashes/utils.js'
import { concat } from '../../shared/bytes.ts'
import { decodeCanonical, encodeCanonical } from '../../shared/codec.ts'
import type { KemPrivateKey } from '../../shared/crypto/kem.ts'
import { KEMS, kemPrivateKeyFromSeed } from '../../shared/crypto/kem.ts'
import type { KemPublicKey } from '../../shared/crypto/keys.ts'
import { labelled } from '../../shared/crypto/labels.ts'
import { hashLabelled, sha256 } from '../../shared/crypto/public-crypto.ts'
import { signerFromSeed } from '../../shared/crypto/sign.ts'
import type { Signer } from '../../shared/crypto/signature.ts'
import { createCard, decodeCards } from '../../shared/group/card.ts'
import type { IdentityId } from '../../shared/ids.ts'

/** Somebody with keys. */
export interface Person {
  readonly name: string
  readonly id: IdentityId
  /** The chain of signed cards, oldest first. */
  readonly cards: readonly Uint8Array[]
  readonly signer: Signer
  readonly kemPrivateKey: KemPrivateKey
}

/** 32 bytes that are always the same for one purpose and name. */
export function seedOf(purpose: string, name: string): Uint8Array {
  return sha256(utf8ToBytes(`claviger test ${purpose} ${name}`))
}

/** The person of this name: equal for equal names. */
export async function person(name: string): Promise<Person> {
  const signer = await signerFromSeed(seedOf('signing', name))
  const kemPrivateKey = await kemPrivateKeyFromSeed(KEMS[0x0020], seedOf('kem', name))
  return personWith(name, signer, kemPrivateKey)
}

/** A person with given keys, perhaps somebody else’s. */
export async function personWith(name: string, signer: Signer, kemPrivateKey: KemPrivateKey): Promise<Person> {
  const cards = [await createCard({ signer, kemKey: kemPrivateKey.publicKey })]
  return { name, id: decodeCards(cards).identity, cards, signer, kemPrivateKey }
}

/** Several people at once. */
export async function people<const Names extends readonly string[]>(...names: Names): Promise<Readonly<Record<Names[number], Person>>> {
  const entries = await Promise.all(names.map(async (name) => [name, await person(name)] as const))
  // The keys are exactly the names that were asked for.
  return Object.fromEntries(entries) as Readonly<Record<Names[number], Person>>
}

/** The same identity with new keys, on a card signed by the new and the old one. */
export async function rotated(before: Person, name: string): Promise<Person> {
  const next = await person(name)
  const { newest } = decodeCards(before.cards)
  const previous = unsignedCard(before.cards.at(-1))
  const card = encodeCanonical({
    v: 1,
    revision: newest.revision + 1,
    parent: hashLabelled('card', previous),
    signingKey: next.signer.publicKey,
    kemKey: next.kemPrivateKey.publicKey,
  })
  const signatures = [
    await next.signer.sign(concat(labelled('card'), card)),
    await before.signer.sign(concat(labelled('card-rotation'), card)),
  ]
  const cards = [...before.cards, encodeCanonical({ card, signatures })]
  return { name, id: before.id, cards, signer: next.signer, kemPrivateKey: next.kemPrivateKey }
}

/** A card whose keys are whatever is given, validly signed. */
export async function cardWith(signer: Signer, kemKey: Uint8Array): Promise<Uint8Array> {
  // The point is to enrol what no constructor would brand.
  return createCard({ signer, kemKey: kemKey as KemPublicKey })
}

/** The signed part of a signed card. */
export function unsignedCard(signed: Uint8Array | undefined): Uint8Array {
  if (signed === undefined) throw new TypeError('a chain has at least one card')
  // Made above or by `createCard`: its shape is known.
  return (decodeCanonical(signed) as { readonly card: Uint8Array }).card
}
