/**
 * Key encapsulation mechanisms of HPKE (RFC 9180 §4), one row each. Secret side: never imported by the server.
 */
import type { KemPublicKey } from './keys.ts'
import type { MaybePromise } from './maybe-promise.ts'
import type { KemId } from './suites.ts'
import { dhkemX25519 } from './dhkem-x25519.ts'
import { KEM_DHKEM_X25519 } from './suites.ts'

/** A KEM key pair as raw bytes. */
export interface KemKeyPair {
  readonly secretKey: Uint8Array
  readonly publicKey: KemPublicKey
}

/** What a sender gets: the encapsulated key to send, and the secret only the recipient can compute too. */
export interface Encapsulation {
  readonly enc: Uint8Array
  readonly sharedSecret: Uint8Array
}

/** Something that decapsulates: a key in memory, a sealed file, a browser key, a key agent, an HSM. */
export interface KemPrivateKey {
  readonly publicKey: KemPublicKey
  /**
   * @returns the shared secret in an array of its own: the caller wipes it.
   * @throws ClavigerError `decryption_failed` if `enc` is malformed.
   */
  decapsulate(enc: Uint8Array): MaybePromise<Uint8Array>
}

/** One key encapsulation mechanism. Sizes are bytes, named as in RFC 9180 §4. */
export interface Kem {
  readonly id: KemId
  readonly nSecret: number
  readonly nEnc: number
  readonly nPk: number
  readonly nSk: number
  generateKeyPair(): MaybePromise<KemKeyPair>
  /** Deterministic (RFC 9180 §7.1.3). @param ikm - at least `nSk` bytes of entropy. */
  deriveKeyPair(ikm: Uint8Array): MaybePromise<KemKeyPair>
  /**
   * Makes a shared secret for a recipient. Deterministic with a given ephemeral key pair; a fresh one is made otherwise.
   *
   * @throws ClavigerError `invalid_key` if the recipient's key is of small order.
   */
  encapsulate(recipientPublicKey: KemPublicKey, ephemeral?: KemKeyPair): MaybePromise<Encapsulation>
  /** @throws ClavigerError `decryption_failed` if `enc` is malformed. */
  decapsulate(keyPair: KemKeyPair, enc: Uint8Array): MaybePromise<Uint8Array>
  /**
   * Checks a public key at enrolment.
   *
   * @throws ClavigerError `invalid_key`.
   */
  assertPublicKey(publicKey: Uint8Array): void
}

/** Every KEM by its HPKE id. */
export const KEMS = {
  [KEM_DHKEM_X25519]: dhkemX25519,
} as const satisfies Record<KemId, Kem>

/** A private key held in memory, derived from a seed (RFC 9180 §7.1.3). */
export async function kemPrivateKeyFromSeed(kem: Kem, seed: Uint8Array): Promise<KemPrivateKey> {
  return kemPrivateKey(kem, await kem.deriveKeyPair(seed))
}

/** A private key held in memory. */
export function kemPrivateKey(kem: Kem, keyPair: KemKeyPair): KemPrivateKey {
  return { publicKey: keyPair.publicKey, decapsulate: (enc) => kem.decapsulate(keyPair, enc) }
}
