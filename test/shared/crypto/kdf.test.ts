import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { concat, fromHex, toHex } from '../../../shared/bytes.ts'
import { derive, hkdfExpand, hkdfExtract } from '../../../shared/crypto/kdf.ts'
import type { Label } from '../../../shared/crypto/labels.ts'
import { LABELS, labelled } from '../../../shared/crypto/labels.ts'
import { hashLabelled, hmacSha256, randomBytes, sha256 } from '../../../shared/crypto/public-crypto.ts'
import { BACKENDS, useBackend } from './backends.ts'
import { readVectors } from './vectors.ts'

interface Vectors {
  readonly tests: readonly {
    readonly name: string
    readonly ikm: string
    readonly salt: string
    readonly info: string
    readonly L: number
    readonly prk: string
    readonly okm: string
  }[]
}
const vectors = readVectors<Vectors>('hkdf-rfc5869.json').tests
const ALL_LABELS: readonly Label[] = Object.values(LABELS)

describe.each(BACKENDS)('hashes and derivation on $name', (backend) => {
  beforeAll(() => useBackend(backend))

  test.each(vectors)('RFC 5869 $name extracts and expands', ({ ikm, salt, info, L, prk, okm }) => {
    expect(toHex(hkdfExtract(fromHex(salt), fromHex(ikm)))).toBe(prk)
    expect(toHex(hkdfExpand(fromHex(prk), fromHex(info), L))).toBe(okm)
    expect(toHex(hkdfExpand(fromHex(prk), concat(fromHex(info), Uint8Array.of(0)), L))).not.toBe(okm)
    expect(toHex(hkdfExtract(concat(fromHex(salt), Uint8Array.of(1)), fromHex(ikm)))).not.toBe(prk)
  })

  test('SHA-256 of "abc" is that of FIPS 180-2, whole or in parts', () => {
    const expected = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'
    expect(toHex(sha256(fromHex('616263')))).toBe(expected)
    expect(toHex(sha256(fromHex('61'), new Uint8Array(0), fromHex('6263')))).toBe(expected)
    expect(toHex(sha256())).toBe('e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855')
  })

  test('HMAC-SHA-256 is that of RFC 4231, test case 2', () => {
    const key = fromHex('4a656665')
    const expected = '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843'
    expect(toHex(hmacSha256(key, fromHex('7768617420646f2079612077616e7420'), fromHex('666f72206e6f7468696e673f')))).toBe(expected)
  })

  test('a derived key is HKDF-Expand over the label and the context', () => {
    const secret = new Uint8Array(32).fill(4)
    const context = Uint8Array.of(0x82, 1, 2)
    const info = concat(
      Uint8Array.from('claviger/1 dek\0', (character) => character.charCodeAt(0)),
      context,
    )
    expect(derive(secret, 'dek', context)).toEqual(hkdfExpand(secret, info, 32))
  })

  test('each label derives and hashes to something else', () => {
    const secret = new Uint8Array(32).fill(4)
    const context = Uint8Array.of(1)
    expect(new Set(ALL_LABELS.map((label) => toHex(derive(secret, label, context)))).size).toBe(ALL_LABELS.length)
    expect(new Set(ALL_LABELS.map((label) => toHex(hashLabelled(label, context)))).size).toBe(ALL_LABELS.length)
  })

  test('a derived key depends on every input', () => {
    const secret = new Uint8Array(32).fill(4)
    const derived = toHex(derive(secret, 'dek', Uint8Array.of(1)))
    expect(toHex(derive(secret, 'dek', Uint8Array.of(2)))).not.toBe(derived)
    expect(toHex(derive(secret, 'dek', Uint8Array.of(1, 0)))).not.toBe(derived)
    expect(toHex(derive(new Uint8Array(32).fill(5), 'dek', Uint8Array.of(1)))).not.toBe(derived)
  })

  test('output lengths from 1 to 8160 bytes are given, others are a mistake of the caller', () => {
    const key = new Uint8Array(32).fill(1)
    const longest = hkdfExpand(key, new Uint8Array(0), 8160)
    for (const length of [1, 31, 32, 33, 64, 8159]) expect(hkdfExpand(key, new Uint8Array(0), length)).toEqual(longest.slice(0, length))
    for (const length of [0, -1, 8161, 1.5, Number.NaN]) expect(() => hkdfExpand(key, new Uint8Array(0), length)).toThrow(RangeError)
    expect(() => hkdfExpand(key.subarray(1), new Uint8Array(0), 32)).toThrow(TypeError)
  })

  test('random bytes have the length asked for and do not repeat', () => {
    expect(randomBytes(0)).toHaveLength(0)
    expect(randomBytes(24)).toHaveLength(24)
    expect(randomBytes(32)).not.toEqual(randomBytes(32))
  })

  test('outputs are plain byte arrays with a buffer of their own', () => {
    for (const bytes of [sha256(), hmacSha256(new Uint8Array(32)), randomBytes(16)]) {
      expect(Object.getPrototypeOf(bytes)).toBe(Uint8Array.prototype)
      expect(bytes.buffer.byteLength).toBe(bytes.length)
    }
  })
})

test('every backend hashes, authenticates and derives the same bytes', () => {
  const property = fc.property(
    fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 4 }),
    fc.uint8Array({ maxLength: 150 }),
    fc.integer({ min: 1, max: 200 }),
    (parts, key, length) => {
      const outputs = new Set<string>()
      for (const backend of BACKENDS) {
        useBackend(backend)
        const whole = concat(...parts)
        expect(sha256(...parts)).toEqual(sha256(whole))
        expect(hmacSha256(key, ...parts)).toEqual(hmacSha256(key, whole))
        outputs.add(toHex(concat(sha256(whole), hmacSha256(key, whole), hkdfExpand(hkdfExtract(key, ...parts), whole, length))))
      }
      expect(outputs.size).toBe(1)
    },
  )
  fc.assert(property)
})

describe('labels', () => {
  test('no two uses share a label', () => {
    expect(new Set(ALL_LABELS).size).toBe(ALL_LABELS.length)
  })

  test('a label is lower-case words with hyphens, so no labelled input is a prefix of another', () => {
    for (const label of ALL_LABELS) expect(label).toMatch(/^[a-z]+(-[a-z]+)*$/)
  })

  test('the prefix is the protocol version, the label and a zero byte', () => {
    expect(toHex(labelled('commit'))).toBe(toHex(Uint8Array.from('claviger/1 commit\0', (character) => character.charCodeAt(0))))
  })

  test('a label is named in the table by its own words', () => {
    for (const [name, label] of Object.entries(LABELS)) {
      expect(name).toBe(label.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase()))
    }
  })
})
