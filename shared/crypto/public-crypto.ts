/**
 * The half of the crypto layer that knows no secrets: hashes, randomness, signature checks.
 *
 * The server uses this half and nothing else. Platforms install a native backend;
 * without one the portable noble backend works everywhere.
 */
import type { Label } from './labels.ts'
import type { MaybePromise } from './maybe-promise.ts'
import { labelled } from './labels.ts'
import { noblePublicCrypto } from './noble-public-crypto.ts'

/** Hashes, randomness and signature checks of one platform. Every implementation gives the same answers. */
export interface PublicCrypto {
  /** Shown in diagnostics only. */
  readonly name: string
  /** SHA-256 of the parts in a row (FIPS 180-4): 32 bytes. */
  sha256(...parts: readonly Uint8Array[]): Uint8Array
  /** HMAC-SHA-256 of the parts in a row (RFC 2104): 32 bytes. */
  hmacSha256(key: Uint8Array, ...parts: readonly Uint8Array[]): Uint8Array
  /** Bytes from the platform's cryptographic generator. */
  randomBytes(length: number): Uint8Array
  /**
   * The equation `encode(S·B − k·A) = R` alone. Call `verifySignature` instead: it makes
   * the checks that backends disagree on before any backend sees the input.
   *
   * @param publicKey - 32 bytes, canonical, not of small order.
   * @param signature - 64 bytes, S < L, R not of small order.
   */
  verifyEd25519(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): MaybePromise<boolean>
  /**
   * Whether bytes are a point of Ed25519's prime-order subgroup. Call `assertSigningKey` instead.
   *
   * @param point - 32 bytes, canonical, not of small order.
   */
  isPrimeOrderPoint(point: Uint8Array): boolean
}

let installed: PublicCrypto = noblePublicCrypto

/** Installs a platform's backend for the whole process. Call it before anything else, once. */
export function usePublicCrypto(backend: PublicCrypto): void {
  installed = backend
}

/** The installed backend. */
export function publicCrypto(): PublicCrypto {
  return installed
}

/** SHA-256 of the parts in a row: 32 bytes. */
export function sha256(...parts: readonly Uint8Array[]): Uint8Array {
  return installed.sha256(...parts)
}

/** HMAC-SHA-256 of the parts in a row: 32 bytes. */
export function hmacSha256(key: Uint8Array, ...parts: readonly Uint8Array[]): Uint8Array {
  return installed.hmacSha256(key, ...parts)
}

/** `length` bytes from the platform's cryptographic generator. */
export function randomBytes(length: number): Uint8Array {
  return installed.randomBytes(length)
}

/**
 * `SHA-256(labelled(label) ‖ parts)`: 32 bytes.
 *
 * The parts are joined without separators: more than one part of variable length needs an encoding of its own.
 */
export function hashLabelled(label: Label, ...parts: readonly Uint8Array[]): Uint8Array {
  return installed.sha256(labelled(label), ...parts)
}
