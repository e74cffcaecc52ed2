/**
 * Strict deterministic CBOR (RFC 8949 §4.2) with a zod schema as the type of each structure.
 *
 * What is signed or hashed travels and is stored as the bytes that were signed. Decoding refuses unknown fields, trailing
 * bytes, anything but the canonical encoding (found by encoding again), and inputs past their limit or nested too deeply.
 */
import { decode as decodeCbor, encode as encodeCbor } from 'cborg'
import { z } from 'zod/mini'
import { equalBytes } from './bytes.ts'
import { ClavigerError } from './errors.ts'
import type { CommitHash } from './ids.ts'
import { CBOR_DEPTH_MAX } from './limits.ts'

/** Encodes and decodes one structure. */
export interface Codec<T> {
  readonly encode: (value: T) => Uint8Array
  /** @throws ClavigerError `malformed` or `limit_exceeded`. */
  readonly decode: (bytes: Uint8Array) => T
}

/** A codec for `schema`, refusing inputs of more than `bytesMax` bytes. */
export function codec<T>(name: string, schema: z.ZodMiniType<T>, bytesMax: number): Codec<T> {
  return {
    encode: (value) => encodeCanonical(value),
    decode: (bytes) => {
      if (bytes.length > bytesMax)
        throw new ClavigerError('limit_exceeded', `${name} must be at most ${bytesMax} bytes, got ${bytes.length}`)
      const parsed = schema.safeParse(decodeCanonical(bytes))
      if (!parsed.success) throw new ClavigerError('malformed', `${name} is not well-formed`)
      return parsed.data
    },
  }
}

/** Deterministic CBOR of plain data, as a plain `Uint8Array` with a buffer of its own. */
export function encodeCanonical(value: unknown): Uint8Array {
  return asOwn(encodeCbor(value))
}

/** Plain data from deterministic CBOR. @throws ClavigerError `malformed`. */
export function decodeCanonical(bytes: Uint8Array): unknown {
  const value = decodePlain(bytes)
  if (!equalBytes(encodeCbor(value), bytes)) throw new ClavigerError('malformed', 'the encoding is not canonical')
  return value
}

/**
 * Plain data from strict CBOR without the canonical check, for frames that are neither signed nor hashed. Byte strings are
 * copies, plain ones also from a Buffer.
 *
 * @throws ClavigerError `malformed`.
 */
export function decodePlain(bytes: Uint8Array, itemsMax: number = Number.POSITIVE_INFINITY): unknown {
  assertShape(bytes, itemsMax)
  try {
    return decodeCbor(asPlain(bytes), {
      strict: true,
      allowIndefinite: false,
      allowUndefined: false,
      allowInfinity: false,
      allowNaN: false,
      rejectDuplicateMapKeys: true,
    })
  } catch (cause) {
    throw new ClavigerError('malformed', 'the bytes are not strict CBOR', { cause })
  }
}

/** An AAD or key-derivation context: a deterministic CBOR array. */
export function context(...parts: readonly (Uint8Array | number | string | null)[]): Uint8Array {
  return encodeCanonical(parts)
}

/** A byte string of exactly `length` bytes, typed as the brand `T`. */
export function bytesOf<T extends Uint8Array = Uint8Array>(length: number): z.ZodMiniCustom<T, T> {
  return z.custom<T>((value) => value instanceof Uint8Array && value.length === length)
}

/** A byte string of at most `max` bytes. */
export function bytesUpTo(max: number): z.ZodMiniCustom<Uint8Array, Uint8Array> {
  return z.custom<Uint8Array>((value) => value instanceof Uint8Array && value.length <= max)
}

/** A byte string whose bound is that of the message it stands in. */
export const anyBytes: z.ZodMiniCustom<Uint8Array, Uint8Array> = z.custom<Uint8Array>((value) => value instanceof Uint8Array)

/** An unsigned integer of at most 2^53 − 1, or `max`. */
export function uint(max: number = Number.MAX_SAFE_INTEGER): z.ZodMiniNumber<number> {
  return z.number().check(z.int(), z.nonnegative(), z.maximum(max))
}

/** A reference to a commit: `{seq, hash}`. */
export const HeadSchema = z.strictObject({ seq: uint(), hash: bytesOf<CommitHash>(32) })

const isPlain = (bytes: Uint8Array): boolean => Object.getPrototypeOf(bytes) === Uint8Array.prototype

/** Up to here a copy costs less than a look at `buffer`, which the engine first has to make. */
const COPIED_BYTES_MAX = 4096

/** Under Node the encoder gives Buffers and views of a pool: to keep one would keep 8 KiB of others’ bytes, and its slices may be views. */
function asOwn(bytes: Uint8Array): Uint8Array {
  const isOwn = bytes.length > COPIED_BYTES_MAX && isPlain(bytes) && bytes.byteLength === bytes.buffer.byteLength
  return isOwn ? bytes : new Uint8Array(bytes)
}

/** The same bytes as an array whose slices, which become the byte strings of what is decoded, are copies. */
function asPlain(bytes: Uint8Array): Uint8Array {
  return isPlain(bytes) ? bytes : new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

/** Walks the initial bytes only, so that deep nesting and floods of items are refused before anything is made of them. */
function assertShape(bytes: Uint8Array, itemsMax: number): void {
  const open: number[] = []
  let offset = 0
  let items = 0
  while (offset < bytes.length) {
    items += 1
    if (items > itemsMax) throw new ClavigerError('malformed', `more than ${itemsMax} items`)
    const { major, argument, next } = readInitial(bytes, offset)
    offset = next
    if (major === 2 || major === 3) offset += argument
    closeFinished(open)
    if ((major === 4 || major === 5) && argument > 0) open.push(major === 4 ? argument : argument * 2)
    else if (major === 6) throw new ClavigerError('malformed', 'tags are not used here')
    if (open.length > CBOR_DEPTH_MAX) throw new ClavigerError('malformed', `nesting is deeper than ${CBOR_DEPTH_MAX}`)
  }
}

/** Counts one item against the innermost open container and drops those that are full. */
function closeFinished(open: number[]): void {
  while (open.length > 0 && open[open.length - 1] === 0) open.pop()
  const last = open.length - 1
  const remaining = open[last]
  if (remaining !== undefined) open[last] = remaining - 1
}

function readInitial(bytes: Uint8Array, offset: number): { major: number; argument: number; next: number } {
  const initial = bytes[offset] ?? 0
  const info = initial & 31
  const width = info < 24 ? 0 : info <= 27 ? 2 ** (info - 24) : -1
  if (width < 0) throw new ClavigerError('malformed', 'indefinite lengths are not used here')
  let argument = width === 0 ? info : 0
  for (let index = 1; index <= width; index++) argument = argument * 256 + (bytes[offset + index] ?? 0)
  return { major: initial >> 5, argument, next: offset + 1 + width }
}
