import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { fromHex, toHex } from '../../../shared/bytes.ts'
import {
  contextExport,
  contextOpen,
  contextSeal,
  openBase,
  receiveExportBase,
  sealBase,
  sendExportBase,
  setupBaseRecipient,
  setupBaseSender,
} from '../../../shared/crypto/hpke.ts'
import type { KemKeyPair } from '../../../shared/crypto/kem.ts'
import { KEMS, kemPrivateKey, kemPrivateKeyFromSeed } from '../../../shared/crypto/kem.ts'
import { asKemPublicKey } from '../../../shared/crypto/keys.ts'
import { BACKENDS, useBackend } from './backends.ts'
import { hpkeOracle } from './hpke-oracle.ts'
import { readVectors } from './vectors.ts'

interface Vectors {
  readonly info: string
  readonly ikmE: string
  readonly pkEm: string
  readonly skEm: string
  readonly ikmR: string
  readonly pkRm: string
  readonly skRm: string
  readonly enc: string
  readonly shared_secret: string
  readonly key: string
  readonly base_nonce: string
  readonly exporter_secret: string
  readonly encryptions: readonly { readonly sequence: number; readonly aad: string; readonly pt: string; readonly ct: string }[]
  readonly exports: readonly { readonly exporter_context: string; readonly L: number; readonly exported_value: string }[]
}

const vectors = readVectors<Vectors>('hpke-rfc9180-a2.json')
const kem = KEMS[0x0020]
const info = fromHex(vectors.info)
const enc = fromHex(vectors.enc)
const recipient: KemKeyPair = { secretKey: fromHex(vectors.skRm), publicKey: asKemPublicKey(fromHex(vectors.pkRm)) }
const ephemeral: KemKeyPair = { secretKey: fromHex(vectors.skEm), publicKey: asKemPublicKey(fromHex(vectors.pkEm)) }
const privateKey = kemPrivateKey(kem, recipient)
const first = vectors.encryptions[0] ?? { sequence: 0, aad: '', pt: '', ct: '' }

function flipped(bytes: Uint8Array, index: number): Uint8Array {
  const copy = Uint8Array.from(bytes)
  copy[index] = (copy[index] ?? 0) ^ 1
  return copy
}

