import { createCipheriv } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { concat } from '../../../shared/bytes.ts'
import { CHUNK_BYTES, INLINE_BODY_BYTES_MAX } from '../../../shared/limits.ts'
import type { BodyHeader, BodySecret, BodySummary } from '../../../shared/objects/body.ts'
import { openBodyRange, openInlineBody, sealBody, sealInlineBody } from '../../../shared/objects/body.ts'
import {
  bodyHash,
  checkHashes,
  chunkCount,
  chunkHash,
  hashListBytes,
  SEALED_CHUNK_BYTES,
  sealedBodyBytes,
} from '../../../shared/objects/body-layout.ts'
import { bodyKey } from '../../../shared/objects/dek.ts'
import { BACKENDS, useBackend } from '../crypto/backends.ts'
import { collect, dekOf, digest, failureOf, filled, flipped, group, objectId, otherGroup } from './fixtures.ts'

const context = { group, object: objectId(1), generation: 1 }
const secret: BodySecret = { dek: dekOf(1), context, suite: 1 }

interface Sealed {
  readonly plain: Uint8Array
  readonly chunks: readonly Uint8Array[]
  readonly summary: BodySummary
}

const headerFor = ({ length, bodyHash: hash }: Pick<BodySummary, 'length' | 'bodyHash'>): BodyHeader => ({
  bodyLength: length,
  bodyHash: hash,
})

async function seal(plain: Uint8Array, pieceBytes = 50_000, of: BodySecret = secret): Promise<Sealed> {
  const sealing = sealBody(of, pieces(plain, pieceBytes))
  const chunks: Uint8Array[] = []
  for await (const chunk of sealing.chunks) chunks.push(chunk)
  return { plain, chunks, summary: sealing.summary() }
}

function* pieces(bytes: Uint8Array, pieceBytes: number): Generator<Uint8Array> {
  for (let start = 0; start < bytes.length; start += pieceBytes) yield bytes.subarray(start, start + pieceBytes)
}

/** Opens a range of a body stored as `stored`, delivered in pieces. */
function open(
  { summary }: Pick<Sealed, 'summary'>,
  stored: Uint8Array,
  options: { start?: number; end?: number; pieceBytes?: number; of?: BodySecret } = {},
): AsyncGenerator<Uint8Array> {
  const { start = 0, end = summary.length, pieceBytes = 70_000, of = secret } = options
  const body = checkHashes(headerFor(summary), 1, summary.hashes)
  return openBodyRange(
    { secret: of, body, read: (offset, bytes) => pieces(stored.subarray(offset, offset + bytes), pieceBytes) },
    start,
    end,
  )
}

/** A body whose author signed these very chunks: only the AEAD is left to refuse it. */
function signedAnew(chunks: readonly Uint8Array[], length: number): Pick<Sealed, 'summary'> {
  const hashes = concat(...chunks.map(chunkHash))
  return { summary: { length, hashes, bodyHash: bodyHash({ suite: 1, length, hashes }) } }
}

/** One chunk as somebody who holds the DEK could make it. */
function forgedChunk(index: number, isLast: boolean, plain: Uint8Array): Uint8Array {
  const nonce = new Uint8Array(12)
  new DataView(nonce.buffer).setUint32(7, index)
  nonce[11] = isLast ? 1 : 0
  const cipher = createCipheriv('aes-256-gcm', bodyKey(secret.dek, context), nonce)
  return concat(cipher.update(plain), cipher.final(), cipher.getAuthTag())
}

const lengths = [0, 1, 15, 16, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 3 * CHUNK_BYTES + 5]

