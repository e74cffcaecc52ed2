import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { concat } from '../../../shared/bytes.ts'
import { encodeCanonical } from '../../../shared/codec.ts'
import { noblePublicCrypto } from '../../../shared/crypto/noble-public-crypto.ts'
import { usePublicCrypto } from '../../../shared/crypto/public-crypto.ts'
import { BATCH_ITEMS_MAX, HEADER_BYTES_MAX, METADATA_BYTES_MAX, OBJECT_VERSION_MAX } from '../../../shared/limits.ts'
import type { Header, SignedHeader } from '../../../shared/objects/header.ts'
import { decodeEnvelope, encodeEnvelope, encodeHeader, isTombstone, verifyHeader } from '../../../shared/objects/header.ts'
import { signHeader, signHeaders } from '../../../shared/objects/header-signing.ts'
import { headerTree, pathLength, rootFromPath } from '../../../shared/objects/header-tree.ts'
import { alice, failureOf, filled, flipped, headerOf, mallory, objectId, signedBy, tombstoneOf } from './fixtures.ts'

/** Signs whatever it is given, well-formed or not: only the rule under test can refuse it. */
async function forged(fields: Record<string, unknown>): Promise<Uint8Array> {
  const header = encodeCanonical(fields)
  const sound = decodeEnvelope(await signHeader(alice.signer, headerOf()))
  return encodeEnvelope({ header, signature: sound.signature, batch: null })
}

const batchOf = async (size: number): Promise<SignedHeader[]> =>
  (
    await signHeaders(
      alice.signer,
      Array.from({ length: size }, (_, index) => headerOf({ object: objectId(index) })),
    )
  ).map(decodeEnvelope)