describe.each(BACKENDS)('HPKE on $name', (backend) => {
  beforeAll(() => useBackend(backend))

  test('key pairs derive from their input as in RFC 9180 A.2.1', async () => {
    expect(await kem.deriveKeyPair(fromHex(vectors.ikmE))).toEqual(ephemeral)
    expect(await kem.deriveKeyPair(fromHex(vectors.ikmR))).toEqual(recipient)
  })

  test('encapsulation and decapsulation give the shared secret of RFC 9180 A.2.1', async () => {
    const encapsulation = await kem.encapsulate(recipient.publicKey, ephemeral)
    expect(toHex(encapsulation.enc)).toBe(vectors.enc)
    expect(toHex(encapsulation.sharedSecret)).toBe(vectors.shared_secret)
    expect(toHex(await privateKey.decapsulate(enc))).toBe(vectors.shared_secret)
  })

  test('the key schedule is that of RFC 9180 A.2.1', async () => {
    const { context } = await setupBaseSender({ kem, recipientPublicKey: recipient.publicKey, ephemeral, info })
    expect(toHex(context.key)).toBe(vectors.key)
    expect(toHex(context.baseNonce)).toBe(vectors.base_nonce)
    expect(toHex(context.exporterSecret())).toBe(vectors.exporter_secret)
  })

  test.each(vectors.encryptions)('message $sequence of RFC 9180 A.2.1.1 seals and opens', async ({ sequence, aad, pt, ct }) => {
    const sender = await setupBaseSender({ kem, recipientPublicKey: recipient.publicKey, ephemeral, info })
    expect(toHex(contextSeal(sender.context, sequence, fromHex(aad), fromHex(pt)))).toBe(ct)
    const receiver = await setupBaseRecipient({ kem, privateKey, enc, info })
    expect(toHex(contextOpen(receiver, sequence, fromHex(aad), fromHex(ct)))).toBe(pt)
    expect(() => contextOpen(receiver, sequence + 1, fromHex(aad), fromHex(ct))).toThrow(
      expect.objectContaining({ code: 'decryption_failed' }),
    )
  })

  test.each(vectors.exports)(
    'the export for context "$exporter_context" is that of RFC 9180 A.2.1.2',
    async ({ exporter_context, L, exported_value }) => {
      const exporterContext = fromHex(exporter_context)
      const sent = await sendExportBase({ kem, recipientPublicKey: recipient.publicKey, ephemeral, info, exporterContext, length: L })
      expect(toHex(sent.secret)).toBe(exported_value)
      expect(toHex(await receiveExportBase({ kem, privateKey, enc, info, exporterContext, length: L }))).toBe(exported_value)
      const receiver = await setupBaseRecipient({ kem, privateKey, enc, info: flipped(info, 0) })
      expect(toHex(contextExport(receiver, { exporterContext, length: L }))).not.toBe(exported_value)
    },
  )

  test('every way an opening can fail is the same error', async () => {
    const aad = fromHex(first.aad)
    const ciphertext = fromHex(first.ct)
    const good = { kem, privateKey, enc, info, aad, ciphertext }
    const otherKey = await kemPrivateKeyFromSeed(kem, new Uint8Array(32).fill(7))
    const bad = {
      'ciphertext bit flip': { ...good, ciphertext: flipped(ciphertext, 0) },
      'tag bit flip': { ...good, ciphertext: flipped(ciphertext, ciphertext.length - 1) },
      'trailing byte': { ...good, ciphertext: Uint8Array.from([...ciphertext, 0]) },
      truncated: { ...good, ciphertext: ciphertext.subarray(0, -1) },
      'shorter than a tag': { ...good, ciphertext: ciphertext.subarray(0, 15) },
      empty: { ...good, ciphertext: new Uint8Array(0) },
      'wrong AAD': { ...good, aad: flipped(aad, 0) },
      'wrong info': { ...good, info: flipped(info, 0) },
      'wrong key': { ...good, privateKey: otherKey },
      'enc bit flip': { ...good, enc: flipped(enc, 3) },
      'enc of small order': { ...good, enc: new Uint8Array(32) },
      'enc too short': { ...good, enc: enc.subarray(1) },
      'enc too long': { ...good, enc: Uint8Array.from([...enc, 0]) },
    }
    const errors = new Map<string, unknown>()
    for (const [name, parameters] of Object.entries(bad)) {
      const error: unknown = await openBase(parameters).then(
        () => 'opened',
        (reason: unknown) => reason,
      )
      errors.set(
        name,
        error instanceof Error ? { ...error, message: error.message, cause: error.cause, type: error.constructor.name } : error,
      )
    }
    const [expected] = errors.values()
    expect(expected).toMatchObject({ code: 'decryption_failed', cause: undefined, type: 'ClavigerError' })
    for (const [name, error] of errors) expect(error, name).toEqual(expected)
    expect(toHex(await openBase(good))).toBe(first.pt)
  })

  test('a fresh ephemeral key is made when none is given', async () => {
    const parameters = { kem, recipientPublicKey: recipient.publicKey, info, aad: new Uint8Array(0), plaintext: new Uint8Array(32) }
    const [left, right] = [await sealBase(parameters), await sealBase(parameters)]
    expect(left.enc).not.toEqual(right.enc)
    expect(left.ciphertext).not.toEqual(right.ciphertext)
  })

  test('what one implementation seals the other opens, both ways', async () => {
    const property = fc.asyncProperty(
      fc.uint8Array({ minLength: 32, maxLength: 64 }),
      fc.uint8Array({ maxLength: 80 }),
      fc.uint8Array({ maxLength: 80 }),
      fc.uint8Array({ maxLength: 200 }),
      async (seed, anyInfo, aad, plaintext) => {
        const ours = await kem.deriveKeyPair(seed)
        const theirs = await hpkeOracle.DeriveKeyPair(seed, true)
        expect(await hpkeOracle.SerializePublicKey(theirs.publicKey)).toEqual(Uint8Array.from(ours.publicKey))
        const sealed = await sealBase({ kem, recipientPublicKey: ours.publicKey, info: anyInfo, aad, plaintext })
        expect(await hpkeOracle.Open(theirs, sealed.enc, sealed.ciphertext, { info: anyInfo, aad })).toEqual(plaintext)
        const { encapsulatedSecret, ciphertext } = await hpkeOracle.Seal(theirs.publicKey, plaintext, { info: anyInfo, aad })
        expect(
          await openBase({ kem, privateKey: kemPrivateKey(kem, ours), enc: encapsulatedSecret, info: anyInfo, aad, ciphertext }),
        ).toEqual(plaintext)
      },
    )
    await fc.assert(property, { numRuns: 20 })
  })

  test('exported secrets agree with the other implementation', async () => {
    const seed = new Uint8Array(32).fill(9)
    const ours = await kem.deriveKeyPair(seed)
    const theirs = await hpkeOracle.DeriveKeyPair(seed, true)
    const exporterContext = Uint8Array.of(1, 2, 3)
    const sent = await sendExportBase({ kem, recipientPublicKey: ours.publicKey, info, exporterContext, length: 77 })
    expect(await hpkeOracle.ReceiveExport(theirs, sent.enc, exporterContext, 77, { info })).toEqual(sent.secret)
  })
})

test('backends seal the same bytes with the same ephemeral key', async () => {
  const seal = async (seed: Uint8Array, plaintext: Uint8Array): Promise<string> => {
    const [to, from] = [await kem.deriveKeyPair(seed), await kem.deriveKeyPair(Uint8Array.from(seed).reverse())]
    const sealed = await sealBase({ kem, recipientPublicKey: to.publicKey, ephemeral: from, info: seed, aad: plaintext, plaintext })
    return toHex(sealed.enc) + toHex(sealed.ciphertext)
  }
  const property = fc.asyncProperty(
    fc.uint8Array({ minLength: 32, maxLength: 32 }),
    fc.uint8Array({ maxLength: 64 }),
    async (seed, plaintext) => {
      const results = new Set<string>()
      for (const backend of BACKENDS) {
        useBackend(backend)
        results.add(await seal(seed, plaintext))
      }
      expect(results.size).toBe(1)
    },
  )
  await fc.assert(property, { numRuns: 20 })
})
