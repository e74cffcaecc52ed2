/**
 * The vectors of test/vectors/objects, made from fixed seeds by the second implementation in `reference.ts`.
 *
 * Each vector has negative twins: `change` replaces fields of the vector, and reading it must fail with `error`.
 */
import { createHash } from 'node:crypto'
import type { Value } from './reference.ts'
import { body, cbor, derive, hash, join, path, publicKeyOf, root, seal, signature } from './reference.ts'
import { filled, flipped } from './fixtures.ts'

export interface Negative {
  readonly name: string
  readonly change: Readonly<Record<string, string | number>>
  readonly error: string
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const group = filled(32, 1)
const otherGroup = filled(32, 2)
const object = filled(16, 11)
const otherObject = filled(16, 12)
const dek = filled(32, 21)
const epochSecret = filled(32, 31)
const nonce = filled(24, 41)
const seed = filled(32, 51)
const otherSeed = filled(32, 52)
const extra = Uint8Array.of(0)

/** Flips one bit in each named part, then cuts and lengthens. */
function damaged(field: string, bytes: Uint8Array, places: Readonly<Record<string, number>>, error: string): Negative[] {
  const flips = Object.entries(places).map(([place, index]) => ({
    name: `a bit of ${place} flipped`,
    change: { [field]: hex(flipped(bytes, index)) },
    error,
  }))
  return [
    ...flips,
    { name: 'a byte more', change: { [field]: hex(join(bytes, extra)) }, error },
    { name: 'a byte less', change: { [field]: hex(bytes.subarray(0, -1)) }, error },
    { name: 'nothing', change: { [field]: '' }, error },
  ]
}

const elsewhere = (error: string, ...fields: readonly ('group' | 'object' | 'generation' | 'epoch')[]): Negative[] => {
  const changes = { group: hex(otherGroup), object: hex(otherObject), generation: 3, epoch: 6 }
  return fields.map((field) => ({ name: `of another ${field}`, change: { [field]: changes[field] }, error }))
}

function loose(): unknown {
  const sealed = seal(derive(epochSecret, 'dek', group, 5), nonce, ['dek', group, 5, object, 2], dek)
  return {
    name: 'a DEK sealed alone',
    epochSecret: hex(epochSecret),
    group: hex(group),
    epoch: 5,
    object: hex(object),
    generation: 2,
    dek: hex(dek),
    seal: hex(sealed),
    negatives: [
      ...damaged('seal', sealed, { nonce: 0, ciphertext: 24, tag: -1 }, 'decryption_failed'),
      ...elsewhere('decryption_failed', 'group', 'epoch', 'object', 'generation'),
      { name: 'of another epoch secret', change: { epochSecret: hex(filled(32, 32)) }, error: 'decryption_failed' },
    ],
  }
}

function keysOfDek(): unknown {
  const context = [group, object, 2]
  return {
    name: 'what is derived from a DEK',
    dek: hex(dek),
    group: hex(group),
    object: hex(object),
    generation: 2,
    dekCommitment: hex(derive(dek, 'dek-commitment', ...context)),
    bodyKey: hex(derive(dek, 'body', ...context)),
    metadataKey: hex(derive(dek, 'object-metadata', ...context)),
  }
}

function metadata(name: string, content: Readonly<Record<string, Value>>, paddedBytes: number): unknown {
  const plain = join(cbor(content), Uint8Array.of(0x80))
  const padded = join(plain, new Uint8Array(paddedBytes - plain.length))
  const sealed = seal(derive(dek, 'object-metadata', group, object, 2), nonce, ['object-metadata', group, object, 2], padded)
  return {
    name,
    dek: hex(dek),
    group: hex(group),
    object: hex(object),
    generation: 2,
    content: Object.fromEntries(
      Object.entries(content).map(([key, value]) => [key, value instanceof Uint8Array ? { hex: hex(value) } : value]),
    ),
    sealed: hex(sealed),
    negatives: [
      ...damaged('sealed', sealed, { nonce: 0, ciphertext: 24, padding: -17, tag: -1 }, 'decryption_failed'),
      ...elsewhere('decryption_failed', 'group', 'object', 'generation'),
    ],
  }
}

/** The full page has no twins: it is there for its length. */
function page(count: number): unknown {
  const entries = Array.from({ length: count }, (_, index) => ({
    pair: join(filled(16, 100 + (index >> 1)), Uint8Array.of(0, 0, index % 2, 7)),
    headerHash: filled(32, 300 + index),
    dek: filled(32, 500 + index),
  }))
  const sorted = entries.toSorted((left, right) => Buffer.compare(left.pair, right.pair))
  const packed = join(...sorted.map(({ pair, headerHash }) => join(pair, headerHash)))
  const pageId = filled(16, 61)
  const deks = join(...sorted.map((entry) => entry.dek))
  const sealed =
    count === 0 ? new Uint8Array(0) : seal(derive(epochSecret, 'page', group, 5), nonce, ['page', group, pageId, 5, packed], deks)
  const renamed = (place: number): Negative['change'] => ({ entries: hex(flipped(packed, place)) })
  const negatives: Negative[] =
    count === 0
      ? [{ name: 'a seal for no entries', change: { sealed: hex(nonce) }, error: 'decryption_failed' }]
      : [
          ...damaged('sealed', sealed, { nonce: 0, ciphertext: 24, 'the last DEK': -17, tag: -1 }, 'decryption_failed'),
          ...elsewhere('decryption_failed', 'group', 'epoch'),
          { name: 'under another page id', change: { pageId: hex(filled(16, 62)) }, error: 'decryption_failed' },
          { name: 'a bit of a header hash flipped', change: renamed(20), error: 'decryption_failed' },
          { name: 'a bit of the last generation flipped', change: renamed(packed.length - 33), error: 'decryption_failed' },
          { name: 'an entry less', change: { entries: hex(packed.subarray(52)) }, error: 'decryption_failed' },
          { name: 'entries cut', change: { entries: hex(packed.subarray(0, -1)) }, error: 'malformed' },
          { name: 'entries with a trailing byte', change: { entries: hex(join(packed, extra)) }, error: 'malformed' },
          { name: 'an entry twice', change: { entries: hex(join(packed.subarray(0, 52), packed)) }, error: 'malformed' },
        ]
  return {
    name: `a page of ${count} DEKs`,
    epochSecret: hex(epochSecret),
    group: hex(group),
    epoch: 5,
    pageId: hex(pageId),
    entries: hex(packed),
    deks: hex(deks),
    sealed: hex(sealed),
    negatives: count > 8 ? [] : negatives,
  }
}

/** The plaintext of a body: byte i is the low byte of 7·i + ⌊i / 256⌋. */
export function bodyPlaintext(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => 7 * index + (index >> 8))
}

