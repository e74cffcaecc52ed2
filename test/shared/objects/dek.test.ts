import { xchacha20, xchacha20poly1305 } from '@noble/ciphers/chacha.js'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { concat } from '../../../shared/bytes.ts'
import { context } from '../../../shared/codec.ts'
import { asDek } from '../../../shared/crypto/keys.ts'
import { METADATA_BYTES_MAX } from '../../../shared/limits.ts'
import {
  bodyKey,
  checkDek,
  dekCommitment,
  epochSealKeys,
  generateDek,
  LOOSE_SEAL_BYTES,
  metadataKey,
  openDek,
  sealDek,
} from '../../../shared/objects/dek.ts'
import { openMetadata, sealMetadata } from '../../../shared/objects/metadata.ts'
import { BACKENDS, useBackend } from '../crypto/backends.ts'
import { dekOf, failureOf, filled, flipped, group, headerOf, objectId, otherGroup, secretOf } from './fixtures.ts'
import { collide } from './salamander.ts'

const name = { object: objectId(1), generation: 1 }
const of = { group, ...name }
const keys = epochSealKeys(secretOf(1), { group, epoch: 3 })

describe.each(BACKENDS)('with the $name backend', (backend) => {
  test('a loose DEK opens under its own epoch, object and generation', () => {
    useBackend(backend)
    const seal = sealDek(keys, name, dekOf(1))
    expect(seal.length).toBe(LOOSE_SEAL_BYTES)
    expect(openDek(keys, name, seal)).toEqual(dekOf(1))
    expect(sealDek(keys, name, dekOf(1))).not.toEqual(seal)
  })

  test('a loose DEK moved to another group, epoch, object or generation does not open (A25, A18, A32)', async () => {
    useBackend(backend)
    const seal = sealDek(keys, name, dekOf(1))
    const elsewhere = [
      epochSealKeys(secretOf(1), { group: otherGroup, epoch: 3 }),
      epochSealKeys(secretOf(1), { group, epoch: 4 }),
      epochSealKeys(secretOf(2), { group, epoch: 3 }),
    ]
    for (const wrong of elsewhere) expect(await failureOf(() => openDek(wrong, name, seal))).toBe('decryption_failed')
    expect(await failureOf(() => openDek(keys, { ...name, object: objectId(2) }, seal))).toBe('decryption_failed')
    expect(await failureOf(() => openDek(keys, { ...name, generation: 2 }, seal))).toBe('decryption_failed')
  })

  test('a loose DEK that was changed anywhere gives one error and no detail (A22)', async () => {
    useBackend(backend)
    const seal = sealDek(keys, name, dekOf(1))
    const failures = new Set<string>()
    const changed = [...seal.keys()].map((index) => flipped(seal, index))
    for (const wrong of [...changed, concat(seal, Uint8Array.of(0)), seal.subarray(1), seal.subarray(0, -1), new Uint8Array(0)]) {
      try {
        openDek(keys, name, wrong)
        failures.add('opened')
      } catch (error) {
        failures.add(JSON.stringify([error, error instanceof Error ? [error.message, error.cause ?? null] : null]))
      }
    }
    expect(failures.size).toBe(1)
    expect([...failures][0]).toContain('decryption_failed')
  })
})

describe('a DEK', () => {
  test('is fresh each time', () => {
    expect(generateDek()).not.toEqual(generateDek())
    expect(generateDek().length).toBe(32)
  })

  test('gives different keys for commitment, body and metadata, and for each group, object and generation', () => {
    const contexts = [of, { ...of, group: otherGroup }, { ...of, object: objectId(2) }, { ...of, generation: 2 }]
    const derived = contexts.flatMap((context_) => [
      dekCommitment(dekOf(1), context_),
      bodyKey(dekOf(1), context_),
      metadataKey(dekOf(1), context_),
    ])
    expect(new Set(derived.map((bytes) => bytes.join())).size).toBe(derived.length)
  })

  test('is checked against the commitment in the header', async () => {
    expect(await failureOf(() => checkDek(dekOf(1), headerOf()))).toBe('nothing')
    expect(await failureOf(() => checkDek(dekOf(2), headerOf()))).toBe('dek_invalid')
    expect(await failureOf(() => checkDek(dekOf(1), { ...headerOf(), generation: 2 }))).toBe('dek_invalid')
    expect(await failureOf(() => checkDek(dekOf(1), { ...headerOf(), object: objectId(2) }))).toBe('dek_invalid')
    expect(await failureOf(() => checkDek(dekOf(1), { ...headerOf(), dekCommitment: null }))).toBe('dek_invalid')
  })

  test('that a removed member kept is not the DEK of a later write (A33)', async () => {
    const later = { ...headerOf({ version: 2 }), dekCommitment: dekCommitment(dekOf(2), { ...of, generation: 2 }) }
    const sealed = sealMetadata(dekOf(2), later, { name: 'secret.md' })
    expect(await failureOf(() => checkDek(dekOf(1), later))).toBe('dek_invalid')
    expect(await failureOf(() => openMetadata(dekOf(1), later, sealed))).toBe('decryption_failed')
    expect(await failureOf(() => openMetadata(dekOf(1), { ...later, generation: 1 }, sealed))).toBe('decryption_failed')
  })
})

