/**
 * Branded key material: a `Dek` is not an `EpochSecret`, a KEM key is not a signing key.
 *
 * Each constructor checks the length and brands the array it was given (no copy).
 */
import { isBytes } from '../bytes.ts'
import { hashLabelled } from './public-crypto.ts'

declare const brand: unique symbol
type Branded<Name extends string> = Uint8Array & { readonly [brand]: Name }

/** Ed25519 public key, 32 bytes. Not yet a point: `assertSigningKey` at enrolment checks that. */
export type SigningPublicKey = Branded<'SigningPublicKey'>
/** KEM public key: 32 bytes (X25519) or 1216 (X-Wing). `Kem.assertPublicKey` at enrolment checks its content. */
export type KemPublicKey = Branded<'KemPublicKey'>
/** Ed25519 signature, 64 bytes. */
export type Signature = Branded<'Signature'>
/** E_n: the 32 random bytes that open one epoch. */
export type EpochSecret = Branded<'EpochSecret'>
/** The 32 random bytes that encrypt one generation of one object. */
export type Dek = Branded<'Dek'>
/** Names a KEM public key: 32-byte hash of it. */
export type KemKeyId = Branded<'KemKeyId'>

/** Bytes of an X25519 public key. */
export const X25519_KEY_BYTES = 32
/** Bytes of an X-Wing public key (ML-KEM-768 ‖ X25519). */
export const XWING_PUBLIC_KEY_BYTES = 1216
/** Bytes of an Ed25519 public key or seed. */
export const SIGNING_KEY_BYTES = 32
/** Bytes of an Ed25519 signature. */
export const SIGNATURE_BYTES = 64
/** Bytes of an epoch secret, a DEK, or any symmetric key. */
export const SYMMETRIC_KEY_BYTES = 32

/** @throws TypeError unless `bytes` are 32 bytes. */
export function asSigningPublicKey(bytes: Uint8Array): SigningPublicKey {
  assertLength('signing key', bytes, SIGNING_KEY_BYTES)
  return bytes as SigningPublicKey
}

/** @throws TypeError unless `bytes` have the length of a key of a known KEM. */
export function asKemPublicKey(bytes: Uint8Array): KemPublicKey {
  assertLength('KEM key', bytes, X25519_KEY_BYTES, XWING_PUBLIC_KEY_BYTES)
  return bytes as KemPublicKey
}

/** @throws TypeError unless `bytes` are 64 bytes. */
export function asSignature(bytes: Uint8Array): Signature {
  assertLength('signature', bytes, SIGNATURE_BYTES)
  return bytes as Signature
}

/** @throws TypeError unless `bytes` are 32 bytes. */
export function asEpochSecret(bytes: Uint8Array): EpochSecret {
  assertLength('epoch secret', bytes, SYMMETRIC_KEY_BYTES)
  return bytes as EpochSecret
}

/** @throws TypeError unless `bytes` are 32 bytes. */
export function asDek(bytes: Uint8Array): Dek {
  assertLength('DEK', bytes, SYMMETRIC_KEY_BYTES)
  return bytes as Dek
}

/** @throws TypeError unless `bytes` are 32 bytes. */
export function asKemKeyId(bytes: Uint8Array): KemKeyId {
  assertLength('KEM key id', bytes, 32)
  return bytes as KemKeyId
}

/** The id under which wraps for a KEM public key are stored. */
export function kemKeyId(publicKey: KemPublicKey): KemKeyId {
  return asKemKeyId(hashLabelled('kem-key-id', publicKey))
}

/** Says the length, never the bytes: the value may be a secret. */
function assertLength(name: string, bytes: Uint8Array, ...lengths: readonly number[]): void {
  if (isBytes(bytes) && lengths.includes(bytes.length)) return
  const got = isBytes(bytes) ? `${bytes.length}` : typeof bytes
  throw new TypeError(`${name} must be ${lengths.join(' or ')} bytes, got ${got}`)
}
