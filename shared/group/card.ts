/**
 * Cards: the public keys of an identity, each revision signed by its own key and by the one before.
 *
 * `IdentityId` is the hash of card 0, so a directory cannot exchange the keys behind an identity.
 */
import { z } from 'zod/mini'
import { bytesOf, bytesUpTo, codec, uint } from '../codec.ts'
import { concat, equalBytes } from '../bytes.ts'
import { labelled } from '../crypto/labels.ts'
import type { KemPublicKey, Signature, SigningPublicKey } from '../crypto/keys.ts'
import { asSignature } from '../crypto/keys.ts'
import { hashLabelled } from '../crypto/public-crypto.ts'
import type { Signer } from '../crypto/signature.ts'
import { assertSigningKey, verifySignature } from '../crypto/signature.ts'
import { isSoundX25519Key } from '../crypto/x25519-key.ts'
import { ClavigerError } from '../errors.ts'
import type { IdentityId } from '../ids.ts'
import { asIdentityId } from '../ids.ts'
import { CARD_BYTES_MAX, CARDS_PER_CHAIN_MAX } from '../limits.ts'

const CardSchema = z.strictObject({
  v: z.literal(1),
  revision: uint(CARDS_PER_CHAIN_MAX - 1),
  /** Hash of the card before; null in card 0. */
  parent: z.nullable(bytesOf(32)),
  signingKey: bytesOf<SigningPublicKey>(32),
  kemKey: bytesOf<KemPublicKey>(32),
})
export type Card = z.infer<typeof CardSchema>

const SignedCardSchema = z.strictObject({
  card: bytesUpTo(CARD_BYTES_MAX),
  /** By the card’s own key; from revision 1 on also by the key before. */
  signatures: z.array(bytesOf<Signature>(64)).check(z.minLength(1), z.maxLength(2)),
})

const cardCodec = codec('card', CardSchema, CARD_BYTES_MAX)
const signedCardCodec = codec('signed card', SignedCardSchema, CARD_BYTES_MAX)

/** A chain of cards whose every signature has been checked. */
export interface VerifiedCards {
  readonly identity: IdentityId
  readonly newest: Card
  /** Every card by its revision; the last is `newest`. */
  readonly chain: readonly Card[]
  /** The bytes that were signed, oldest first. */
  readonly cards: readonly Uint8Array[]
}

/** Keys for a new card. */
export interface CardKeys {
  readonly signer: Signer
  readonly kemKey: KemPublicKey
}

/** Makes card 0 of a new identity. */
export async function createCard({ signer, kemKey }: CardKeys): Promise<Uint8Array> {
  const card = cardCodec.encode({ v: 1, revision: 0, parent: null, signingKey: signer.publicKey, kemKey })
  const signature = asSignature(await signer.sign(concat(labelled('card'), card)))
  return signedCardCodec.encode({ card, signatures: [signature] })
}

/** A decoded chain: linked and with acceptable keys, its signatures still to be checked. */
export interface DecodedCards extends VerifiedCards {
  readonly checks: readonly SignatureCheck[]
}

/** A signature that must verify before what carries it counts. */
export interface SignatureCheck {
  readonly publicKey: SigningPublicKey
  readonly message: Uint8Array
  readonly signature: Signature
}

/**
 * Decodes a chain, oldest card first, and says which signatures remain to be checked.
 *
 * @throws ClavigerError `malformed` or `invalid_key`.
 */
export function decodeCards(cards: readonly Uint8Array[]): DecodedCards {
  const checks: SignatureCheck[] = []
  const chain: Card[] = []
  let identity: IdentityId | null = null
  let newest: Card | null = null
  let parent: Uint8Array | null = null
  for (const bytes of cards) {
    const { card: cardBytes, signatures } = signedCardCodec.decode(bytes)
    const card: Card = cardCodec.decode(cardBytes)
    assertFollows(card, newest, parent)
    checks.push(...checksOf(card, cardBytes, signatures, newest))
    identity ??= asIdentityId(hashLabelled('identity-id', cardBytes))
    parent = hashLabelled('card', cardBytes)
    newest = card
    chain.push(card)
  }
  if (identity === null || newest === null) throw new ClavigerError('malformed', 'a chain has at least one card')
  return { identity, newest, chain, cards, checks }
}

/** Decodes a chain and checks its signatures. @throws ClavigerError `malformed`, `invalid_key` or `invalid_signature`. */
export async function verifyCards(cards: readonly Uint8Array[]): Promise<VerifiedCards> {
  const { checks, ...verified } = decodeCards(cards)
  await verifyChecks(checks)
  return verified
}

/** @throws ClavigerError `invalid_signature` unless every signature verifies. */
export async function verifyChecks(checks: readonly SignatureCheck[]): Promise<void> {
  const verdicts = await Promise.all(checks.map((check) => verifySignature(check.publicKey, check.message, check.signature)))
  if (!verdicts.every(Boolean)) throw new ClavigerError('invalid_signature')
}

/** A rotation names its predecessor by hash, and keys are sound: torsion-free, canonical, not of small order. */
function assertFollows(card: Card, previous: Card | null, parent: Uint8Array | null): void {
  const linked =
    previous === null || parent === null
      ? card.revision === 0 && card.parent === null
      : card.revision === previous.revision + 1 && card.parent !== null && equalBytes(card.parent, parent)
  if (!linked) throw new ClavigerError('malformed', 'the cards are not a chain')
  assertSigningKey(card.signingKey)
  if (!isSoundX25519Key(card.kemKey)) throw new ClavigerError('invalid_key')
}

function checksOf(card: Card, bytes: Uint8Array, signatures: readonly Signature[], previous: Card | null): SignatureCheck[] {
  const signers = previous === null ? [card.signingKey] : [card.signingKey, previous.signingKey]
  if (signatures.length !== signers.length) throw new ClavigerError('malformed', 'a card has one signature, a rotation two')
  return signers.flatMap((publicKey, index) => {
    const signature = signatures[index]
    const message = concat(labelled(index === 0 ? 'card' : 'card-rotation'), bytes)
    return signature === undefined ? [] : [{ publicKey, message, signature }]
  })
}
