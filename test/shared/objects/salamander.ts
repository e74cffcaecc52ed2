/**
 * An “invisible salamander”: one ciphertext that XChaCha20-Poly1305 opens under two keys, to different plaintexts
 * (Grubbs, Lu, Ristenpart 2017; Len, Grubbs, Ristenpart 2021). AEADs do not commit to their key; this shows it.
 *
 * Poly1305 is a polynomial in r over p = 2^130 − 5. For a chosen tag, two keys give two linear equations for the two
 * blocks of a 32-byte ciphertext. A solution counts if both blocks carry Poly1305’s marker bit: one try in sixteen.
 */
import { xchacha20 } from '@noble/ciphers/chacha.js'
import { concat } from '../../../shared/bytes.ts'

const P = (1n << 130n) - 5n
const MARK = 1n << 128n
const R_MASK = 0x0ffffffc0ffffffc0ffffffc0fffffffn

interface OneTimeKey {
  readonly r: bigint
  readonly s: bigint
}

/** @returns 32 bytes of ciphertext and a tag. */
export function collide(keys: readonly [Uint8Array, Uint8Array], nonce: Uint8Array, aad: Uint8Array): Uint8Array {
  const [left, right] = [oneTimeKey(keys[0], nonce), oneTimeKey(keys[1], nonce)]
  for (let tag = 1n; tag < 4096n; tag += 1n) {
    for (let carries = 0n; carries < 16n; carries += 1n) {
      const blocks = solve(equation(left, aad, tag, carries & 3n), equation(right, aad, tag, carries >> 2n))
      if (blocks.every((block) => block >> 128n === 1n))
        return concat(...blocks.map((block) => littleEndian(block - MARK)), littleEndian(tag))
    }
  }
  throw new Error('no solution')
}

/** `a·c1 + b·c2 = c` modulo P. */
type Equation = readonly [a: bigint, b: bigint, c: bigint]

/** What both ciphertext blocks must satisfy for the polynomial, plus s, to end in `tag` after `carry` overflows of 2^128. */
function equation({ r, s }: OneTimeKey, aad: Uint8Array, tag: bigint, carry: bigint): Equation {
  const target = ((tag - s) & (MARK - 1n)) + carry * MARK
  let beforeBlocks = 0n
  for (let start = 0; start < aad.length; start += 16) beforeBlocks = ((beforeBlocks + block(aad, start)) * r) % P
  const lengths = MARK + (32n << 64n) + BigInt(aad.length)
  return [r ** 3n % P, r ** 2n % P, modulo(target - beforeBlocks * r ** 3n - lengths * r)]
}

function solve([a1, b1, c1]: Equation, [a2, b2, c2]: Equation): [bigint, bigint] {
  const inverse = power(modulo(a1 * b2 - a2 * b1), P - 2n)
  return [modulo((c1 * b2 - c2 * b1) * inverse), modulo((a1 * c2 - a2 * c1) * inverse)]
}

/** RFC 8439 §2.6: the first half of the first key stream block. */
function oneTimeKey(key: Uint8Array, nonce: Uint8Array): OneTimeKey {
  const stream = xchacha20(key, nonce, new Uint8Array(32))
  return { r: numberOf(stream.subarray(0, 16)) & R_MASK, s: numberOf(stream.subarray(16)) }
}

/** AAD is padded with zeros to whole blocks (RFC 8439 §2.8). */
function block(bytes: Uint8Array, start: number): bigint {
  return MARK + numberOf(bytes.subarray(start, start + 16))
}

function numberOf(bytes: Uint8Array): bigint {
  return bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n)
}

function littleEndian(value: bigint): Uint8Array {
  return Uint8Array.from({ length: 16 }, (_, index) => Number((value >> BigInt(8 * index)) & 255n))
}

function modulo(value: bigint): bigint {
  return ((value % P) + P) % P
}

function power(base: bigint, exponent: bigint): bigint {
  let result = 1n
  for (let factor = base, rest = exponent; rest > 0n; rest >>= 1n, factor = (factor * factor) % P)
    if (rest & 1n) result = (result * factor) % P
  return result
}
