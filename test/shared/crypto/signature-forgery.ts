/**
 * Makes Ed25519 signatures that libraries disagree on, and judges them by a slow, readable reference.
 */
import { ED25519_TORSION_SUBGROUP, ed25519 } from '@noble/curves/ed25519.js'
import { sha512 } from '@noble/hashes/sha2.js'
import { concat, toHex } from '../../../shared/bytes.ts'

const { Point } = ed25519
type EdwardsPoint = typeof Point.BASE
/** L, the order of the base point. */
export const ORDER = Point.Fn.ORDER
const PRIME = Point.Fp.ORDER

/** The eight points of small order. */
export const TORSION: readonly EdwardsPoint[] = ED25519_TORSION_SUBGROUP.map((hex) => Point.fromHex(hex))
/** A point of order 8. */
export const ORDER_EIGHT: EdwardsPoint = TORSION.find((point) => !point.double().double().is0()) ?? Point.ZERO

/** A signature to judge. */
export interface Forgery {
  readonly publicKey: Uint8Array
  readonly message: Uint8Array
  readonly signature: Uint8Array
}

/** What goes into a signature: all free, honest or not. */
export interface Ingredients {
  /** Secret scalar. */
  readonly a: bigint
  /** Nonce scalar. */
  readonly r: bigint
  readonly message: Uint8Array
  /** Added to the public key. */
  readonly torsionOfA?: EdwardsPoint
  /** Added to R. */
  readonly torsionOfR?: EdwardsPoint
}

/** S = r + k·a over a public key and an R with torsion added. */
export function forge({ a, r, message, torsionOfA = Point.ZERO, torsionOfR = Point.ZERO }: Ingredients): Forgery {
  const publicKey = multiple(a).add(torsionOfA).toBytes()
  const rBytes = multiple(r).add(torsionOfR).toBytes()
  const s = (r + challenge(rBytes, publicKey, message) * a) % ORDER
  return { publicKey, message, signature: concat(rBytes, littleEndian(s)) }
}

/** The same signature with S + n·L. */
export function withLargerS(forgery: Forgery, times: bigint): Forgery {
  const s = number(forgery.signature.subarray(32)) + times * ORDER
  return { ...forgery, signature: concat(forgery.signature.subarray(0, 32), littleEndian(s)) }
}

/** The other encodings of a point's bytes that a lenient decoder accepts: y + p, and a sign bit on x = 0. */
export function nonCanonicalEncodings(point: EdwardsPoint): readonly Uint8Array[] {
  const { x, y } = point.toAffine()
  const sign = (x & 1n) << 255n
  const encodings: Uint8Array[] = []
  if (y + PRIME < 1n << 255n) encodings.push(littleEndian((y + PRIME) | sign))
  if (x === 0n) encodings.push(littleEndian(y | (1n << 255n)))
  if (x === 0n && y + PRIME < 1n << 255n) encodings.push(littleEndian((y + PRIME) | (1n << 255n)))
  return encodings
}

/**
 * The rule in words: A and R canonical and not of small order, S < L, S·B − k·A = R.
 */
export function referenceVerdict({ publicKey, message, signature }: Forgery): boolean {
  const a = canonicalPoint(publicKey)
  const r = canonicalPoint(signature.subarray(0, 32))
  const s = number(signature.subarray(32))
  if (a === null || r === null || s >= ORDER) return false
  if (a.isSmallOrder() || r.isSmallOrder()) return false
  const k = challenge(signature.subarray(0, 32), publicKey, message)
  return multiple(s).equals(r.add(k === 0n ? Point.ZERO : a.multiplyUnsafe(k)))
}

function canonicalPoint(bytes: Uint8Array): EdwardsPoint | null {
  try {
    const point = Point.fromBytes(bytes)
    return toHex(point.toBytes()) === toHex(bytes) ? point : null
  } catch {
    // No point of the curve.
    return null
  }
}

function multiple(scalar: bigint): EdwardsPoint {
  return Point.BASE.multiplyUnsafe(scalar % ORDER)
}

function challenge(r: Uint8Array, publicKey: Uint8Array, message: Uint8Array): bigint {
  return number(sha512(concat(r, publicKey, message))) % ORDER
}

function number(bytes: Uint8Array): bigint {
  return BigInt(`0x${toHex(Uint8Array.from(bytes).reverse())}`)
}

function littleEndian(value: bigint): Uint8Array {
  return Uint8Array.from({ length: 32 }, (_, index) => Number((value >> BigInt(8 * index)) & 0xffn))
}
