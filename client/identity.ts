/**
 * Who a client is: an Ed25519 signing key and a KEM key behind interfaces, and the public cards that name them.
 */
import { z } from 'zod/mini'
import { bytesOf, bytesUpTo, codec, context } from '../shared/codec.ts'
import { derive } from '../shared/crypto/kdf.ts'
import type { KemPrivateKey } from '../shared/crypto/kem.ts'
import { KEMS, kemPrivateKeyFromSeed } from '../shared/crypto/kem.ts'
import { randomBytes } from '../shared/crypto/public-crypto.ts'
import { signerFromSeed } from '../shared/crypto/sign.ts'
import type { Signer } from '../shared/crypto/signature.ts'
import { SUITES } from '../shared/crypto/suites.ts'
import { ClavigerError } from '../shared/errors.ts'
import { createCard, verifyCards } from '../shared/group/card.ts'
import type { IdentityId } from '../shared/ids.ts'
import { CARDS_PER_CHAIN_MAX, CARD_BYTES_MAX } from '../shared/limits.ts'
import type { Store } from './store.ts'

const SEED_BYTES = 32
const IDENTITY_KEY = 'identity'
const IDENTITY_BYTES_MAX = 1024 * 1024

const SavedSchema = z.strictObject({
  v: z.literal(1),
  signingSeed: bytesOf(SEED_BYTES),
  kemSeed: bytesOf(SEED_BYTES),
  cards: z.array(bytesUpTo(CARD_BYTES_MAX)).check(z.maxLength(CARDS_PER_CHAIN_MAX)),
})
type Saved = z.infer<typeof SavedSchema>
const savedCodec = codec('saved identity', SavedSchema, IDENTITY_BYTES_MAX)

/** An identity whose private keys are used through interfaces only. */
export class Identity {
  readonly id: IdentityId
  /** The card chain, oldest first. */
  readonly cards: readonly Uint8Array[]
  readonly signer: Signer
  readonly kem: KemPrivateKey
  /** Null if the keys live elsewhere. */
  readonly #saved: Saved | null

  private constructor(parts: { id: IdentityId; cards: readonly Uint8Array[]; signer: Signer; kem: KemPrivateKey; saved: Saved | null }) {
    this.id = parts.id
    this.cards = parts.cards
    this.signer = parts.signer
    this.kem = parts.kem
    this.#saved = parts.saved
  }

  /** A new identity with fresh keys in memory; {@link Identity.save} keeps it. */
  static async generate(): Promise<Identity> {
    const master = randomBytes(SEED_BYTES)
    const seeds = {
      signingSeed: derive(master, 'identity-seed', context('signing')),
      kemSeed: derive(master, 'identity-seed', context('kem')),
    }
    const signer = await signerFromSeed(seeds.signingSeed)
    const kem = await kemPrivateKeyFromSeed(KEMS[SUITES[1].kem], seeds.kemSeed)
    const card = await createCard({ signer, kemKey: kem.publicKey })
    return Identity.#fromSaved({ v: 1, ...seeds, cards: [card] })
  }

  /** The identity kept in `store`, or a new one that is kept there from now on. */
  static async open(store: Store): Promise<Identity> {
    const saved = await store.get(IDENTITY_KEY)
    if (saved !== null) return Identity.#fromSaved(savedCodec.decode(saved))
    const identity = await Identity.generate()
    await identity.save(store)
    return identity
  }

  /** Keeps the identity in `store`; the store’s protection is all its keys have there. */
  async save(store: Store): Promise<void> {
    if (this.#saved === null) throw new TypeError('an identity whose keys live elsewhere cannot be saved')
    await store.write(new Map([[IDENTITY_KEY, savedCodec.encode(this.#saved)]]))
  }

  static async #fromSaved(saved: Saved): Promise<Identity> {
    const signer = await signerFromSeed(saved.signingSeed)
    const kem = await kemPrivateKeyFromSeed(KEMS[SUITES[1].kem], saved.kemSeed)
    const { identity: id, newest } = await verifyCards(saved.cards)
    const fits = equalKeys(newest.signingKey, signer.publicKey) && equalKeys(newest.kemKey, kem.publicKey)
    if (!fits) throw new ClavigerError('store_invalid', 'the saved identity’s keys do not belong to its cards')
    return new Identity({ id, cards: saved.cards, signer, kem, saved })
  }
}

function equalKeys(left: Uint8Array, right: Uint8Array): boolean {
  return left.length === right.length && left.every((byte, index) => byte === right[index])
}
