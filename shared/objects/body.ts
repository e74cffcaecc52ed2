/**
 * Encrypting and decrypting bodies, chunk by chunk in constant memory. Secret side: never imported by the server.
 *
 * Chunks of 64 KiB under AES-256-GCM; the nonce is the chunk’s number and whether it is the last, as in STREAM
 * (Hoang, Reyhanitabar, Rogaway, Vizár 2015), so chunks cannot be dropped, moved or repeated. The key belongs to one
 * generation of one object and encrypts one body. Chunk hashes are compared before anything is decrypted.
 */
import { wipe } from '../bytes.ts'
import { openAesGcm, sealAesGcm, SHORT_NONCE_BYTES } from '../crypto/aead.ts'
import type { Dek } from '../crypto/keys.ts'
import type { MaybePromise } from '../crypto/maybe-promise.ts'
import type { SuiteId } from '../crypto/suites.ts'
import { ClavigerError } from '../errors.ts'
import { CHUNK_BYTES, INLINE_BODY_BYTES_MAX } from '../limits.ts'
import type { CheckedBody } from './body-layout.ts'
import {
  assertBodyLength,
  bodyHash,
  checkChunk,
  checkHashes,
  chunkCount,
  chunkHash,
  SEALED_CHUNK_BYTES,
  sealedBodyBytes,
  sealedChunkBytes,
} from './body-layout.ts'
import { ChunkHashes } from './chunk-hashes.ts'
import type { DekContext } from './dek.ts'
import { bodyKey } from './dek.ts'
import { rechunk } from './rechunk.ts'

/** No AAD: the key already stands for group, object and generation, the nonce for the place. */
const NO_AAD = new Uint8Array(0)

/** Which key and suite a body is encrypted with. */
export interface BodySecret {
  readonly dek: Dek
  /** Of the verified header, or of the one being written. */
  readonly context: DekContext
  readonly suite: SuiteId
}

/** What goes into the header once a body has been sealed. */
export interface BodySummary {
  /** Plaintext bytes. */
  readonly length: number
  /** Chunk hashes in a row, stored beside the body. */
  readonly hashes: Uint8Array
  readonly bodyHash: Uint8Array
}

/** A body being sealed. */
export interface SealingBody {
  /** Ciphertext, one chunk at a time; read once. */
  readonly chunks: AsyncIterable<Uint8Array>
  /** @throws TypeError before `chunks` has been read to its end. */
  readonly summary: () => BodySummary
}

/**
 * Seals a body as it streams by.
 *
 * @param secret - with a DEK that has sealed nothing else: a second body under it would repeat its nonces.
 * @param source - plaintext in pieces of any size.
 */
export function sealBody(secret: BodySecret, source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): SealingBody {
  let summary: BodySummary | null = null
  return {
    chunks: sealChunks(secret, source, (finished) => (summary = finished)),
    summary: () => {
      if (summary === null) throw new TypeError('chunks must have been read to their end')
      return summary
    },
  }
}

async function* sealChunks(
  secret: BodySecret,
  source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  finish: (summary: BodySummary) => void,
): AsyncGenerator<Uint8Array> {
  const key = bodyKey(secret.dek, secret.context)
  const hashes = new ChunkHashes()
  let length = 0
  try {
    for await (const { bytes, isLast } of rechunk(source, CHUNK_BYTES)) {
      assertBodyLength((length += bytes.length))
      const sealed = await sealAesGcm(key, chunkNonce(hashes.count, isLast), NO_AAD, bytes)
      hashes.add(chunkHash(sealed))
      if (isLast) finish(summarise(secret.suite, length, hashes.all()))
      yield sealed
    }
  } finally {
    wipe(key)
  }
}

function summarise(suite: SuiteId, length: number, hashes: Uint8Array): BodySummary {
  return { length, hashes, bodyHash: bodyHash({ suite, length, hashes }) }
}

/** Seals a small body in one piece. @param plaintext - at most {@link INLINE_BODY_BYTES_MAX} bytes. */
export async function sealInlineBody(secret: BodySecret, plaintext: Uint8Array): Promise<BodySummary & { readonly sealed: Uint8Array }> {
  if (plaintext.length > INLINE_BODY_BYTES_MAX)
    throw new RangeError(`plaintext must be at most ${INLINE_BODY_BYTES_MAX} bytes, got ${plaintext.length}`)
  const sealed = await withBodyKey(secret, (key) => sealAesGcm(key, chunkNonce(0, true), NO_AAD, plaintext))
  return { ...summarise(secret.suite, plaintext.length, chunkHash(sealed)), sealed }
}

