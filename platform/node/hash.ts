/**
 * SHA-256 and HMAC-SHA-256 of short inputs on node:crypto, without its hash objects.
 *
 * A hash object costs four times the hash of a short input, and a digest as Buffer twice the digest as string
 * (2 cores, Node 20, November 2026: SHA-256 of 70 bytes 0.24 µs this way, 1.0 µs by `createHash`; HMAC 0.9 and 1.7 µs).
 * A wrap takes six HMACs, a Merkle proof twenty hashes.
 */
import { Buffer } from 'node:buffer'
import { createHash, createHmac, hash } from 'node:crypto'

const HASH_BYTES = 32
/** RFC 2104: B, the block size of SHA-256. */
const BLOCK_BYTES = 64
/** Above this the work outweighs the objects. */
const SHORT_BYTES_MAX = 4096

// Reused: allocating costs more than hashing. Every use ends before the next begins, and HMACs wipe them.
const inner = Buffer.alloc(BLOCK_BYTES + SHORT_BYTES_MAX)
const outer = Buffer.alloc(BLOCK_BYTES + HASH_BYTES)

/** SHA-256 of the parts in a row. */
export function sha256(...parts: readonly Uint8Array[]): Uint8Array {
  const [only] = parts
  if (only !== undefined && parts.length === 1 && only.length <= SHORT_BYTES_MAX) return bytesOf(hash('sha256', only, 'binary'))
  if (totalLength(parts) <= SHORT_BYTES_MAX) return bytesOf(hash('sha256', inner.subarray(0, gather(parts, 0)), 'binary'))
  const long = createHash('sha256')
  for (const part of parts) long.update(part)
  return bytesOf(long.digest('binary'))
}

/** HMAC-SHA-256 of the parts in a row (RFC 2104 §2). */
export function hmacSha256(key: Uint8Array, ...parts: readonly Uint8Array[]): Uint8Array {
  if (key.length <= BLOCK_BYTES && totalLength(parts) <= SHORT_BYTES_MAX) return shortHmac(key, parts)
  const long = createHmac('sha256', key)
  for (const part of parts) long.update(part)
  return bytesOf(long.digest('binary'))
}

function shortHmac(key: Uint8Array, parts: readonly Uint8Array[]): Uint8Array {
  inner.fill(0x36, 0, BLOCK_BYTES)
  outer.fill(0x5c, 0, BLOCK_BYTES)
  for (let index = 0; index < key.length; index += 1) {
    const byte = key[index] ?? 0
    inner[index] = byte ^ 0x36
    outer[index] = byte ^ 0x5c
  }
  const end = gather(parts, BLOCK_BYTES)
  outer.write(hash('sha256', inner.subarray(0, end), 'binary'), BLOCK_BYTES, 'binary')
  const mac = bytesOf(hash('sha256', outer, 'binary'))
  inner.fill(0, 0, end)
  outer.fill(0)
  return mac
}

function totalLength(parts: readonly Uint8Array[]): number {
  let length = 0
  for (const part of parts) length += part.length
  return length
}

/** Copies the parts to `inner` from `start` on; returns where they end. */
function gather(parts: readonly Uint8Array[], start: number): number {
  let end = start
  for (const part of parts) {
    inner.set(part, end)
    end += part.length
  }
  return end
}

/** A digest that came as one character a byte. Small arrays live on the JavaScript heap: cheaper than Buffers. */
function bytesOf(digest: string): Uint8Array {
  const bytes = new Uint8Array(HASH_BYTES)
  for (let index = 0; index < HASH_BYTES; index += 1) bytes[index] = digest.charCodeAt(index)
  return bytes
}