describe.each(BACKENDS)('with the $name backend', (backend) => {
  test.each(lengths)('a body of %i bytes opens to what was sealed', async (length) => {
    useBackend(backend)
    const sealed = await seal(filled(length))
    expect(sealed.summary.length).toBe(length)
    expect(sealed.chunks.length).toBe(chunkCount(length))
    expect(sealed.summary.hashes.length).toBe(hashListBytes(length))
    const stored = concat(...sealed.chunks)
    expect(stored.length).toBe(sealedBodyBytes(length))
    expect(digest(await collect(open(sealed, stored)))).toBe(digest(sealed.plain))
  })

  test('a chunk is what node:crypto makes of it', async () => {
    useBackend(backend)
    const { plain, chunks } = await seal(filled(2 * CHUNK_BYTES + 9))
    const expected = [0, 1, 2].map((index) =>
      forgedChunk(index, index === 2, plain.subarray(index * CHUNK_BYTES, (index + 1) * CHUNK_BYTES)),
    )
    expect(chunks.map(digest)).toEqual(expected.map(digest))
  })

  test('an inline body is a body of one chunk', async () => {
    useBackend(backend)
    for (const length of [0, 1, 200, INLINE_BODY_BYTES_MAX]) {
      const plain = filled(length)
      const { sealed, ...summary } = await sealInlineBody(secret, plain)
      const streamed = await seal(plain)
      expect(digest(sealed)).toBe(digest(concat(...streamed.chunks)))
      expect(summary).toEqual(streamed.summary)
      expect(digest(await openInlineBody(secret, headerFor(summary), sealed))).toBe(digest(plain))
    }
    await expect(sealInlineBody(secret, new Uint8Array(INLINE_BODY_BYTES_MAX + 1))).rejects.toThrow(RangeError)
  })

  test('a body of 257 chunks opens, whole and at its end (A24)', async () => {
    useBackend(backend)
    const sealed = await seal(new Uint8Array(256 * CHUNK_BYTES + 3).fill(7), 2 ** 20)
    expect(sealed.chunks.length).toBe(257)
    const stored = concat(...sealed.chunks)
    expect((await collect(open(sealed, stored))).length).toBe(sealed.plain.length)
    const start = 256 * CHUNK_BYTES - 2
    expect(digest(await collect(open(sealed, stored, { start })))).toBe(digest(sealed.plain.subarray(start)))
  })
})

describe('a stream', () => {
  test.each([1, 7, 65_535, 65_536, 65_537, 300_000])(
    'in pieces of %i bytes gives the same ciphertext, and opens from pieces of that size',
    async (pieceBytes) => {
      const plain = filled(CHUNK_BYTES + 1000)
      const whole = await seal(plain, plain.length)
      const cut = await seal(plain, pieceBytes)
      expect(cut.summary).toEqual(whole.summary)
      expect(cut.chunks.map(digest)).toEqual(whole.chunks.map(digest))
      expect(digest(await collect(open(whole, concat(...whole.chunks), { pieceBytes })))).toBe(digest(plain))
    },
  )

  test('with empty pieces in it gives the same ciphertext', async () => {
    const plain = filled(100)
    const sealing = sealBody(secret, [new Uint8Array(0), plain.subarray(0, 40), new Uint8Array(0), plain.subarray(40), new Uint8Array(0)])
    const sealed = await collect(sealing.chunks)
    expect(sealed).toEqual(concat(...(await seal(plain)).chunks))
  })

  test('may come from a source that reuses its buffer', async () => {
    const plain = filled(2 * CHUNK_BYTES + 100)
    const reused = function* (bytes: Uint8Array, pieceBytes: number): Generator<Uint8Array> {
      const buffer = new Uint8Array(pieceBytes)
      for (const piece of pieces(bytes, pieceBytes)) {
        buffer.fill(0)
        buffer.set(piece)
        yield buffer.subarray(0, piece.length)
      }
    }
    const whole = await seal(plain)
    const body = checkHashes(headerFor(whole.summary), 1, whole.summary.hashes)
    for (const pieceBytes of [1000, 65_536, 65_552, 100_000]) {
      const sealed = await collect(sealBody(secret, reused(plain, pieceBytes)).chunks)
      expect(digest(sealed)).toBe(digest(concat(...whole.chunks)))
      expect(digest(await collect(openBodyRange({ secret, body, read: () => reused(sealed, pieceBytes) })))).toBe(digest(plain))
    }
  })

  test('has no summary before it has been read', async () => {
    const sealing = sealBody(secret, [filled(10)])
    expect(() => sealing.summary()).toThrow(TypeError)
    await collect(sealing.chunks)
    expect(sealing.summary().length).toBe(10)
  })

  test('that fails fails the sealing, and nothing can be summarised', async () => {
    const sealing = sealBody(
      secret,
      (function* () {
        yield filled(CHUNK_BYTES + 1)
        throw new Error('the disk is gone')
      })(),
    )
    await expect(collect(sealing.chunks)).rejects.toThrow('the disk is gone')
    expect(() => sealing.summary()).toThrow(TypeError)
  })

  test('is sealed and opened chunk by chunk: at most two chunks are taken before one is given', async () => {
    let taken = 0
    const sealing = sealBody(
      secret,
      (function* () {
        for (; taken < 20; taken += 1) yield new Uint8Array(CHUNK_BYTES)
      })(),
    )
    let given = 0
    const stored: Uint8Array[] = []
    for await (const chunk of sealing.chunks) {
      stored.push(chunk)
      given += 1
      expect(taken - given).toBeLessThanOrEqual(1)
    }
    let read = 0
    const body = checkHashes(headerFor(sealing.summary()), 1, sealing.summary().hashes)
    given = 0
    for await (const piece of openBodyRange({
      secret,
      body,
      read: function* () {
        for (const chunk of stored) {
          read += 1
          yield chunk
        }
      },
    })) {
      given += 1
      expect(piece.length).toBe(CHUNK_BYTES)
      expect(read - given).toBeLessThanOrEqual(1)
    }
  })
})