function bodyOf(length: number): unknown {
  const { chunks, hashes, bodyHash } = body(derive(dek, 'body', group, object, 2), bodyPlaintext(length))
  const sealed = join(...chunks)
  const stored = length <= 64 ? { sealed: hex(sealed) } : {}
  return {
    name: `a body of ${length} bytes`,
    dek: hex(dek),
    group: hex(group),
    object: hex(object),
    generation: 2,
    length,
    chunks: chunks.length,
    ...stored,
    sealedSha256: hex(sha256(sealed)),
    hashesSha256: hex(sha256(hashes)),
    bodyHash: hex(bodyHash),
  }
}

function inlineBody(): unknown {
  const { chunks, bodyHash } = body(derive(dek, 'body', group, object, 2), bodyPlaintext(20))
  const sealed = join(...chunks)
  return {
    name: 'an inline body',
    dek: hex(dek),
    group: hex(group),
    object: hex(object),
    generation: 2,
    length: 20,
    sealed: hex(sealed),
    bodyHash: hex(bodyHash),
    negatives: [
      ...damaged('sealed', sealed, { ciphertext: 0, tag: -1 }, 'body_invalid'),
      { name: 'another length', change: { length: 19 }, error: 'body_invalid' },
      { name: 'another body hash', change: { bodyHash: hex(flipped(bodyHash, 0)) }, error: 'body_invalid' },
      ...elsewhere('decryption_failed', 'group', 'object', 'generation'),
      { name: 'another DEK', change: { dek: hex(filled(32, 22)) }, error: 'decryption_failed' },
    ],
  }
}

