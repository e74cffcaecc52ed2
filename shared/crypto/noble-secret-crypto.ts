/**
 * The portable backend of the secret half: the reference that native backends are checked against.
 */
import { gcm } from '@noble/ciphers/aes.js'
import { chacha20poly1305, xchacha20poly1305 } from '@noble/ciphers/chacha.js'
import { ed25519, x25519 } from '@noble/curves/ed25519.js'
import type { SecretCrypto } from './secret-crypto.ts'
import { ClavigerError } from '../errors.ts'

/** Secret-key operations in plain JavaScript. */
export const nobleSecretCrypto: SecretCrypto = {
  name: 'noble',
  signEd25519: (secretKey, message) => ed25519.sign(message, secretKey),
  ed25519PublicKey: (secretKey) => ed25519.getPublicKey(secretKey),
  x25519: sharedSecret,
  x25519PublicKey: (secretKey) => x25519.getPublicKey(secretKey),
  xchacha20poly1305Seal: (key, nonce, aad, data) => xchacha20poly1305(key, nonce, aad).encrypt(data),
  xchacha20poly1305Open: (key, nonce, aad, data) => open(() => xchacha20poly1305(key, nonce, aad).decrypt(data)),
  chacha20poly1305Seal: (key, nonce, aad, data) => chacha20poly1305(key, nonce, aad).encrypt(data),
  chacha20poly1305Open: (key, nonce, aad, data) => open(() => chacha20poly1305(key, nonce, aad).decrypt(data)),
  aesGcmSeal: (key, nonce, aad, data) => gcm(key, nonce, aad).encrypt(data),
  aesGcmOpen: (key, nonce, aad, data) => open(() => gcm(key, nonce, aad).decrypt(data)),
}

function sharedSecret(secretKey: Uint8Array, publicKey: Uint8Array): Uint8Array {
  try {
    return x25519.getSharedSecret(secretKey, publicKey)
  } catch {
    throw new ClavigerError('invalid_key')
  }
}

/** The cause is dropped on purpose: why an opening failed is nobody's business. */
function open(decrypt: () => Uint8Array): Uint8Array {
  try {
    return decrypt()
  } catch {
    throw new ClavigerError('decryption_failed')
  }
}
