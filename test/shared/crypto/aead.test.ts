import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import type { MaybePromise } from '../../../shared/crypto/maybe-promise.ts'
import { concat, fromHex, toHex } from '../../../shared/bytes.ts'
import {
  openAesGcm,
  openChaCha,
  openWithNonce,
  openXChaCha,
  sealAesGcm,
  sealChaCha,
  sealWithNonce,
  sealXChaCha,
} from '../../../shared/crypto/aead.ts'
import { BACKENDS, useBackend } from './backends.ts'
import { readVectors } from './vectors.ts'

type Seal = (key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, data: Uint8Array) => MaybePromise<Uint8Array>
interface Cipher {
  readonly nonceBytes: number
  readonly seal: Seal
  readonly open: Seal
}

const CIPHERS = {
  xchacha: { nonceBytes: 24, seal: sealXChaCha, open: openXChaCha },
  chacha: { nonceBytes: 12, seal: sealChaCha, open: openChaCha },
  'aes-gcm': { nonceBytes: 12, seal: sealAesGcm, open: openAesGcm },
} as const satisfies Record<string, Cipher>
type CipherName = keyof typeof CIPHERS
const CIPHER_NAMES: readonly CipherName[] = ['xchacha', 'chacha', 'aes-gcm']

interface Vectors {
  readonly tests: readonly {
    readonly name: string
    readonly source: string
    readonly cipher: CipherName
    readonly key: string
    readonly nonce: string
    readonly aad: string
    readonly plaintext: string
    readonly ciphertext: string
    readonly tag: string
  }[]
}
const vectors = readVectors<Vectors>('aead.json').tests

/** What was thrown, whole: a difference in message or cause would tell why an opening failed. */
async function failure(open: () => MaybePromise<Uint8Array>): Promise<unknown> {
  try {
    await open()
    return 'opened'
  } catch (error) {
    return error instanceof Error ? { ...error, type: error.constructor.name, message: error.message, cause: error.cause } : error
  }
}

function flipped(bytes: Uint8Array, index: number): Uint8Array {
  const copy = Uint8Array.from(bytes)
  copy[index] = (copy[index] ?? 0) ^ 0x80
  return copy
}

