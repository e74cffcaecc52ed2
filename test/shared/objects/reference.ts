/**
 * The object formats a second time, plain and slow, sharing no code with `shared/`: node:crypto, XChaCha20-Poly1305 of
 * noble, CBOR by hand. The vectors in test/vectors/objects are what this file makes.
 */
import { createCipheriv, createHash, createHmac, createPrivateKey, createPublicKey, sign } from 'node:crypto'
import { xchacha20poly1305 } from '@noble/ciphers/chacha.js'

export type Value = number | string | boolean | null | Uint8Array | readonly Value[] | { readonly [key: string]: Value }

const utf8 = (text: string): Uint8Array => new Uint8Array(Buffer.from(text))
export const join = (...parts: readonly Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(parts))

/** Deterministic CBOR (RFC 8949 §4.2.1), of what the formats use. */
export function cbor(value: Value): Uint8Array {
  if (value === null) return Uint8Array.of(0xf6)
  if (typeof value === 'boolean') return Uint8Array.of(value ? 0xf5 : 0xf4)
  if (typeof value === 'number') return value < 0 ? cborHead(1, -1 - value) : cborHead(0, value)
  if (typeof value === 'string') return join(cborHead(3, utf8(value).length), utf8(value))
  if (value instanceof Uint8Array) return join(cborHead(2, value.length), value)
  if (isList(value)) return join(cborHead(4, value.length), ...value.map(cbor))
  const entries = Object.entries(value).map(([key, item]) => [cbor(key), cbor(item)] as const)
  return join(cborHead(5, entries.length), ...entries.toSorted(([left], [right]) => Buffer.compare(left, right)).flat())
}

function isList(value: readonly Value[] | { readonly [key: string]: Value }): value is readonly Value[] {
  return Array.isArray(value)
}

function cborHead(major: number, argument: number): Uint8Array {
  const head = (info: number, hex: string): Uint8Array => join(Uint8Array.of(major * 32 + info), new Uint8Array(Buffer.from(hex, 'hex')))
  const hex = argument.toString(16)
  if (argument < 24) return Uint8Array.of(major * 32 + argument)
  if (argument < 2 ** 8) return head(24, hex.padStart(2, '0'))
  if (argument < 2 ** 16) return head(25, hex.padStart(4, '0'))
  return argument < 2 ** 32 ? head(26, hex.padStart(8, '0')) : head(27, hex.padStart(16, '0'))
}

const labelled = (label: string): Uint8Array => utf8(`claviger/1 ${label}\0`)

export function hash(label: string, ...parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(
    createHash('sha256')
      .update(join(labelled(label), ...parts))
      .digest(),
  )
}

/** HKDF-Expand for 32 bytes is one HMAC (RFC 5869 §2.3). */
export function derive(secret: Uint8Array, label: string, ...context: readonly Value[]): Uint8Array {
  return new Uint8Array(
    createHmac('sha256', secret)
      .update(join(labelled(label), cbor(context), Uint8Array.of(1)))
      .digest(),
  )
}

/** nonce ‖ ciphertext ‖ tag. */
export function seal(key: Uint8Array, nonce: Uint8Array, aad: readonly Value[], plain: Uint8Array): Uint8Array {
  return join(nonce, xchacha20poly1305(key, nonce, cbor(aad)).encrypt(plain))
}

const privateKey = (seed: Uint8Array): ReturnType<typeof createPrivateKey> =>
  createPrivateKey({ key: Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), seed]), format: 'der', type: 'pkcs8' })

export function publicKeyOf(seed: Uint8Array): Uint8Array {
  return new Uint8Array(createPublicKey(privateKey(seed)).export({ format: 'der', type: 'spki' }).subarray(-32))
}

export function signature(seed: Uint8Array, label: string, ...parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(sign(null, join(labelled(label), ...parts), privateKey(seed)))
}

/** RFC 9162 §2.1.1, from the hashes of headers. */
export function root(hashes: readonly Uint8Array[]): Uint8Array {
  const [first] = hashes
  if (first !== undefined && hashes.length === 1) return hash('header-batch-leaf', first)
  const split = splitOf(hashes.length)
  return hash('header-batch-node', root(hashes.slice(0, split)), root(hashes.slice(split)))
}

/** RFC 9162 §2.1.3.1. */
export function path(index: number, hashes: readonly Uint8Array[]): Uint8Array[] {
  if (hashes.length === 1) return []
  const split = splitOf(hashes.length)
  const [left, right] = [hashes.slice(0, split), hashes.slice(split)]
  return index < split ? [...path(index, left), root(right)] : [...path(index - split, right), root(left)]
}

const splitOf = (size: number): number => 2 ** Math.floor(Math.log2(size - 1))

/** What a body looks like in storage: its chunks, their hashes, and the hash in the header. */
export function body(
  key: Uint8Array,
  plain: Uint8Array,
): { readonly chunks: Uint8Array[]; readonly hashes: Uint8Array; readonly bodyHash: Uint8Array } {
  const count = Math.max(1, Math.ceil(plain.length / 65_536))
  const chunks = Array.from({ length: count }, (_, index) => {
    const nonce = Buffer.from(`${index.toString(16).padStart(22, '0')}${index === count - 1 ? '01' : '00'}`, 'hex')
    const cipher = createCipheriv('aes-256-gcm', key, nonce)
    return join(cipher.update(plain.subarray(index * 65_536, (index + 1) * 65_536)), cipher.final(), cipher.getAuthTag())
  })
  const hashes = join(...chunks.map((chunk) => hash('chunk-list', chunk)))
  return { chunks, hashes, bodyHash: hash('body-hash', cbor([1, plain.length, hashes])) }
}
