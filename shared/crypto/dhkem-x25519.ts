/**
 * DHKEM(X25519, HKDF-SHA256), KEM id 0x0020 (RFC 9180 §4.1, §7.1). Secret side: never imported by the server.
 */
import { utf8ToBytes } from '@noble/hashes/utils.js'
import type { Encapsulation, Kem, KemKeyPair } from './kem.ts'
import type { KemPublicKey } from './keys.ts'
import { concat, isBytes, wipe } from '../bytes.ts'
import { ClavigerError, hasCode } from '../errors.ts'
import { NOTHING, labeledKdf, u16 } from './hpke-labels.ts'
import { assertKemPublicKey } from './kem-public-key.ts'
import { X25519_KEY_BYTES, asKemPublicKey } from './keys.ts'
import { randomBytes } from './public-crypto.ts'
import { secretCrypto } from './secret-crypto.ts'
import { KEM_DHKEM_X25519 } from './suites.ts'

const kdf = labeledKdf(concat(utf8ToBytes('KEM'), u16(KEM_DHKEM_X25519)))

/** The KEM of suite 1. */
export const dhkemX25519: Kem = {
  id: KEM_DHKEM_X25519,
  nSecret: 32,
  nEnc: X25519_KEY_BYTES,
  nPk: X25519_KEY_BYTES,
  nSk: X25519_KEY_BYTES,
  generateKeyPair: () => deriveKeyPair(randomBytes(X25519_KEY_BYTES)),
  deriveKeyPair,
  encapsulate,
  decapsulate,
  assertPublicKey: (publicKey) => assertKemPublicKey(KEM_DHKEM_X25519, publicKey),
}

async function deriveKeyPair(ikm: Uint8Array): Promise<KemKeyPair> {
  if (ikm.length < X25519_KEY_BYTES) throw new TypeError(`ikm must be at least ${X25519_KEY_BYTES} bytes`)
  const secretKey = kdf.expand(kdf.extract(NOTHING, 'dkp_prk', ikm), 'sk', NOTHING, X25519_KEY_BYTES)
  return { secretKey, publicKey: asKemPublicKey(await secretCrypto().x25519PublicKey(secretKey)) }
}

async function encapsulate(recipientPublicKey: KemPublicKey, ephemeral?: KemKeyPair): Promise<Encapsulation> {
  if (!isBytes(recipientPublicKey, X25519_KEY_BYTES)) throw new ClavigerError('invalid_key')
  if (ephemeral !== undefined) return encapsulateWith(ephemeral, recipientPublicKey)
  const fresh = await dhkemX25519.generateKeyPair()
  try {
    return await encapsulateWith(fresh, recipientPublicKey)
  } finally {
    wipe(fresh.secretKey)
  }
}

async function encapsulateWith(ephemeral: KemKeyPair, recipientPublicKey: KemPublicKey): Promise<Encapsulation> {
  const enc = ephemeral.publicKey
  const dh = await secretCrypto().x25519(ephemeral.secretKey, recipientPublicKey)
  return { enc, sharedSecret: extractAndExpand(dh, enc, recipientPublicKey) }
}

async function decapsulate(keyPair: KemKeyPair, enc: Uint8Array): Promise<Uint8Array> {
  if (!isBytes(enc, X25519_KEY_BYTES)) throw new ClavigerError('decryption_failed')
  const dh = await sharedSecretOrFailure(keyPair.secretKey, enc)
  return extractAndExpand(dh, enc, keyPair.publicKey)
}

/** An `enc` of small order is one more way for an opening to fail: the same error as all others. */
async function sharedSecretOrFailure(secretKey: Uint8Array, enc: Uint8Array): Promise<Uint8Array> {
  try {
    return await secretCrypto().x25519(secretKey, enc)
  } catch (error) {
    throw hasCode(error, 'invalid_key') ? new ClavigerError('decryption_failed') : error
  }
}

/** RFC 9180 §4.1, `ExtractAndExpand` with `kem_context = enc ‖ pkRm`. Wipes `dh`. */
function extractAndExpand(dh: Uint8Array, enc: Uint8Array, recipientPublicKey: Uint8Array): Uint8Array {
  const pseudorandomKey = kdf.extract(NOTHING, 'eae_prk', dh)
  const sharedSecret = kdf.expand(pseudorandomKey, 'shared_secret', concat(enc, recipientPublicKey), 32)
  wipe(dh, pseudorandomKey)
  return sharedSecret
}
