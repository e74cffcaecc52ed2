/**
 * Whether an Ed25519 point lies in the prime-order subgroup, by one native X25519: 55 µs where noble's
 * multiplication by L takes 700 (2 cores, Node 20, November 2026). Each member of a group is checked on enrolment.
 *
 * Take m with m ≡ ±1 (mod L) and m ≡ 0 (mod 8). For a point A = P + T, P of order L and T of order dividing 8,
 * [m]A = ±P, so the u coordinates of [m]A and A are equal exactly if T = 0. X25519 multiplies by any scalar
 * that is a multiple of 8 between 2^254 and 2^255, and m can be chosen there. Bytes that are no point of the curve
 * give a u of the twist, where m ∓ 1, being odd and no multiple of the twist's large prime, never maps u to itself.
 */
import { diffieHellman } from 'node:crypto'
import { ed25519 } from '@noble/curves/ed25519.js'
import { equalBytes } from '../../shared/bytes.ts'
import { importPrivateKey, importPublicKey } from './raw-keys.ts'

const { Fp, Fn } = ed25519.Point
/** Not a secret: the scalar is the same for everybody. */
const projection = importPrivateKey('X25519', littleEndian(projectionScalar()))

/** @param point - 32 bytes, canonical and not of small order. */
export function isPrimeOrderPoint(point: Uint8Array): boolean {
  const u = montgomeryU(point)
  return equalBytes(diffieHellman({ privateKey: projection, publicKey: importPublicKey('X25519', u) }), u)
}

function projectionScalar(): bigint {
  const multiple = 8n * Fn.inv(8n)
  return multiple >= 1n << 254n ? multiple : 8n * Fn.ORDER - multiple
}

/** u = (1 + y) / (1 − y) (RFC 7748 §4.1); y = 1 is of small order. */
function montgomeryU(point: Uint8Array): Uint8Array {
  const bytes = Uint8Array.from(point)
  bytes[31] = (bytes[31] ?? 0) & 0x7f
  const y = Fp.fromBytes(bytes)
  return Fp.toBytes(Fp.div(Fp.add(Fp.ONE, y), Fp.sub(Fp.ONE, y)))
}

function littleEndian(scalar: bigint): Uint8Array {
  return Uint8Array.from({ length: 32 }, (_, index) => Number((scalar >> BigInt(8 * index)) & 0xffn))
}