describe('a range', () => {
  test('of any bytes is those bytes, and reads only the chunks it touches', async () => {
    const sealed = await seal(filled(3 * CHUNK_BYTES + 1234))
    const stored = concat(...sealed.chunks)
    const body = checkHashes(headerFor(sealed.summary), 1, sealed.summary.hashes)
    const positions = fc.oneof(
      fc.nat(sealed.plain.length),
      fc.constantFrom(0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 3 * CHUNK_BYTES, sealed.plain.length),
    )
    await fc.assert(
      fc.asyncProperty(positions, positions, fc.integer({ min: 1000, max: 200_000 }), async (left, right, pieceBytes) => {
        const [start, end] = [Math.min(left, right), Math.max(left, right)]
        const reads: number[] = []
        const read = (offset: number, bytes: number): Generator<Uint8Array> => {
          reads.push(offset, bytes)
          return pieces(stored.subarray(offset, offset + bytes), pieceBytes)
        }
        expect(digest(await collect(openBodyRange({ secret, body, read }, start, end)))).toBe(digest(sealed.plain.subarray(start, end)))
        const [first, last] = [Math.floor(start / CHUNK_BYTES), Math.ceil(end / CHUNK_BYTES)]
        const touched = Math.min(last * SEALED_CHUNK_BYTES, stored.length) - first * SEALED_CHUNK_BYTES
        expect(reads).toEqual(start === end ? [] : [first * SEALED_CHUNK_BYTES, touched])
      }),
      { numRuns: 60 },
    )
  })

  test('of an empty body is nothing, and its one chunk is checked', async () => {
    const sealed = await seal(new Uint8Array(0))
    const stored = concat(...sealed.chunks)
    expect(await collect(open(sealed, stored))).toEqual(new Uint8Array(0))
    expect(await failureOf(() => collect(open(sealed, flipped(stored, 0))))).toBe('body_invalid')
  })

  test('that is none is the caller’s mistake', async () => {
    const sealed = await seal(filled(10))
    for (const [start, end] of [
      [-1, 5],
      [6, 5],
      [0, 11],
      [0.5, 2],
      [0, Number.NaN],
    ] as const) {
      await expect(collect(open(sealed, concat(...sealed.chunks), { start, end }))).rejects.toThrow(RangeError)
    }
  })
})