describe.each(BACKENDS)('AEADs on $name', (backend) => {
  beforeAll(() => useBackend(backend))

  test.each(vectors)('$name of $source seals and opens', async (vector) => {
    const { seal, open } = CIPHERS[vector.cipher]
    const [key, nonce, aad] = [fromHex(vector.key), fromHex(vector.nonce), fromHex(vector.aad)]
    const sealed = fromHex(vector.ciphertext + vector.tag)
    expect(toHex(await seal(key, nonce, aad, fromHex(vector.plaintext)))).toBe(toHex(sealed))
    expect(toHex(await open(key, nonce, aad, sealed))).toBe(vector.plaintext)
  })

  test.each(vectors)('$name fails with one and the same error however it is damaged', async (vector) => {
    const { open } = CIPHERS[vector.cipher]
    const [key, nonce, aad] = [fromHex(vector.key), fromHex(vector.nonce), fromHex(vector.aad)]
    const sealed = fromHex(vector.ciphertext + vector.tag)
    const failures = [
      await failure(() => open(key, nonce, aad, flipped(sealed, 0))),
      await failure(() => open(key, nonce, aad, flipped(sealed, sealed.length - 1))),
      await failure(() => open(key, nonce, aad, sealed.subarray(0, -1))),
      await failure(() => open(key, nonce, aad, sealed.subarray(0, 16))),
      await failure(() => open(key, nonce, aad, sealed.subarray(0, 15))),
      await failure(() => open(key, nonce, aad, new Uint8Array(0))),
      await failure(() => open(key, nonce, aad, concat(sealed, Uint8Array.of(0)))),
      await failure(() => open(key, nonce, concat(aad, Uint8Array.of(0)), sealed)),
      await failure(() => open(key, nonce, new Uint8Array(0), sealed)),
      await failure(() => open(key, flipped(nonce, 0), aad, sealed)),
      await failure(() => open(key, flipped(nonce, nonce.length - 1), aad, sealed)),
      await failure(() => open(key, nonce.subarray(1), aad, sealed)),
      await failure(() => open(flipped(key, 31), nonce, aad, sealed)),
    ]
    expect(failures[0]).toMatchObject({ code: 'decryption_failed', type: 'ClavigerError', cause: undefined })
    for (const each of failures) expect(each).toEqual(failures[0])
  })

  test.each(CIPHER_NAMES)('a key or nonce of the wrong length is a mistake of the caller of %s', (name) => {
    const { seal, open, nonceBytes } = CIPHERS[name]
    const [key, nonce, empty] = [new Uint8Array(32), new Uint8Array(nonceBytes), new Uint8Array(0)]
    expect(() => seal(key.subarray(1), nonce, empty, empty)).toThrow(TypeError)
    expect(() => seal(new Uint8Array(33), nonce, empty, empty)).toThrow(TypeError)
    expect(() => seal(key, nonce.subarray(1), empty, empty)).toThrow(TypeError)
    expect(() => seal(key, new Uint8Array(nonceBytes + 1), empty, empty)).toThrow(TypeError)
    expect(() => open(key.subarray(1), nonce, empty, new Uint8Array(16))).toThrow(TypeError)
  })

  test('a seal with its own nonce opens, is 40 bytes longer and never the same twice', () => {
    const [key, aad, data] = [new Uint8Array(32).fill(1), Uint8Array.of(9), new Uint8Array(32)]
    const [left, right] = [sealWithNonce(key, aad, data), sealWithNonce(key, aad, data)]
    expect(left).toHaveLength(72)
    expect(left).not.toEqual(right)
    expect(openWithNonce(key, aad, left)).toEqual(data)
    for (let length = 0; length < left.length; length += 1) {
      expect(() => openWithNonce(key, aad, left.subarray(0, length))).toThrow(expect.objectContaining({ code: 'decryption_failed' }))
    }
  })

  test('inputs that are views into larger buffers seal like copies, and are not changed', async () => {
    const buffer = Uint8Array.from({ length: 256 }, (_, index) => index)
    for (const name of CIPHER_NAMES) {
      const { seal, open, nonceBytes } = CIPHERS[name]
      const [key, nonce] = [buffer.subarray(3, 35), buffer.subarray(41, 41 + nonceBytes)]
      const [aad, data] = [buffer.subarray(77, 90), buffer.subarray(101, 201)]
      const sealed = await seal(key, nonce, aad, data)
      expect(sealed).toEqual(await seal(Uint8Array.from(key), Uint8Array.from(nonce), Uint8Array.from(aad), Uint8Array.from(data)))
      const shifted = concat(Uint8Array.of(0), sealed).subarray(1)
      expect(Uint8Array.from(await open(key, nonce, aad, shifted))).toEqual(Uint8Array.from(data))
    }
    expect(buffer).toEqual(Uint8Array.from({ length: 256 }, (_, index) => index))
  })
})

test.each(CIPHER_NAMES)('every backend seals %s to the same bytes, and opens what another sealed', async (name) => {
  const { seal, open, nonceBytes } = CIPHERS[name]
  const bytes = (length: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ minLength: length, maxLength: length })
  const property = fc.asyncProperty(
    bytes(32),
    bytes(nonceBytes),
    fc.uint8Array({ maxLength: 40 }),
    fc.uint8Array({ maxLength: 700 }),
    async (key, nonce, aad, data) => {
      const seals = new Set<string>()
      for (const backend of BACKENDS) {
        useBackend(backend)
        seals.add(toHex(await seal(key, nonce, aad, data)))
      }
      expect(seals.size).toBe(1)
      const [sealed] = seals
      for (const backend of BACKENDS) {
        useBackend(backend)
        expect(Uint8Array.from(await open(key, nonce, aad, fromHex(sealed ?? '')))).toEqual(data)
      }
    },
  )
  await fc.assert(property, { numRuns: 60 })
})
