import { Buffer } from 'node:buffer'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  compareBytes,
  concat,
  equalBytes,
  fromBase64Url,
  fromHex,
  isBytes,
  toBase64Url,
  toHex,
  u32,
  u64,
  wipe,
} from '../../../shared/bytes.ts'

const bytes = fc.uint8Array({ maxLength: 100 })

describe('bytes', () => {
  test('hex and base64url are those of Node and come back', () => {
    fc.assert(
      fc.property(bytes, (value) => {
        expect(toHex(value)).toBe(Buffer.from(value).toString('hex'))
        expect(toBase64Url(value)).toBe(Buffer.from(value).toString('base64url'))
        expect(fromHex(toHex(value))).toEqual(value)
        expect(fromBase64Url(toBase64Url(value))).toEqual(value)
      }),
    )
  })

  test('a text is accepted as base64url only if it is the one text of its bytes', () => {
    const text = fc.string({ unit: fc.constantFrom(...'ABCZaz019-_=+/ \n'), maxLength: 12 })
    fc.assert(
      fc.property(text, (candidate) => {
        let decoded: Uint8Array | null = null
        try {
          decoded = fromBase64Url(candidate)
        } catch (error) {
          expect(error).toBeInstanceOf(TypeError)
        }
        if (decoded !== null) expect(toBase64Url(decoded)).toBe(candidate)
      }),
      { numRuns: 2000 },
    )
    for (const refused of ['A', 'AB', 'AA=', 'AA==', 'A A', 'AAB', '++', 'AAAAA', 'é'])
      expect(() => fromBase64Url(refused)).toThrow(TypeError)
    expect(fromBase64Url('')).toHaveLength(0)
  })

  test('a text that is not hex is refused', () => {
    for (const refused of ['0', '0g', ' 00', '0x00', '00\n', '٠٠']) expect(() => fromHex(refused)).toThrow(TypeError)
    expect(fromHex('ABcd')).toEqual(Uint8Array.of(0xab, 0xcd))
  })

  test('equality and order are those of Node', () => {
    fc.assert(
      fc.property(bytes, bytes, (left, right) => {
        expect(equalBytes(left, right)).toBe(Buffer.compare(left, right) === 0)
        expect(equalBytes(left, Uint8Array.from(left))).toBe(true)
        expect(Math.sign(compareBytes(left, right))).toBe(Buffer.compare(left, right))
      }),
    )
  })

  test('joining copies', () => {
    const part = Uint8Array.of(1, 2)
    const joined = concat(part, new Uint8Array(0), Uint8Array.of(3))
    part.fill(9)
    expect(joined).toEqual(Uint8Array.of(1, 2, 3))
    expect(concat()).toHaveLength(0)
  })

  test('whole numbers become big-endian bytes and others are refused', () => {
    expect(toHex(u32(0x01020304))).toBe('01020304')
    expect(toHex(u32(0xffff_ffff))).toBe('ffffffff')
    expect(toHex(u64(2 ** 53 - 1))).toBe('001fffffffffffff')
    expect(toHex(u64(2n ** 64n - 1n))).toBe('ffffffffffffffff')
    for (const refused of [-1, 2 ** 32, 1.5, Number.NaN]) expect(() => u32(refused)).toThrow(RangeError)
    for (const refused of [-1, 2 ** 53, 1.5, -1n, 2n ** 64n]) expect(() => u64(refused)).toThrow(RangeError)
  })

  test('wiping leaves zeros', () => {
    const secrets = [Uint8Array.of(1, 2), Uint8Array.of(3)] as const
    wipe(...secrets)
    expect(secrets).toEqual([new Uint8Array(2), new Uint8Array(1)])
  })

  test('only byte arrays are bytes, of the length asked for', () => {
    expect(isBytes(new Uint8Array(3))).toBe(true)
    expect(isBytes(new Uint8Array(3), 3)).toBe(true)
    expect(isBytes(new Uint8Array(3), 4)).toBe(false)
    for (const other of [[1, 2], 'ab', null, undefined, new Uint16Array(3), new DataView(new ArrayBuffer(3))])
      expect(isBytes(other)).toBe(false)
  })
})
