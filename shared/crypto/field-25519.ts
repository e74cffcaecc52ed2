/**
 * Byte-level facts about the field of Curve25519 and Ed25519, for checks that need no curve arithmetic.
 *
 * All values here are public: nothing is constant-time.
 */
import { fromHex } from '../bytes.ts'

/** p = 2^255 - 19, little endian. */
export const FIELD_PRIME = fromHex('edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f')
/** L = 2^252 + …, the order of the base point (RFC 8032 §5.1), little endian. */
export const GROUP_ORDER = fromHex('edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010')

/** Whether one little-endian number of 32 bytes is less than another. */
export function isBelow(value: Uint8Array, bound: Uint8Array): boolean {
  for (let index = 31; index >= 0; index -= 1) {
    const difference = (value[index] ?? 0) - (bound[index] ?? 0)
    if (difference !== 0) return difference < 0
  }
  return false
}