const header = (changes: Readonly<Record<string, Value>> = {}): Record<string, Value> => ({
  v: 1,
  group,
  object,
  version: 2,
  generation: 2,
  epoch: 5,
  at: { seq: 70_000, hash: filled(32, 71) },
  author: filled(32, 72),
  previous: filled(32, 73),
  dekCommitment: derive(dek, 'dek-commitment', group, object, 2),
  bodyHash: filled(32, 74),
  bodyLength: 5_000_000_000,
  metadata: filled(104, 75),
  ...changes,
})

const envelope = (bytes: Uint8Array, signed: Uint8Array, batch: Value = null): Uint8Array =>
  cbor({ header: bytes, signature: signed, batch })
const headerHash = (bytes: Uint8Array): Uint8Array => hash('header', bytes)
const single = (fields: Readonly<Record<string, Value>>): Uint8Array => {
  const bytes = cbor(fields)
  return envelope(bytes, signature(seed, 'header', headerHash(bytes)))
}

function fieldsInHex(value: Value): unknown {
  if (value instanceof Uint8Array) return hex(value)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, fieldsInHex(item)]))
}

function singleHeader(name: string, fields: Record<string, Value>, negatives: readonly Negative[]): unknown {
  const bytes = cbor(fields)
  return {
    name,
    seed: hex(seed),
    publicKey: hex(publicKeyOf(seed)),
    header: fieldsInHex(fields),
    headerBytes: hex(bytes),
    headerHash: hex(headerHash(bytes)),
    envelope: hex(single(fields)),
    negatives,
  }
}

function headerNegatives(): Negative[] {
  const bytes = cbor(header())
  const sound = single(header())
  const own = signature(seed, 'header', headerHash(bytes))
  const instead = (name: string, error: string, envelopeBytes: Uint8Array): Negative => ({
    name,
    change: { envelope: hex(envelopeBytes) },
    error,
  })
  const place = (part: Uint8Array): number => Buffer.from(sound).indexOf(part)
  return [
    { name: 'under another key', change: { publicKey: hex(publicKeyOf(otherSeed)) }, error: 'invalid_signature' },
    instead('a bit of the signature flipped', 'invalid_signature', flipped(sound, place(own))),
    instead('a bit of the group flipped', 'invalid_signature', flipped(sound, place(group))),
    instead('a bit of the head flipped', 'invalid_signature', flipped(sound, place(filled(32, 71)))),
    instead('a bit of the metadata flipped', 'invalid_signature', flipped(sound, place(filled(104, 75)))),
    instead('a signature over the header itself, not its hash', 'invalid_signature', envelope(bytes, signature(seed, 'header', bytes))),
    instead(
      'a signature under the label of batches',
      'invalid_signature',
      envelope(bytes, signature(seed, 'header-batch', headerHash(bytes))),
    ),
    instead('a byte more', 'malformed', join(sound, extra)),
    instead('a byte less', 'malformed', sound.subarray(0, -1)),
    instead(
      'a header with a trailing byte',
      'malformed',
      envelope(join(bytes, extra), signature(seed, 'header', headerHash(join(bytes, extra)))),
    ),
    instead('an unknown field', 'malformed', single(header({ extra: 1 }))),
    instead('a missing field', 'malformed', single(Object.fromEntries(Object.entries(header()).filter(([key]) => key !== 'author')))),
    instead('format 0', 'malformed', single(header({ v: 0 }))),
    instead('keys in another order', 'malformed', envelope(reordered(bytes), signature(seed, 'header', headerHash(reordered(bytes))))),
    instead('a generation that is not the version', 'rule_violated O1_generationIsVersion', single(header({ generation: 1 }))),
    instead('a second version without a previous one', 'rule_violated O2_onlyTheFirstHasNoPrevious', single(header({ previous: null }))),
    instead('a tombstone with a body', 'rule_violated O3_tombstoneIsBare', single(header({ dekCommitment: null }))),
  ]
}

