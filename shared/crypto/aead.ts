/**
 * Sealing and opening under a symmetric key. Secret side: never imported by the server.
 *
 * Lengths are checked before the cipher is called, and every failed opening is the same error.
 * AEADs do not commit to their key: whoever opens compares the hash commitment of the key as well.
 */
import type { MaybePromise } from './maybe-promise.ts'
import { concat, isBytes } from '../bytes.ts'
import { ClavigerError } from '../errors.ts'
import { SYMMETRIC_KEY_BYTES } from './keys.ts'
import { randomBytes } from './public-crypto.ts'
import { secretCrypto } from './secret-crypto.ts'

/** Bytes of the authentication tag that ends every ciphertext. */
export const TAG_BYTES = 16
/** Bytes of an XChaCha20-Poly1305 nonce: long enough to be random. */
export const XCHACHA_NONCE_BYTES = 24
/** Bytes of a ChaCha20-Poly1305 or AES-GCM nonce: too short to be random under a key used often. */
export const SHORT_NONCE_BYTES = 12

/** XChaCha20-Poly1305. @returns ciphertext ‖ tag, without the nonce. */
export function sealXChaCha(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, plaintext: Uint8Array): Uint8Array {
  assertSealLengths(key, nonce, XCHACHA_NONCE_BYTES)
  return secretCrypto().xchacha20poly1305Seal(key, nonce, aad, plaintext)
}

/** XChaCha20-Poly1305. @throws ClavigerError `decryption_failed`. */
export function openXChaCha(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, ciphertext: Uint8Array): Uint8Array {
  assertOpenLengths(key, nonce, XCHACHA_NONCE_BYTES, ciphertext)
  return secretCrypto().xchacha20poly1305Open(key, nonce, aad, ciphertext)
}

/** XChaCha20-Poly1305 under a fresh random nonce. @returns nonce ‖ ciphertext ‖ tag: 40 bytes more than the plaintext. */
export function sealWithNonce(key: Uint8Array, aad: Uint8Array, plaintext: Uint8Array): Uint8Array {
  const nonce = randomBytes(XCHACHA_NONCE_BYTES)
  return concat(nonce, sealXChaCha(key, nonce, aad, plaintext))
}

/** Opens what {@link sealWithNonce} made. @throws ClavigerError `decryption_failed`. */
export function openWithNonce(key: Uint8Array, aad: Uint8Array, sealed: Uint8Array): Uint8Array {
  if (!isBytes(sealed)) throw new ClavigerError('decryption_failed')
  const nonce = sealed.subarray(0, XCHACHA_NONCE_BYTES)
  return openXChaCha(key, nonce, aad, sealed.subarray(XCHACHA_NONCE_BYTES))
}

/** ChaCha20-Poly1305 (RFC 8439). The caller never uses a nonce twice under one key. */
export function sealChaCha(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, plaintext: Uint8Array): Uint8Array {
  assertSealLengths(key, nonce, SHORT_NONCE_BYTES)
  return secretCrypto().chacha20poly1305Seal(key, nonce, aad, plaintext)
}

/** ChaCha20-Poly1305 (RFC 8439). @throws ClavigerError `decryption_failed`. */
export function openChaCha(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, ciphertext: Uint8Array): Uint8Array {
  assertOpenLengths(key, nonce, SHORT_NONCE_BYTES, ciphertext)
  return secretCrypto().chacha20poly1305Open(key, nonce, aad, ciphertext)
}

/** AES-256-GCM, for bulk data. The caller never uses a nonce twice under one key. */
export function sealAesGcm(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, plaintext: Uint8Array): MaybePromise<Uint8Array> {
  assertSealLengths(key, nonce, SHORT_NONCE_BYTES)
  return secretCrypto().aesGcmSeal(key, nonce, aad, plaintext)
}

/** AES-256-GCM. @throws ClavigerError `decryption_failed`. */
export function openAesGcm(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, ciphertext: Uint8Array): MaybePromise<Uint8Array> {
  assertOpenLengths(key, nonce, SHORT_NONCE_BYTES, ciphertext)
  return secretCrypto().aesGcmOpen(key, nonce, aad, ciphertext)
}

/** Wrong lengths of one's own key or nonce are a programming mistake. */
function assertSealLengths(key: Uint8Array, nonce: Uint8Array, nonceBytes: number): void {
  if (!isBytes(key, SYMMETRIC_KEY_BYTES)) throw new TypeError(`key must be ${SYMMETRIC_KEY_BYTES} bytes`)
  if (!isBytes(nonce, nonceBytes)) throw new TypeError(`nonce must be ${nonceBytes} bytes`)
}

/** When opening, nonce and ciphertext come from others: wrong lengths are a failed opening. */
function assertOpenLengths(key: Uint8Array, nonce: Uint8Array, nonceBytes: number, ciphertext: Uint8Array): void {
  if (!isBytes(key, SYMMETRIC_KEY_BYTES)) throw new TypeError(`key must be ${SYMMETRIC_KEY_BYTES} bytes`)
  if (!isBytes(nonce, nonceBytes)) throw new ClavigerError('decryption_failed')
  if (!isBytes(ciphertext) || ciphertext.length < TAG_BYTES) throw new ClavigerError('decryption_failed')
}
