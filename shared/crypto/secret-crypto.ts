/**
 * The half of the crypto layer that handles secrets: signing, X25519, AEADs. Never imported by the server.
 *
 * Callers use `sign.ts`, `kem.ts` and `aead.ts`, which check lengths first.
 */
import type { MaybePromise } from './maybe-promise.ts'
import { nobleSecretCrypto } from './noble-secret-crypto.ts'

/**
 * Secret-key operations of one platform. Every implementation gives the same answers;
 * each `…Open` throws `ClavigerError('decryption_failed')` without any detail.
 */
export interface SecretCrypto {
  /** Shown in diagnostics only. */
  readonly name: string
  /** Ed25519 (RFC 8032 §5.1.6): 64 bytes. @param secretKey - 32-byte seed. */
  signEd25519(secretKey: Uint8Array, message: Uint8Array): MaybePromise<Uint8Array>
  /** @param secretKey - 32-byte seed. @returns 32 bytes. */
  ed25519PublicKey(secretKey: Uint8Array): MaybePromise<Uint8Array>
  /** X25519 (RFC 7748 §5): 32 bytes. Throws `ClavigerError('invalid_key')` if the result is all zero (§6.1). */
  x25519(secretKey: Uint8Array, publicKey: Uint8Array): MaybePromise<Uint8Array>
  /** @param secretKey - 32 bytes, clamped by the operation. @returns 32 bytes. */
  x25519PublicKey(secretKey: Uint8Array): MaybePromise<Uint8Array>
  /** XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03): 32-byte key, 24-byte nonce, 16-byte tag at the end. */
  xchacha20poly1305Seal(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, data: Uint8Array): Uint8Array
  xchacha20poly1305Open(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, data: Uint8Array): Uint8Array
  /** ChaCha20-Poly1305 (RFC 8439): 32-byte key, 12-byte nonce, 16-byte tag at the end. */
  chacha20poly1305Seal(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, data: Uint8Array): Uint8Array
  chacha20poly1305Open(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, data: Uint8Array): Uint8Array
  /** AES-256-GCM (NIST SP 800-38D): 32-byte key, 12-byte nonce, 16-byte tag at the end. */
  aesGcmSeal(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, data: Uint8Array): MaybePromise<Uint8Array>
  aesGcmOpen(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, data: Uint8Array): MaybePromise<Uint8Array>
}

let installed: SecretCrypto = nobleSecretCrypto

/** Installs a platform's backend for the whole process. Call it before anything else, once. */
export function useSecretCrypto(backend: SecretCrypto): void {
  installed = backend
}

/** The installed backend. */
export function secretCrypto(): SecretCrypto {
  return installed
}