/** The first entry of the map, `v: 1`, moved to the end. */
function reordered(bytes: Uint8Array): Uint8Array {
  return join(bytes.subarray(0, 1), bytes.subarray(4), bytes.subarray(1, 4))
}

function batch(size: number): unknown {
  const headers = Array.from({ length: size }, (_, index) => cbor(header({ object: filled(16, 80 + index) })))
  const hashes = headers.map(headerHash)
  const own = signature(seed, 'header-batch', cbor([size, root(hashes)]))
  const at = (index: number, changes: Readonly<Record<string, Value>> = {}, signed = own): string =>
    hex(envelope(headers[index] ?? extra, signed, { index, size, path: path(index, hashes), ...changes }))
  const instead = (name: string, error: string, envelopeHex: string): Negative => ({ name, change: { envelope: envelopeHex }, error })
  const last = size - 1
  return {
    name: `a batch of ${size}`,
    seed: hex(seed),
    publicKey: hex(publicKeyOf(seed)),
    root: hex(root(hashes)),
    headers: headers.map(hex),
    headerHashes: hashes.map(hex),
    envelopes: headers.map((_, index) => at(index)),
    negatives: [
      { name: 'under another key', change: { publicKey: hex(publicKeyOf(otherSeed)) }, error: 'invalid_signature' },
      instead('a bit of the path flipped', 'invalid_signature', at(0, { path: path(0, hashes).map((node) => flipped(node, 5)) })),
      instead('the path of another header', 'invalid_signature', at(0, { path: path(1, hashes) })),
      instead('the place of another header', 'invalid_signature', at(0, { index: 1 })),
      instead('a signature over the root without the size', 'invalid_signature', at(0, {}, signature(seed, 'header-batch', root(hashes)))),
      instead(
        'a signature under the label of single headers',
        'invalid_signature',
        at(0, {}, signature(seed, 'header', cbor([size, root(hashes)]))),
      ),
      instead('a place past the end', 'rule_violated O4_batchPathFits', at(last, { index: size })),
      instead('a path too short', 'rule_violated O4_batchPathFits', at(0, { path: path(0, hashes).slice(1) })),
      instead('a path too long', 'rule_violated O4_batchPathFits', at(0, { path: [...path(0, hashes), filled(32)] })),
    ],
  }
}

function sha256(bytes: Uint8Array): Uint8Array {
  return new Uint8Array(createHash('sha256').update(bytes).digest())
}

const tombstone = { dekCommitment: null, bodyHash: null, bodyLength: 0, metadata: new Uint8Array(0) }
const first = { version: 1, generation: 1, previous: null }

/** Every file of test/vectors/objects, by name. */
export function referenceVectors(): Record<string, unknown> {
  const source = 'test/shared/objects/reference.ts, a second implementation that shares no code with shared/'
  return {
    'headers.json': {
      source,
      singles: [
        singleHeader('a second version', header(), headerNegatives()),
        singleHeader('a first version', header(first), []),
        singleHeader('a tombstone', header(tombstone), []),
      ],
      batches: [batch(2), batch(3), batch(7)],
    },
    'seals.json': {
      source,
      derived: [keysOfDek()],
      loose: [loose()],
      metadata: [
        metadata('no metadata', {}, 64),
        metadata('a name', { name: 'plan.md' }, 64),
        metadata('a name, a type and app data', { name: 'Grüße.txt', type: 'text/plain', custom: filled(100, 91) }, 256),
      ],
    },
    'pages.json': { source, pages: [page(0), page(1), page(5), page(256)] },
    'bodies.json': {
      source,
      plaintext: 'byte i is the low byte of 7·i + ⌊i / 256⌋',
      inline: [inlineBody()],
      bodies: [0, 1, 20, 65_535, 65_536, 65_537, 131_072, 200_000, 16_777_217].map(bodyOf),
    },
  }
}
