/**
 * The secret half of the crypto layer on node:crypto. Never loaded by the server.
 */
import type { KeyObject } from 'node:crypto'
import { createCipheriv, createDecipheriv, diffieHellman, sign } from 'node:crypto'
import type { SecretCrypto } from '../../shared/crypto/secret-crypto.ts'
import { equalBytes } from '../../shared/bytes.ts'
import { BoundedCache } from '../../shared/crypto/bounded-cache.ts'
import { ClavigerError } from '../../shared/errors.ts'
import { exportPublicKey, importPrivateKey, importPublicKey, latin1 } from './raw-keys.ts'
import { withExtendedNonce } from './xchacha.ts'

/** Imported keys kept: a rekey seals to the same recipients as the last one. About 1 kB each. */
const RECIPIENT_KEYS_MAX = 8192
const recipientKeys = new BoundedCache<KeyObject>(RECIPIENT_KEYS_MAX)

/** Secret-key operations by OpenSSL. */
export const nodeSecretCrypto: SecretCrypto = {
  name: 'node',
  signEd25519: (secretKey, message) => new Uint8Array(sign(null, message, signingKeys.get(secretKey))),
  ed25519PublicKey: (secretKey) => exportPublicKey(signingKeys.get(secretKey)),
  x25519: sharedSecret,
  x25519PublicKey: (secretKey) => exportPublicKey(agreementKeys.get(secretKey)),
  xchacha20poly1305Seal: (key, nonce, aad, data) =>
    withExtendedNonce(key, nonce, (subkey, shortNonce) => seal('chacha20-poly1305', subkey, shortNonce, aad, data)),
  xchacha20poly1305Open: (key, nonce, aad, data) =>
    withExtendedNonce(key, nonce, (subkey, shortNonce) => open('chacha20-poly1305', subkey, shortNonce, aad, data)),
  chacha20poly1305Seal: (key, nonce, aad, data) => seal('chacha20-poly1305', key, nonce, aad, data),
  chacha20poly1305Open: (key, nonce, aad, data) => open('chacha20-poly1305', key, nonce, aad, data),
  aesGcmSeal: (key, nonce, aad, data) => seal('aes-256-gcm', key, nonce, aad, data),
  aesGcmOpen: (key, nonce, aad, data) => open('aes-256-gcm', key, nonce, aad, data),
}

/**
 * Imported private keys, each for as long as its caller keeps the raw bytes.
 *
 * An import costs ten times the operation. The copy notices a caller who wiped or reused the array.
 */
class PrivateKeys {
  readonly #imported = new WeakMap<Uint8Array, { readonly copy: Uint8Array; readonly key: KeyObject }>()
  readonly #curve: 'Ed25519' | 'X25519'

  constructor(curve: 'Ed25519' | 'X25519') {
    this.#curve = curve
  }

  get(secretKey: Uint8Array): KeyObject {
    const known = this.#imported.get(secretKey)
    if (known !== undefined && equalBytes(known.copy, secretKey)) return known.key
    const key = importPrivateKey(this.#curve, secretKey)
    this.#imported.set(secretKey, { copy: Uint8Array.from(secretKey), key })
    return key
  }
}

const signingKeys = new PrivateKeys('Ed25519')
const agreementKeys = new PrivateKeys('X25519')

/** OpenSSL refuses an all-zero result by itself (RFC 7748 §6.1); so does noble. */
function sharedSecret(secretKey: Uint8Array, publicKey: Uint8Array): Uint8Array {
  const privateKey = agreementKeys.get(secretKey)
  const peerKey = recipientKeys.getOrMake(latin1(publicKey), () => importPublicKey('X25519', publicKey))
  try {
    return new Uint8Array(diffieHellman({ privateKey, publicKey: peerKey }))
  } catch {
    throw new ClavigerError('invalid_key')
  }
}

const TAG_BYTES = 16
type Cipher = 'chacha20-poly1305' | 'aes-256-gcm'

// node:crypto types the AEADs apart; they behave alike.
const cipherName = (cipher: Cipher): 'aes-256-gcm' => cipher as 'aes-256-gcm'

function seal(cipher: Cipher, key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, data: Uint8Array): Uint8Array {
  const encrypt = createCipheriv(cipherName(cipher), key, nonce, { authTagLength: TAG_BYTES })
  encrypt.setAAD(aad, { plaintextLength: data.length })
  const sealed = new Uint8Array(data.length + TAG_BYTES)
  sealed.set(encrypt.update(data))
  encrypt.final()
  sealed.set(encrypt.getAuthTag(), data.length)
  return sealed
}

/** The plaintext leaves this function only after `final` has checked the tag. */
function open(cipher: Cipher, key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, sealed: Uint8Array): Uint8Array {
  const length = sealed.length - TAG_BYTES
  try {
    const decrypt = createDecipheriv(cipherName(cipher), key, nonce, { authTagLength: TAG_BYTES })
    decrypt.setAAD(aad, { plaintextLength: length })
    decrypt.setAuthTag(sealed.subarray(length))
    const data = decrypt.update(sealed.subarray(0, length))
    decrypt.final()
    return new Uint8Array(data.buffer, data.byteOffset, data.length)
  } catch {
    throw new ClavigerError('decryption_failed')
  }
}
