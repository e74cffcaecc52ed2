/**
 * The public half of the crypto layer on node:crypto: what the server runs on.
 */
import type { KeyObject } from 'node:crypto'
import { verify } from 'node:crypto'
import type { PublicCrypto } from '../../shared/crypto/public-crypto.ts'
import { BoundedCache } from '../../shared/crypto/bounded-cache.ts'
import { hmacSha256, sha256 } from './hash.ts'
import { isPrimeOrderPoint } from './prime-order.ts'
import { randomBytes } from './random.ts'
import { importPublicKey, latin1 } from './raw-keys.ts'

/** Imported keys kept, about 1 kB each: importing costs as much as a tenth of the check, and keys return. */
const VERIFY_KEYS_MAX = 8192
const verifyKeys = new BoundedCache<KeyObject>(VERIFY_KEYS_MAX)

/** Hashes, randomness and signature checks by OpenSSL. */
export const nodePublicCrypto: PublicCrypto = {
  name: 'node',
  sha256,
  hmacSha256,
  randomBytes,
  verifyEd25519(publicKey, message, signature) {
    const key = verifyKeys.getOrMake(latin1(publicKey), () => importPublicKey('Ed25519', publicKey))
    return verify(null, message, key, signature)
  },
  isPrimeOrderPoint,
}
