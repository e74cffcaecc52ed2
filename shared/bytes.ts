/**
 * Byte strings: joining, comparing, and their two text forms (hex, base64url).
 *
 * Runs anywhere: no Buffer, no TextEncoder, no atob.
 */

/** Joins byte strings into one new array. */
export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  let length = 0
  for (const part of parts) length += part.length
  const joined = new Uint8Array(length)
  let offset = 0
  for (const part of parts) {
    joined.set(part, offset)
    offset += part.length
  }
  return joined
}

/**
 * Whether two byte strings are equal, in time that depends on their lengths alone.
 *
 * Use it for anything secret or attacker-guessable; lengths are not hidden.
 */
export function equalBytes(left: Uint8Array, right: Uint8Array): boolean {
  if (left.length !== right.length) return false
  let difference = 0
  for (let index = 0; index < left.length; index += 1) difference |= (left[index] ?? 0) ^ (right[index] ?? 0)
  return difference === 0
}

/** Lexicographic order of unsigned bytes, shorter first: the order of every sorted list that is signed or hashed. */
export function compareBytes(left: Uint8Array, right: Uint8Array): number {
  const shared = Math.min(left.length, right.length)
  for (let index = 0; index < shared; index += 1) {
    const difference = (left[index] ?? 0) - (right[index] ?? 0)
    if (difference !== 0) return difference
  }
  return left.length - right.length
}

/** Whether a value is a byte string, of exactly `length` bytes if one is given. */
export function isBytes(value: unknown, length?: number): value is Uint8Array {
  return value instanceof Uint8Array && (length === undefined || value.length === length)
}

/** Overwrites secrets with zeros. Copies that the engine made are out of reach: this is hygiene, not a promise. */
export function wipe(...secrets: readonly Uint8Array[]): void {
  for (const secret of secrets) secret.fill(0)
}

const HEX_BY_BYTE: readonly string[] = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'))

/** Lower-case hex. Not constant-time: for ids and public keys. */
export function toHex(bytes: Uint8Array): string {
  let text = ''
  for (const byte of bytes) text += HEX_BY_BYTE[byte] ?? ''
  return text
}

/**
 * Bytes of lower- or upper-case hex.
 *
 * @throws TypeError for an odd length or any other character.
 */
export function fromHex(text: string): Uint8Array {
  if (text.length % 2 !== 0 || !/^[0-9a-fA-F]*$/.test(text)) throw new TypeError('text must be hex')
  const bytes = new Uint8Array(text.length / 2)
  for (let index = 0; index < bytes.length; index += 1) {
    bytes[index] = Number.parseInt(text.slice(2 * index, 2 * index + 2), 16)
  }
  return bytes
}

const BASE64URL = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
const SEXTET_BY_CHARACTER: ReadonlyMap<string, number> = new Map([...BASE64URL].map((character, value) => [character, value]))

/** base64url without padding (RFC 4648 §5). */
export function toBase64Url(bytes: Uint8Array): string {
  let text = ''
  let pending = 0
  let pendingBits = 0
  for (const byte of bytes) {
    pending = (pending << 8) | byte
    pendingBits += 8
    while (pendingBits >= 6) {
      pendingBits -= 6
      text += BASE64URL.charAt((pending >> pendingBits) & 63)
    }
    pending &= (1 << pendingBits) - 1
  }
  return pendingBits === 0 ? text : text + BASE64URL.charAt((pending << (6 - pendingBits)) & 63)
}

/**
 * Bytes of unpadded base64url. Strict: each byte string has exactly one accepted text
 * (no padding, no spaces, unused bits zero, RFC 4648 §3.5), so texts can be compared as texts.
 *
 * @throws TypeError for anything else.
 */
export function fromBase64Url(text: string): Uint8Array {
  const bytes = new Uint8Array(Math.floor((text.length * 6) / 8))
  let written = 0
  let pending = 0
  let pendingBits = 0
  for (const character of text) {
    const sextet = SEXTET_BY_CHARACTER.get(character)
    if (sextet === undefined) throw new TypeError('text must be unpadded base64url')
    pending = (pending << 6) | sextet
    pendingBits += 6
    if (pendingBits >= 8) {
      pendingBits -= 8
      bytes[written] = pending >> pendingBits
      written += 1
      pending &= (1 << pendingBits) - 1
    }
  }
  if (pendingBits >= 6 || pending !== 0) throw new TypeError('text must be canonical base64url')
  return bytes
}

/**
 * Four bytes, big endian.
 *
 * @param value - whole number from 0 to 2^32 - 1.
 */
export function u32(value: number): Uint8Array {
  if (!Number.isInteger(value) || value < 0 || value > 0xffff_ffff) throw new RangeError('value must fit 32 bits')
  const bytes = new Uint8Array(4)
  new DataView(bytes.buffer).setUint32(0, value)
  return bytes
}

/**
 * Eight bytes, big endian.
 *
 * @param value - whole number from 0 to 2^53 - 1, or a bigint up to 2^64 - 1.
 */
export function u64(value: number | bigint): Uint8Array {
  if (typeof value === 'number' && !Number.isSafeInteger(value)) throw new RangeError('value must be a safe integer')
  const wide = BigInt(value)
  if (wide < 0n || wide > 0xffff_ffff_ffff_ffffn) throw new RangeError('value must fit 64 bits')
  const bytes = new Uint8Array(8)
  new DataView(bytes.buffer).setBigUint64(0, wide)
  return bytes
}