/** The body fields of a verified header. */
export interface BodyHeader {
  readonly bodyHash: Uint8Array | null
  readonly bodyLength: number
}

/** Opens a small body. @throws ClavigerError `body_invalid`, `decryption_failed`. */
export async function openInlineBody(secret: BodySecret, header: BodyHeader, sealed: Uint8Array): Promise<Uint8Array> {
  if (header.bodyLength > INLINE_BODY_BYTES_MAX || sealed.length !== sealedBodyBytes(header.bodyLength))
    throw new ClavigerError('body_invalid')
  checkHashes(header, secret.suite, chunkHash(sealed))
  return withBodyKey(secret, (key) => openAesGcm(key, chunkNonce(0, true), NO_AAD, sealed))
}

/** A stored body whose list of chunk hashes has been checked: `checkHashes` makes `body`. */
export interface StoredBody {
  readonly secret: BodySecret
  readonly body: CheckedBody
  /** Reads `bytes` bytes of ciphertext from `offset`, in pieces of any size. */
  readonly read: (offset: number, bytes: number) => AsyncIterable<Uint8Array> | Iterable<Uint8Array>
}

/**
 * Opens plaintext bytes `[start, end)` of a stored body.
 *
 * `read` is called at most once, for the chunks the range touches. Nothing of a chunk is decrypted, let alone released,
 * before its hash has been compared with the signed list. The one chunk of an empty body is checked too.
 *
 * @param end - exclusive; by default the length of the body.
 * @throws ClavigerError `body_invalid`, `decryption_failed`.
 */
export async function* openBodyRange(stored: StoredBody, start = 0, end: number = stored.body.length): AsyncGenerator<Uint8Array> {
  const { length } = stored.body
  assertRange(start, end, length)
  if (start === end && length > 0) return
  const first = Math.floor(start / CHUNK_BYTES)
  const last = Math.max(first, Math.ceil(end / CHUNK_BYTES) - 1)
  for await (const { index, plain } of openChunks(stored, first, last)) {
    const from = index * CHUNK_BYTES
    yield plain.subarray(Math.max(0, start - from), Math.min(plain.length, end - from))
  }
}

async function* openChunks(
  { secret, body, read }: StoredBody,
  first: number,
  last: number,
): AsyncGenerator<{ readonly index: number; readonly plain: Uint8Array }> {
  const key = bodyKey(secret.dek, secret.context)
  const lastOfBody = chunkCount(body.length) - 1
  let index = first
  try {
    for await (const { bytes, isLast } of rechunk(read(first * SEALED_CHUNK_BYTES, spanBytes(body, first, last)), SEALED_CHUNK_BYTES)) {
      if (isLast !== (index === last) || bytes.length !== sealedChunkBytes(body.length, index))
        throw new ClavigerError('body_invalid', undefined, { data: { chunk: index } })
      checkChunk(body, index, bytes)
      yield { index, plain: await openAesGcm(key, chunkNonce(index, index === lastOfBody), NO_AAD, bytes) }
      index += 1
    }
  } finally {
    wipe(key)
  }
}

async function withBodyKey(secret: BodySecret, use: (key: Uint8Array) => MaybePromise<Uint8Array>): Promise<Uint8Array> {
  const key = bodyKey(secret.dek, secret.context)
  try {
    return await use(key)
  } finally {
    wipe(key)
  }
}

/** Ciphertext bytes of chunks `first` to `last`. */
function spanBytes(body: CheckedBody, first: number, last: number): number {
  return (last - first) * SEALED_CHUNK_BYTES + sealedChunkBytes(body.length, last)
}

/** The chunk’s number in 11 bytes, big endian, then 1 for the last chunk and 0 for the others. */
function chunkNonce(index: number, isLast: boolean): Uint8Array {
  const nonce = new Uint8Array(SHORT_NONCE_BYTES)
  const view = new DataView(nonce.buffer)
  view.setUint32(3, Math.floor(index / 2 ** 32))
  view.setUint32(7, index % 2 ** 32)
  nonce[11] = isLast ? 1 : 0
  return nonce
}

/** @throws RangeError unless `[start, end)` is within a body of `length` bytes. */
export function assertRange(start: number, end: number, length: number): void {
  const isWhole = Number.isSafeInteger(start) && Number.isSafeInteger(end)
  if (!isWhole || start < 0 || end < start || end > length)
    throw new RangeError(`range must be within 0 and ${length}, got ${start} to ${end}`)
}
