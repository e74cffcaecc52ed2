/**
 * The shape of an encrypted body: chunk sizes, and the list of chunk hashes under the hash in the signed header.
 *
 * All readers of an object hold its DEK, so an AEAD alone does not keep one of them from forging a chunk for the others:
 * each chunk’s ciphertext is compared with this list before it is decrypted. Public side: nothing here opens anything.
 */
import { equalBytes } from '../bytes.ts'
import { context } from '../codec.ts'
import type { SuiteId } from '../crypto/suites.ts'
import { hashLabelled } from '../crypto/public-crypto.ts'
import { ClavigerError } from '../errors.ts'
import { HASH_BYTES } from '../ids.ts'
import { BODY_BYTES_MAX, CHUNK_BYTES } from '../limits.ts'

/** Bytes of the tag that ends each chunk. */
export const CHUNK_TAG_BYTES = 16
/** Bytes of a full chunk of ciphertext. */
export const SEALED_CHUNK_BYTES = CHUNK_BYTES + CHUNK_TAG_BYTES

/** Chunks of a body of `length` plaintext bytes: an empty body has one empty chunk, no other body has one. */
export function chunkCount(length: number): number {
  return Math.max(1, Math.ceil(length / CHUNK_BYTES))
}

/** Ciphertext bytes of a body of `length` plaintext bytes. */
export function sealedBodyBytes(length: number): number {
  return length + chunkCount(length) * CHUNK_TAG_BYTES
}

/** Bytes of the list of chunk hashes of a body of `length` plaintext bytes. */
export function hashListBytes(length: number): number {
  return chunkCount(length) * HASH_BYTES
}

/** The 32-byte hash of one chunk’s ciphertext. */
export function chunkHash(sealedChunk: Uint8Array): Uint8Array {
  return hashLabelled('chunk-list', sealedChunk)
}

/** What a body hash covers. */
export interface BodyShape {
  readonly suite: SuiteId
  /** Plaintext bytes. */
  readonly length: number
  /** Chunk hashes in a row. */
  readonly hashes: Uint8Array
}

/** The hash that stands in the signed header. */
export function bodyHash({ suite, length, hashes }: BodyShape): Uint8Array {
  return hashLabelled('body-hash', context(suite, length, hashes))
}

/** A list of chunk hashes that has been checked against a signed header. */
export interface CheckedBody {
  readonly length: number
  readonly hashes: Uint8Array
}

/**
 * Checks a list of chunk hashes against a verified header.
 *
 * @throws ClavigerError `body_invalid`.
 */
export function checkHashes(
  header: { readonly bodyHash: Uint8Array | null; readonly bodyLength: number },
  suite: SuiteId,
  hashes: Uint8Array,
): CheckedBody {
  const length = header.bodyLength
  const holds =
    header.bodyHash !== null && hashes.length === hashListBytes(length) && equalBytes(bodyHash({ suite, length, hashes }), header.bodyHash)
  if (!holds) throw new ClavigerError('body_invalid')
  return { length, hashes }
}

/** Checks one chunk’s ciphertext against the list. @throws ClavigerError `body_invalid`. */
export function checkChunk(body: CheckedBody, index: number, sealedChunk: Uint8Array): void {
  const expected = body.hashes.subarray(index * HASH_BYTES, (index + 1) * HASH_BYTES)
  if (!equalBytes(chunkHash(sealedChunk), expected)) throw new ClavigerError('body_invalid', undefined, { data: { chunk: index } })
}

/** Ciphertext bytes of chunk `index`. */
export function sealedChunkBytes(length: number, index: number): number {
  return Math.min(CHUNK_BYTES, length - index * CHUNK_BYTES) + CHUNK_TAG_BYTES
}

/** @throws RangeError for a length no body has. */
export function assertBodyLength(length: number): void {
  if (!Number.isSafeInteger(length) || length < 0 || length > BODY_BYTES_MAX)
    throw new RangeError(`a body must be at most ${BODY_BYTES_MAX} bytes, got ${length}`)
}