describe('an envelope', () => {
  test('decodes to the header that was signed, and keeps the signed bytes', async () => {
    const header = headerOf()
    const signed = await signedBy(alice, header)
    expect(signed.header).toEqual(header)
    expect(signed.headerBytes).toEqual(encodeHeader(header))
    expect(signed.bytes).toEqual(await signHeader(alice.signer, header))
    await verifyHeader(signed, alice.signer.publicKey)
  })

  test('verifies under no other key', async () => {
    const signed = await signedBy(mallory, headerOf())
    expect(await failureOf(() => verifyHeader(signed, alice.signer.publicKey))).toBe('invalid_signature')
  })

  test('of a tombstone says so', async () => {
    expect(isTombstone((await signedBy(alice, tombstoneOf({ version: 2, generation: 2 }))).header)).toBe(true)
    expect(isTombstone(headerOf())).toBe(false)
  })

  test('with any bit flipped is refused', async () => {
    const { bytes } = await signedBy(alice, headerOf())
    for (let index = 0; index < bytes.length; index += 1) {
      expect(await failureOf(() => verifyHeader(decodeEnvelope(flipped(bytes, index)), alice.signer.publicKey)), `byte ${index}`).not.toBe(
        'nothing',
      )
    }
  })

  test('with a byte more or less is refused', async () => {
    const { bytes } = await signedBy(alice, headerOf())
    expect(await failureOf(() => decodeEnvelope(concat(bytes, Uint8Array.of(0))))).toBe('malformed')
    for (let length = 0; length < bytes.length; length += 1)
      expect(await failureOf(() => decodeEnvelope(bytes.subarray(0, length)))).toBe('malformed')
  })

  test('past its limit of bytes is refused before it is decoded', async () => {
    expect(await failureOf(() => decodeEnvelope(new Uint8Array(HEADER_BYTES_MAX + 1)))).toBe('limit_exceeded')
    expect(await failureOf(() => decodeEnvelope(new Uint8Array(HEADER_BYTES_MAX)))).toBe('malformed')
  })

  test('of the largest header in the largest batch fits the limit', async () => {
    const headers = Array.from({ length: BATCH_ITEMS_MAX }, (_, index) =>
      headerOf({ object: objectId(index), metadata: filled(METADATA_BYTES_MAX, index) }),
    )
    const [first] = await signHeaders(alice.signer, headers)
    expect(first?.length).toBeLessThan(HEADER_BYTES_MAX)
    await expect(signHeaders(alice.signer, [...headers, headerOf({ object: objectId(BATCH_ITEMS_MAX) })])).rejects.toThrow(RangeError)
  })

  test.each([
    ['an unknown field', { extra: 1 }],
    ['another version of the format (A27)', { v: 0 }],
    ['a later version of the format', { v: 2 }],
    ['a group id of another length', { group: new Uint8Array(31) }],
    ['an object id of another length', { object: new Uint8Array(17) }],
    ['version 0', { version: 0, generation: 0 }],
    ['a version past the limit (A46)', { version: OBJECT_VERSION_MAX + 1, generation: OBJECT_VERSION_MAX + 1 }],
    ['a negative length', { bodyLength: -1 }],
    ['a fractional length', { bodyLength: 0.5 }],
    ['metadata past its limit', { metadata: new Uint8Array(METADATA_BYTES_MAX + 1) }],
    ['a head without a hash', { at: { seq: 1 } }],
    ['a previous hash of another length', { version: 2, generation: 2, previous: new Uint8Array(16) }],
    ['text where bytes belong', { author: 'alice' }],
  ])('with %s is malformed', async (_name, changes) => {
    expect(await failureOf(async () => decodeEnvelope(await forged({ ...headerOf(), ...changes })))).toBe('malformed')
  })

  test('at the greatest version is accepted', async () => {
    const version = OBJECT_VERSION_MAX
    expect((await signedBy(alice, headerOf({ version, generation: version }))).header.version).toBe(version)
  })

  test.each<readonly [string, Partial<Header>]>([
    ['O1_generationIsVersion', { version: 2, generation: 1, previous: filled(32) }],
    ['O1_generationIsVersion', { version: 1, generation: 2 }],
    ['O2_onlyTheFirstHasNoPrevious', { version: 2, generation: 2, previous: null }],
    ['O2_onlyTheFirstHasNoPrevious', { previous: filled(32) }],
    ['O3_tombstoneIsBare', { dekCommitment: null }],
    ['O3_tombstoneIsBare', { bodyHash: null }],
    ['O3_tombstoneIsBare', { metadata: new Uint8Array(0) }],
    ['O3_tombstoneIsBare', { dekCommitment: null, bodyHash: null, metadata: new Uint8Array(0) }],
    ['O3_tombstoneIsBare', { dekCommitment: null, bodyHash: null, bodyLength: 0 }],
  ])('that breaks %s is refused by signer and reader', async (rule, changes) => {
    const header = headerOf(changes)
    expect(await failureOf(() => signHeader(alice.signer, header))).toBe(`rule_violated ${rule}`)
    expect(await failureOf(async () => decodeEnvelope(await forged({ ...header })))).toBe(`rule_violated ${rule}`)
  })
})

