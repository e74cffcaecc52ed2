/**
 * Checking Ed25519 signatures: one equation and one verdict on every platform.
 *
 * Clients fold the log independently; a signature that one library accepts and another refuses would
 * split them for ever. So everything libraries disagree on is decided here, before a backend is asked:
 * S < L, A canonical, neither A nor R of small order. What is left is `encode(S·B − k·A) = R`.
 */
import type { Signature, SigningPublicKey } from './keys.ts'
import type { MaybePromise } from './maybe-promise.ts'
import { fromHex, isBytes, toHex } from '../bytes.ts'
import { ClavigerError } from '../errors.ts'
import { BoundedCache } from './bounded-cache.ts'
import { FIELD_PRIME, GROUP_ORDER, isBelow } from './field-25519.ts'
import { SIGNATURE_BYTES, SIGNING_KEY_BYTES } from './keys.ts'
import { publicCrypto } from './public-crypto.ts'

/** Something that signs: a seed in memory, a sealed file, a browser key, a key agent, an HSM. */
export interface Signer {
  readonly publicKey: SigningPublicKey
  /** @param message - starts with `labelled(…)`. */
  sign(message: Uint8Array): MaybePromise<Signature>
}

/**
 * Whether `signature` is one of `message` by `publicKey` (RFC 8032 §5.1.7, cofactorless).
 *
 * Small-order A and R are refused as well, although they can satisfy the equation: the WebCrypto specification
 * demands that, newer Node versions do it (nodejs/node#64026), older ones and some browsers do not.
 * No honest signature has such an R.
 *
 * @returns false for anything malformed; never rejects because of its input.
 */
export async function verifySignature(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): Promise<boolean> {
  if (!isBytes(publicKey, SIGNING_KEY_BYTES) || !isBytes(message) || !isBytes(signature, SIGNATURE_BYTES)) return false
  if (!isCanonicalPoint(publicKey) || isSmallOrder(publicKey)) return false
  if (isSmallOrder(signature.subarray(0, 32)) || !isBelow(signature.subarray(32), GROUP_ORDER)) return false
  return publicCrypto().verifyEd25519(publicKey, message, signature)
}

/** Verdicts kept, so that a key checked at enrolment costs nothing when the log is folded again. */
const SIGNING_KEY_VERDICTS_MAX = 8192
const verdicts = new BoundedCache<boolean>(SIGNING_KEY_VERDICTS_MAX)

/**
 * Checks a signing key at enrolment: canonical, on the curve, in the prime-order subgroup, not the identity.
 *
 * With a torsion component in A, whether a signature holds depends on the library; with A the identity,
 * one signature fits every message.
 *
 * @throws ClavigerError `invalid_key`.
 */
export function assertSigningKey(publicKey: Uint8Array): void {
  if (!isBytes(publicKey, SIGNING_KEY_BYTES)) throw new ClavigerError('invalid_key')
  const sound = verdicts.getOrMake(toHex(publicKey), () => isSoundSigningKey(publicKey))
  if (!sound) throw new ClavigerError('invalid_key')
}

function isSoundSigningKey(publicKey: Uint8Array): boolean {
  return isCanonicalPoint(publicKey) && !isSmallOrder(publicKey) && publicCrypto().isPrimeOrderPoint(publicKey)
}

/** The y coordinates of the eight points of small order, little endian, sign bit clear. */
const SMALL_ORDER_Y: readonly Uint8Array[] = [
  '0000000000000000000000000000000000000000000000000000000000000000', // order 4
  '0100000000000000000000000000000000000000000000000000000000000000', // the identity
  'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f', // order 2
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05', // order 8
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a', // order 8
].map(fromHex)

/**
 * Whether a point is encoded the one way RFC 8032 §5.1.3 allows: y < p, and no sign bit where x is 0 (y = ±1).
 * Points with x = 0 are of small order, and refused as such.
 */
function isCanonicalPoint(point: Uint8Array): boolean {
  return isBelow(withoutSign(point), FIELD_PRIME)
}

function isSmallOrder(point: Uint8Array): boolean {
  return SMALL_ORDER_Y.some((y) => sameY(point, y))
}

/** Compares without the sign bit. Public values: no need for constant time. */
function sameY(point: Uint8Array, y: Uint8Array): boolean {
  for (let index = 0; index < 31; index += 1) if (point[index] !== y[index]) return false
  return ((point[31] ?? 0) & 0x7f) === y[31]
}

function withoutSign(point: Uint8Array): Uint8Array {
  const y = Uint8Array.from(point)
  y[31] = (y[31] ?? 0) & 0x7f
  return y
}