describe('a body that was tampered with (A24)', () => {
  const plain = filled(3 * CHUNK_BYTES + 100)
  const changes: readonly (readonly [string, (chunks: readonly Uint8Array[]) => readonly (Uint8Array | undefined)[]])[] = [
    ['its last chunk missing', ([a, b, c]) => [a, b, c]],
    ['a chunk in the middle missing', ([a, , c, d]) => [a, c, d]],
    ['one chunk more', (chunks) => [...chunks, chunks[3]]],
    ['an empty last chunk more', (chunks) => [...chunks, forgedChunk(4, true, new Uint8Array(0))]],
    ['two last chunks', ([a, b, c, d]) => [a, b, c, d, d]],
    ['a last chunk in the middle', ([a, b, , d]) => [a, b, forgedChunk(2, true, plain.subarray(2 * CHUNK_BYTES, 3 * CHUNK_BYTES)), d]],
    ['a last chunk that is not marked as such', ([a, b, c]) => [a, b, c, forgedChunk(3, false, plain.subarray(3 * CHUNK_BYTES))]],
    ['two chunks swapped', ([a, b, c, d]) => [b, a, c, d]],
    ['a chunk repeated', ([a, b, , d]) => [a, b, b, d]],
    ['a byte more', ([a, b, c, d]) => [a, b, c, d, Uint8Array.of(0)]],
    ['a byte less', ([a, b, c, d]) => [a, b, c, d?.subarray(0, -1)]],
    ['half a chunk', ([a, b]) => [a, b?.subarray(0, 1000)]],
    ['nothing', () => []],
  ]

  test.each(changes)('with %s is refused, and what was released before is right', async (_name, change) => {
    const sealed = await seal(plain)
    const tampered = concat(...change(sealed.chunks).filter((chunk) => chunk !== undefined))
    const body = checkHashes(headerFor(sealed.summary), 1, sealed.summary.hashes)
    const released: Uint8Array[] = []
    const failure = await failureOf(async () => {
      for await (const piece of openBodyRange({ secret, body, read: () => pieces(tampered, 70_000) })) released.push(piece)
    })
    expect(failure).toBe('body_invalid')
    const soFar = concat(...released)
    expect(digest(soFar)).toBe(digest(plain.subarray(0, soFar.length)))
  })

  test.each(changes)('with %s is refused by the AEAD or the layout even if its author signed it so', async (_name, change) => {
    const sealed = await seal(plain)
    const tampered = change(sealed.chunks).filter((chunk) => chunk !== undefined)
    for (const length of [plain.length, 2 * CHUNK_BYTES, 4 * CHUNK_BYTES, 4 * CHUNK_BYTES + 100]) {
      const failure = await failureOf(() => collect(open(signedAnew(tampered, length), concat(...tampered))))
      expect(failure).toMatch(/^(body_invalid|decryption_failed)$/)
    }
  })

  test('in any byte of a small body is refused before it is decrypted', async () => {
    const { sealed, ...summary } = await sealInlineBody(secret, filled(40))
    for (let index = 0; index < sealed.length; index += 1)
      expect(await failureOf(() => openInlineBody(secret, headerFor(summary), flipped(sealed, index)))).toBe('body_invalid')
    for (const wrong of [concat(sealed, Uint8Array.of(0)), sealed.subarray(0, -1), new Uint8Array(0)])
      expect(await failureOf(() => openInlineBody(secret, headerFor(summary), wrong))).toBe('body_invalid')
  })

  test('by another list of hashes is refused', async () => {
    const { summary } = await seal(plain)
    const { hashes } = summary
    for (const wrong of [
      flipped(hashes, 0),
      flipped(hashes, -1),
      hashes.subarray(32),
      concat(hashes, hashes.subarray(0, 32)),
      new Uint8Array(0),
    ]) {
      expect(await failureOf(() => checkHashes(headerFor(summary), 1, wrong))).toBe('body_invalid')
    }
    expect(await failureOf(() => checkHashes({ ...headerFor(summary), bodyLength: plain.length - 1 }, 1, hashes))).toBe('body_invalid')
    expect(await failureOf(() => checkHashes({ bodyLength: 0, bodyHash: null }, 1, hashes))).toBe('body_invalid')
  })
})

test('chunks of another object, generation or group do not open (A25)', async () => {
  for (const other of [
    { ...context, object: objectId(2) },
    { ...context, generation: 2 },
    { ...context, group: otherGroup },
  ]) {
    const foreign = await seal(filled(100), 100, { ...secret, context: other })
    const stored = concat(...foreign.chunks)
    expect(await failureOf(() => collect(open(foreign, stored)))).toBe('decryption_failed')
    const own = await seal(filled(100))
    expect(await failureOf(() => collect(open(own, stored)))).toBe('body_invalid')
  }
})

test('a reader who re-encrypts chunk 3 under the same key and nonce is refused at that chunk, with nothing of it released (A72)', async () => {
  const plain = filled(6 * CHUNK_BYTES)
  const sealed = await seal(plain)
  const forged = concat(...sealed.chunks.with(3, forgedChunk(3, false, new Uint8Array(CHUNK_BYTES).fill(66))))
  const released: Uint8Array[] = []
  expect(
    await failureOf(async () => {
      for await (const piece of open(sealed, forged)) released.push(piece)
    }),
  ).toBe('body_invalid')
  expect(digest(concat(...released))).toBe(digest(plain.subarray(0, 3 * CHUNK_BYTES)))
  expect(await failureOf(() => collect(open(sealed, forged, { start: 3 * CHUNK_BYTES + 10, end: 3 * CHUNK_BYTES + 20 })))).toBe(
    'body_invalid',
  )
  const [start, end] = [4 * CHUNK_BYTES, 5 * CHUNK_BYTES]
  expect(digest(await collect(open(sealed, forged, { start, end })))).toBe(digest(plain.subarray(start, end)))
})
