/**
 * A ciphertext that opens under two ChaCha20-Poly1305 keys ("invisible salamander"): AEADs do not commit to their key.
 *
 * Poly1305 is linear in the ciphertext blocks: with one block free the two tags can be made equal (Len, Grubbs, Ristenpart 2021).
 */
import { chacha20 } from '@noble/ciphers/chacha.js'
import { concat } from '../../shared/bytes.ts'
import { randomBytes } from '../../shared/crypto/public-crypto.ts'

const PRIME = (1n << 130n) - 5n
const BLOCK = 1n << 128n
const CLAMP = 0x0ffffffc0ffffffc0ffffffc0fffffffn

/** One reader: 32-byte key, 12-byte nonce, and what they authenticate beside the ciphertext. */
export interface Reader {
  readonly key: Uint8Array
  readonly nonce: Uint8Array
  readonly aad: Uint8Array
}

/** 32 bytes of ciphertext and a tag that both readers accept; they read different plaintexts. */
export function twoKeyCiphertext(one: Reader, other: Reader): Uint8Array {
  for (;;) {
    const first = randomBytes(16)
    const [left, right] = [linear(one, first), linear(other, first)]
    // left.constant + c·left.slope + left.pad = right.constant + c·right.slope + right.pad, modulo the prime and 2^128.
    const difference = right.constant + right.pad - left.constant - left.pad
    const second = modulo(difference * inverse(modulo(left.slope - right.slope)))
    if (second < BLOCK || second >= 2n * BLOCK) continue
    const tags = [left, right].map(({ constant, slope, pad }) => (modulo(constant + second * slope) + pad) % BLOCK)
    if (tags[0] === tags[1]) return concat(first, littleEndian(second - BLOCK), littleEndian(tags[0] ?? 0n))
  }
}

/** The tag as a linear function of the second ciphertext block, before `pad` is added. */
function linear({ key, nonce, aad }: Reader, first: Uint8Array): { constant: bigint; slope: bigint; pad: bigint } {
  const oneTimeKey = chacha20(key, nonce, new Uint8Array(32))
  const r = bigint(oneTimeKey.subarray(0, 16)) & CLAMP
  const lengths = concat(littleEndian(BigInt(aad.length)).subarray(0, 8), littleEndian(32n).subarray(0, 8))
  const blocks = [...chunks(aad), first]
  // Horner over AAD and the first block; two more multiplications follow for the second block and the lengths.
  const before = blocks.reduce((sum, block) => modulo((sum + bigint(block) + BLOCK) * r), 0n)
  return {
    constant: (modulo(before * r + (bigint(lengths) + BLOCK)) * r) % PRIME,
    slope: modulo(r * r),
    pad: bigint(oneTimeKey.subarray(16)),
  }
}

/** AAD in blocks of 16 bytes, the last one padded with zeros (RFC 8439 §2.8). */
function chunks(aad: Uint8Array): Uint8Array[] {
  return Array.from({ length: Math.ceil(aad.length / 16) }, (_, index) =>
    concat(aad.subarray(16 * index, 16 * index + 16), new Uint8Array(16)).subarray(0, 16),
  )
}

function bigint(bytes: Uint8Array): bigint {
  return bytes.reduceRight((sum, byte) => (sum << 8n) | BigInt(byte), 0n)
}

function littleEndian(value: bigint): Uint8Array {
  return Uint8Array.from({ length: 16 }, (_, index) => Number((value >> BigInt(8 * index)) & 0xffn))
}

function modulo(value: bigint): bigint {
  return ((value % PRIME) + PRIME) % PRIME
}

/** Fermat. */
function inverse(value: bigint): bigint {
  let [result, base] = [1n, value]
  for (let exponent = PRIME - 2n; exponent > 0n; exponent >>= 1n) {
    if (exponent & 1n) result = modulo(result * base)
    base = modulo(base * base)
  }
  return result
}