describe('a batch', () => {
  test.each([2, 3, 4, 5, 7, 8, 9, 255, 256, 257])('of %i headers verifies header by header', async (size) => {
    const batch = await batchOf(size)
    for (const signed of batch) await verifyHeader(signed, alice.signer.publicKey)
    expect(new Set(batch.map(({ signature }) => signature.join())).size).toBe(1)
  })

  test('of one is signed like a single header, of none is nothing', async () => {
    expect(await signHeaders(alice.signer, [headerOf()])).toEqual([await signHeader(alice.signer, headerOf())])
    expect(await signHeaders(alice.signer, [])).toEqual([])
  })

  test('does not take two headers of one object', async () => {
    await expect(signHeaders(alice.signer, [headerOf(), headerOf({ bodyLength: 7 })])).rejects.toThrow(TypeError)
  })

  test('costs one signature check', async () => {
    let checks = 0
    usePublicCrypto({ ...noblePublicCrypto, verifyEd25519: (...input) => (checks++, noblePublicCrypto.verifyEd25519(...input)) })
    try {
      const batch = await batchOf(254)
      await Promise.all(batch.map((signed) => verifyHeader(signed, alice.signer.publicKey)))
      for (const signed of batch) await verifyHeader(signed, alice.signer.publicKey)
      expect(checks).toBe(1)
    } finally {
      usePublicCrypto(noblePublicCrypto)
    }
  })

  test('that verified under one key does not verify under another', async () => {
    const [signed] = await batchOf(4)
    if (signed === undefined) throw new Error('the batch is empty')
    await verifyHeader(signed, alice.signer.publicKey)
    expect(await failureOf(() => verifyHeader(signed, mallory.signer.publicKey))).toBe('invalid_signature')
  })

  test('whose check failed in the backend is checked again', async () => {
    const [signed] = await batchOf(11)
    if (signed === undefined) throw new Error('the batch is empty')
    usePublicCrypto({ ...noblePublicCrypto, verifyEd25519: () => Promise.reject(new Error('the device is gone')) })
    await expect(verifyHeader(signed, alice.signer.publicKey)).rejects.toThrow('the device is gone')
    usePublicCrypto(noblePublicCrypto)
    await verifyHeader(signed, alice.signer.publicKey)
  })

  test('refuses every header that is moved to another place or given another path', async () => {
    const batch = await batchOf(5)
    for (const { headerBytes: header, signature } of batch) {
      for (const { header: own, batch: place } of batch) {
        if (place === null || encodeHeader(own).join() === header.join()) continue
        const moved = decodeEnvelope(encodeEnvelope({ header, signature, batch: place }))
        expect(await failureOf(() => verifyHeader(moved, alice.signer.publicKey))).toBe('invalid_signature')
      }
    }
  })

  test('refuses a header that was not in it', async () => {
    const [signed] = await batchOf(4)
    if (signed === undefined) throw new Error('the batch is empty')
    const foreign = decodeEnvelope(
      encodeEnvelope({ header: encodeHeader(headerOf({ bodyLength: 99 })), signature: signed.signature, batch: signed.batch }),
    )
    expect(await failureOf(() => verifyHeader(foreign, alice.signer.publicKey))).toBe('invalid_signature')
  })

  test('refuses a path that does not fit its place (O4)', async () => {
    const [signed] = await batchOf(4)
    if (signed?.batch === undefined || signed.batch === null) throw new Error('not a batch')
    const { headerBytes: header, signature, batch } = signed
    for (const wrong of [
      { ...batch, index: 4 },
      { ...batch, path: batch.path.slice(1) },
      { ...batch, path: [...batch.path, filled(32)] },
      { ...batch, size: 5 },
    ]) {
      expect(await failureOf(() => decodeEnvelope(encodeEnvelope({ header, signature, batch: wrong })))).toBe(
        'rule_violated O4_batchPathFits',
      )
    }
    const larger = { ...batch, size: 3 }
    expect(
      await failureOf(() => verifyHeader(decodeEnvelope(encodeEnvelope({ header, signature, batch: larger })), alice.signer.publicKey)),
    ).toBe('invalid_signature')
  })

  test('a signature over a batch is none over a single header, and the other way round', async () => {
    const [inBatch] = await batchOf(2)
    const alone = await signedBy(alice, headerOf())
    if (inBatch === undefined) throw new Error('the batch is empty')
    const single = decodeEnvelope(encodeEnvelope({ header: inBatch.headerBytes, signature: inBatch.signature, batch: null }))
    const batched = decodeEnvelope(
      encodeEnvelope({ header: alone.headerBytes, signature: alone.signature, batch: { index: 0, size: 1, path: [] } }),
    )
    expect(await failureOf(() => verifyHeader(single, alice.signer.publicKey))).toBe('invalid_signature')
    expect(await failureOf(() => verifyHeader(batched, alice.signer.publicKey))).toBe('invalid_signature')
  })
})

