/**
 * Which X25519 public keys may be enrolled: public side, so that the server's fold can ask as well.
 */
import { fromHex, isBytes } from '../bytes.ts'
import { FIELD_PRIME, isBelow } from './field-25519.ts'
import { X25519_KEY_BYTES } from './keys.ts'

/** Canonical u coordinates of small order, on the curve and its twist: with these every secret key gives zero. */
const SMALL_ORDER: readonly Uint8Array[] = [
  '0000000000000000000000000000000000000000000000000000000000000000',
  '0100000000000000000000000000000000000000000000000000000000000000',
  'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800',
  '5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157',
  'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
].map(fromHex)

/**
 * Whether `publicKey` is 32 bytes, canonical (u < p, top bit clear) and not of small order.
 *
 * One encoding a key: else one key could be enrolled as two principals.
 */
export function isSoundX25519Key(publicKey: Uint8Array): boolean {
  if (!isBytes(publicKey, X25519_KEY_BYTES)) return false
  return isBelow(publicKey, FIELD_PRIME) && !SMALL_ORDER.some((point) => isSame(publicKey, point))
}

/** Public values: no need for constant time. */
function isSame(left: Uint8Array, right: Uint8Array): boolean {
  return left.every((byte, index) => byte === right[index])
}
