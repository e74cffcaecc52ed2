/**
 * The portable backend of the public half: the reference that native backends are checked against.
 */
import { ed25519 } from '@noble/curves/ed25519.js'
import { hmac } from '@noble/hashes/hmac.js'
import { sha256, sha512 } from '@noble/hashes/sha2.js'
import { randomBytes } from '@noble/hashes/utils.js'
import type { PublicCrypto } from './public-crypto.ts'
import { equalBytes } from '../bytes.ts'

/** Hashes, randomness and signature checks in plain JavaScript. */
export const noblePublicCrypto: PublicCrypto = {
  name: 'noble',
  sha256(...parts) {
    const hash = sha256.create()
    for (const part of parts) hash.update(part)
    return hash.digest()
  },
  hmacSha256(key, ...parts) {
    const mac = hmac.create(sha256, key)
    for (const part of parts) mac.update(part)
    return mac.digest()
  },
  randomBytes(length) {
    return randomBytes(length)
  },
  verifyEd25519(publicKey, message, signature) {
    return satisfiesEquation(publicKey, message, signature)
  },
  isPrimeOrderPoint(point) {
    try {
      return ed25519.Point.fromBytes(point).isTorsionFree()
    } catch {
      // The bytes are no point of the curve.
      return false
    }
  },
}

/**
 * Cofactorless Ed25519 verification: `encode(S·B − k·A)` equals the R bytes.
 *
 * `ed25519.verify` is not used: it multiplies by the cofactor, so it accepts signatures
 * (R + torsion) that node:crypto and WebCrypto refuse, and clients would fold different logs.
 */
function satisfiesEquation(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  const { Point } = ed25519
  try {
    const r = signature.subarray(0, 32)
    const s = numberFromLittleEndian(signature.subarray(32))
    if (s >= Point.Fn.ORDER) return false
    const a = Point.fromBytes(publicKey)
    const digest = sha512.create().update(r).update(publicKey).update(message).digest()
    const k = Point.Fn.create(numberFromLittleEndian(digest))
    const expected = Point.BASE.multiplyUnsafe(s).subtract(a.multiplyUnsafe(k))
    return equalBytes(expected.toBytes(), r)
  } catch {
    // Point.fromBytes throws for bytes that are no point: not a signature, and nothing more to say.
    return false
  }
}

function numberFromLittleEndian(bytes: Uint8Array): bigint {
  let value = 0n
  for (let index = bytes.length - 1; index >= 0; index -= 1) value = (value << 8n) | BigInt(bytes[index] ?? 0)
  return value
}
