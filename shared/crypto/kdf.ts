/**
 * HKDF-SHA-256 (RFC 5869) and the one way keys are derived from secrets.
 */
import type { Label } from './labels.ts'
import { labelled } from './labels.ts'
import { hmacSha256 } from './public-crypto.ts'

/** Bytes of a SHA-256 digest. */
const HASH_BYTES = 32
/** RFC 5869 §2.3: the counter is one byte. */
const OUTPUT_BYTES_MAX = 255 * HASH_BYTES
const ZERO_SALT = new Uint8Array(HASH_BYTES)

/**
 * HKDF-Extract (RFC 5869 §2.2): a 32-byte pseudorandom key.
 *
 * @param salt - empty means 32 zero bytes, as HMAC pads it anyway.
 * @param inputs - the input keying material, in parts that are taken in a row.
 */
export function hkdfExtract(salt: Uint8Array, ...inputs: readonly Uint8Array[]): Uint8Array {
  return hmacSha256(salt.length === 0 ? ZERO_SALT : salt, ...inputs)
}

/**
 * HKDF-Expand (RFC 5869 §2.3).
 *
 * @param pseudorandomKey - at least 32 bytes, uniformly random.
 * @param length - bytes to derive, at most 8160.
 */
export function hkdfExpand(pseudorandomKey: Uint8Array, info: Uint8Array, length: number): Uint8Array {
  if (pseudorandomKey.length < HASH_BYTES) throw new TypeError(`key must be at least ${HASH_BYTES} bytes`)
  if (!Number.isInteger(length) || length < 1 || length > OUTPUT_BYTES_MAX) throw new RangeError('length must be 1 to 8160')
  if (length <= HASH_BYTES) return hkdfExpandBlock(pseudorandomKey, info).subarray(0, length)
  return allBlocks(pseudorandomKey, info, length)
}

/**
 * The key that `secret` gives for one purpose: `HKDF-Expand(secret, "claviger/1 " ‖ label ‖ 0x00 ‖ context, 32)`.
 *
 * @param secret - 32 uniformly random bytes.
 * @param context - encoded by the caller (deterministic CBOR), says what exactly the key is for.
 */
export function derive(secret: Uint8Array, label: Label, context: Uint8Array): Uint8Array {
  if (secret.length < HASH_BYTES) throw new TypeError(`secret must be at least ${HASH_BYTES} bytes`)
  return hkdfExpandBlock(secret, labelled(label), context)
}

const FIRST_COUNTER = Uint8Array.of(1)

/**
 * The first 32 bytes of HKDF-Expand, all that most keys need, with `info` in parts that are taken in a row.
 *
 * @param pseudorandomKey - at least 32 bytes, uniformly random; checked by the caller.
 */
export function hkdfExpandBlock(pseudorandomKey: Uint8Array, ...info: readonly Uint8Array[]): Uint8Array {
  return hmacSha256(pseudorandomKey, ...info, FIRST_COUNTER)
}

function allBlocks(pseudorandomKey: Uint8Array, info: Uint8Array, length: number): Uint8Array {
  const output = new Uint8Array(Math.ceil(length / HASH_BYTES) * HASH_BYTES)
  let previous: Uint8Array = new Uint8Array(0)
  for (let counter = 1; counter * HASH_BYTES <= output.length; counter += 1) {
    previous = hmacSha256(pseudorandomKey, previous, info, Uint8Array.of(counter))
    output.set(previous, (counter - 1) * HASH_BYTES)
  }
  return output.subarray(0, length)
}
