/** What the codec gives: plain byte arrays of their own, in whatever the bytes came and whatever the encoder keeps them in. */
import { describe, expect, test } from 'vitest'
import { decodeCanonical, decodePlain, encodeCanonical } from '../../shared/codec.ts'

/** Sizes around everything an encoder may pool: its chunks of 256 bytes, Node’s pool of 8 KiB and half of that. */
const SIZES = [0, 1, 23, 24, 63, 64, 200, 250, 256, 1000, 4000, 4096, 5000, 8190, 8192, 9000]

function expectOwn(bytes: unknown): void {
  if (!(bytes instanceof Uint8Array)) throw new TypeError('these are no bytes')
  expect(Object.getPrototypeOf(bytes)).toBe(Uint8Array.prototype)
  expect([bytes.byteOffset, bytes.buffer.byteLength]).toEqual([0, bytes.length])
}

/** As a polyfill of Buffer has it: what it slices is a view of itself. */
class SharingBytes extends Uint8Array<ArrayBuffer> {
  override slice(start?: number, end?: number): Uint8Array<ArrayBuffer> {
    return this.subarray(start, end)
  }
}

const valuesOf = (size: number): readonly unknown[] => {
  const bytes = new Uint8Array(size).fill(7)
  return [bytes, [bytes], { text: 'x'.repeat(size), bytes }, [bytes, 'x'.repeat(size), bytes], Array.from({ length: size }, () => 1)]
}

describe.each(SIZES)('with parts of %i', (size) => {
  test('an encoding is a plain Uint8Array of its own', () => {
    for (const value of valuesOf(size)) {
      const bytes = encodeCanonical(value)
      expectOwn(bytes)
      expect(decodeCanonical(bytes)).toEqual(value)
    }
  })

  test.each([
    ['a Buffer', (bytes: Uint8Array) => Buffer.from(bytes)],
    ['a Buffer in a pool', (bytes: Uint8Array) => Buffer.concat([Buffer.alloc(3), bytes, Buffer.alloc(3)]).subarray(3, 3 + bytes.length)],
    ['a Uint8Array', (bytes: Uint8Array) => bytes.slice()],
    ['a view', (bytes: Uint8Array) => Uint8Array.from([0, ...bytes, 0]).subarray(1, 1 + bytes.length)],
    ['an array whose slices are views', (bytes: Uint8Array) => SharingBytes.from(bytes)],
  ] as const)('byte strings decoded from %s are plain copies of their own', (_, dress) => {
    const value = { first: new Uint8Array(size).fill(1), rest: [new Uint8Array(size).fill(2)] }
    const dressed = dress(encodeCanonical(value))
    for (const decode of [decodePlain, decodeCanonical]) {
      const decoded = decode(dressed) as typeof value
      expect(decoded).toEqual(value)
      for (const bytes of [decoded.first, ...decoded.rest]) expectOwn(bytes)
    }
    const decoded = decodePlain(dressed) as typeof value
    dressed.fill(0xff)
    expect(decoded).toEqual(value)
  })
})