test('a seal made to open to two DEKs under two epoch secrets fails the commitment of both readers (A40)', async () => {
  const other = epochSealKeys(secretOf(2), { group, epoch: 3 })
  const nonce = filled(24, 7)
  const aad = context('dek', group, 3, name.object, name.generation)
  const seal = concat(nonce, collide([keys.dek, other.dek], nonce, aad))
  const [forAlice, forBob] = [openDek(keys, name, seal), openDek(other, name, seal)]
  expect(forAlice).not.toEqual(forBob)
  for (const dek of [forAlice, forBob]) expect(await failureOf(() => checkDek(dek, headerOf()))).toBe('dek_invalid')
  const committed = { ...headerOf(), dekCommitment: dekCommitment(forAlice, of) }
  expect(await failureOf(() => checkDek(forBob, committed))).toBe('dek_invalid')
})

test('the two-key ciphertext is what two honest ciphers open', () => {
  const [left, right, nonce, aad] = [filled(32, 1), filled(32, 2), filled(24, 3), filled(40, 4)]
  const ciphertext = collide([left, right], nonce, aad)
  expect(ciphertext.length).toBe(48)
  for (const key of [left, right]) {
    expect(xchacha20poly1305(key, nonce, aad).decrypt(ciphertext)).toEqual(xchacha20(key, nonce, ciphertext.subarray(0, 32), undefined, 1))
  }
})

describe('metadata', () => {
  test('opens to what was sealed', () => {
    for (const metadata of [
      {},
      { name: 'plan.md' },
      { name: 'Grüße 👋', type: 'text/plain', custom: filled(100) },
      { custom: new Uint8Array(0) },
    ]) {
      expect(openMetadata(dekOf(1), of, sealMetadata(dekOf(1), of, metadata))).toEqual(metadata)
    }
  })

  test('does not open for another object, generation, group or DEK (A26)', async () => {
    const sealed = sealMetadata(dekOf(1), of, { name: 'salaries.csv' })
    const others = [
      { ...of, object: objectId(2) },
      { ...of, generation: 2 },
      { ...of, group: otherGroup },
    ]
    for (const other of others) expect(await failureOf(() => openMetadata(dekOf(1), other, sealed))).toBe('decryption_failed')
    expect(await failureOf(() => openMetadata(dekOf(2), of, sealed))).toBe('decryption_failed')
  })

  test('that was changed anywhere does not open (A22)', async () => {
    const sealed = sealMetadata(dekOf(1), of, { name: 'plan.md' })
    for (let index = 0; index < sealed.length; index += 1)
      expect(await failureOf(() => openMetadata(dekOf(1), of, flipped(sealed, index)))).toBe('decryption_failed')
    for (const wrong of [concat(sealed, Uint8Array.of(0)), sealed.subarray(0, -1), new Uint8Array(0)])
      expect(await failureOf(() => openMetadata(dekOf(1), of, wrong))).toBe('decryption_failed')
  })

  test('of different names has one length, and few lengths altogether (A29)', () => {
    const lengthOf = (characters: number): number => sealMetadata(dekOf(1), of, { name: 'x'.repeat(characters) }).length
    expect(new Set([0, 1, 10, 20, 40, 50].map(lengthOf)).size).toBe(1)
    expect(new Set(Array.from({ length: 4000 }, (_, characters) => lengthOf(characters))).size).toBe(7)
  })

  test('fits the header up to its limit and not one byte past it', () => {
    // nonce and tag, one byte of padding, the map with its one key, the head of the byte string
    const overheadBytes = 40 + 1 + (1 + 7) + 3
    const largest = new Uint8Array(METADATA_BYTES_MAX - overheadBytes)
    expect(sealMetadata(dekOf(1), of, { custom: largest }).length).toBe(METADATA_BYTES_MAX)
    expect(() => sealMetadata(dekOf(1), of, { custom: new Uint8Array(largest.length + 1) })).toThrow(RangeError)
  })

  test('that its author sealed without sound padding or content is malformed', async () => {
    const seal = (plain: Uint8Array): Uint8Array => {
      const nonce = filled(24)
      return concat(
        nonce,
        xchacha20poly1305(metadataKey(dekOf(1), of), nonce, context('object-metadata', group, of.object, of.generation)).encrypt(plain),
      )
    }
    const padded = (...start: readonly number[]): Uint8Array => Uint8Array.from({ length: 64 }, (_, index) => start[index] ?? 0)
    expect(openMetadata(dekOf(1), of, seal(padded(0xa0, 0x80)))).toEqual({})
    for (const plain of [
      padded(),
      padded(0xa0),
      padded(0xa0, 0x81),
      padded(0xa0, 0, 0x80),
      padded(0x80),
      padded(0xa1, 0x61, 0x78, 0, 0x80),
    ]) {
      expect(await failureOf(() => openMetadata(dekOf(1), of, seal(plain)))).toBe('malformed')
    }
  })

  test('of any content round-trips', () => {
    const custom = fc.uint8Array({ maxLength: 500 })
    fc.assert(
      fc.property(fc.record({ name: fc.string({ unit: 'grapheme' }), type: fc.string(), custom }, { requiredKeys: [] }), (metadata) => {
        expect(openMetadata(dekOf(1), of, sealMetadata(dekOf(1), of, metadata))).toEqual(metadata)
      }),
      { numRuns: 100 },
    )
  })
})

test('a DEK of another length is no DEK', () => {
  expect(() => asDek(new Uint8Array(31))).toThrow(TypeError)
})