describe('the tree of a batch', () => {
  /** RFC 9162 §2.1.1 and §2.1.3.1, word for word: slow, recursive. */
  const slowRoot = (hashes: readonly Uint8Array[]): Uint8Array => {
    if (hashes.length === 1) return headerTree(hashes).root
    const split = 2 ** Math.floor(Math.log2(hashes.length - 1))
    return noblePublicCrypto.sha256(label('node'), slowRoot(hashes.slice(0, split)), slowRoot(hashes.slice(split)))
  }
  const slowPath = (index: number, hashes: readonly Uint8Array[]): Uint8Array[] => {
    if (hashes.length === 1) return []
    const split = 2 ** Math.floor(Math.log2(hashes.length - 1))
    return index < split
      ? [...slowPath(index, hashes.slice(0, split)), slowRoot(hashes.slice(split))]
      : [...slowPath(index - split, hashes.slice(split)), slowRoot(hashes.slice(0, split))]
  }
  const label = (name: string): Uint8Array => Uint8Array.from(`claviger/1 header-batch-${name}\0`, (character) => character.charCodeAt(0))

  test('is that of RFC 9162 for every size up to 40', () => {
    for (let size = 1; size <= 40; size += 1) {
      const hashes = Array.from({ length: size }, (_, index) => filled(32, index))
      const tree = headerTree(hashes)
      expect(tree.root).toEqual(slowRoot(hashes))
      for (const [index, hash] of hashes.entries()) {
        const path = slowPath(index, hashes)
        expect(tree.paths[index]).toEqual(path)
        expect(pathLength(index, size)).toBe(path.length)
        expect(rootFromPath(hash, { index, size, path })).toEqual(tree.root)
      }
    }
  })

  test('has a leaf label, so that a node is never taken for a leaf', () => {
    const [left, right] = [filled(32, 1), filled(32, 2)]
    expect(headerTree([left]).root).toEqual(noblePublicCrypto.sha256(label('leaf'), left))
    expect(headerTree([left, right]).root).not.toEqual(headerTree([concat(left, right)]).root)
  })

  test('has no root without leaves', () => {
    expect(() => headerTree([])).toThrow(RangeError)
  })
})

test('any header round-trips, and signing mutates nothing', async () => {
  const bytes = (length: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ minLength: length, maxLength: length })
  const arbitrary = fc.record({
    version: fc.integer({ min: 1, max: OBJECT_VERSION_MAX }),
    object: bytes(16),
    seq: fc.nat(),
    bodyLength: fc.nat(),
    metadata: fc.uint8Array({ minLength: 1, maxLength: 300 }),
    previous: bytes(32),
  })
  await fc.assert(
    fc.asyncProperty(arbitrary, async ({ version, object, seq, bodyLength, metadata, previous }) => {
      const header = headerOf({
        version,
        generation: version,
        object: Object.assign(objectId(0), object),
        bodyLength,
        metadata,
        at: { ...headerOf().at, seq },
        previous: version === 1 ? null : previous,
      })
      const before = structuredClone(header)
      const signed = await signedBy(alice, header)
      expect(signed.header).toEqual(header)
      expect(header).toEqual(before)
    }),
    { numRuns: 40 },
  )
})

test('an envelope damaged in any way is refused or is still the same header, and never fails otherwise', async () => {
  const { bytes, hash } = await signedBy(alice, headerOf())
  const edits = fc.array(fc.record({ at: fc.nat(bytes.length - 1), remove: fc.nat(3), insert: fc.uint8Array({ maxLength: 3 }) }), {
    minLength: 1,
    maxLength: 4,
  })
  await fc.assert(
    fc.asyncProperty(edits, async (changes) => {
      const damaged = changes.reduce(
        (whole, { at, remove, insert }) => concat(whole.subarray(0, at), insert, whole.subarray(at + remove)),
        bytes,
      )
      const outcome = await failureOf(async () => {
        const signed = decodeEnvelope(damaged)
        await verifyHeader(signed, alice.signer.publicKey)
        expect(signed.hash).toEqual(hash)
      })
      expect(outcome).toMatch(/^(nothing|malformed|limit_exceeded|invalid_signature|rule_violated O\d_\w+)$/)
    }),
    { numRuns: 500 },
  )
})
