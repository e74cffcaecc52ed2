import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { concat, fromHex, toHex } from '../../../shared/bytes.ts'
import { KEMS, kemPrivateKeyFromSeed } from '../../../shared/crypto/kem.ts'
import { asDek, asEpochSecret, asKemKeyId, asKemPublicKey, asSignature, asSigningPublicKey, kemKeyId } from '../../../shared/crypto/keys.ts'
import { hashLabelled } from '../../../shared/crypto/public-crypto.ts'
import { secretCrypto } from '../../../shared/crypto/secret-crypto.ts'
import { SUITES, isSuiteId } from '../../../shared/crypto/suites.ts'
import { BACKENDS, useBackend } from './backends.ts'
import { readVectors } from './vectors.ts'

interface Vectors {
  readonly tests: readonly {
    readonly name: string
    readonly secretKey: string
    readonly publicKey: string
    readonly sharedSecret: string
  }[]
}
const vectors = readVectors<Vectors>('x25519-rfc7748.json').tests
const kem = KEMS[0x0020]
const refusal: unknown = expect.objectContaining({ code: 'invalid_key' })
const failure: unknown = expect.objectContaining({ code: 'decryption_failed' })

/** Every u that gives zero, with and without the bits that X25519 ignores (cr.yp.to/ecdh.html#validate). */
const SMALL_ORDER: readonly string[] = [
  '0000000000000000000000000000000000000000000000000000000000000000',
  '0100000000000000000000000000000000000000000000000000000000000000',
  'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800',
  '5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157',
  'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
].flatMap((hex) => [hex, withTopBit(hex)])

function withTopBit(hex: string): string {
  const bytes = fromHex(hex)
  bytes[31] = (bytes[31] ?? 0) | 0x80
  return toHex(bytes)
}

describe.each(BACKENDS)('X25519 on $name', (backend) => {
  beforeAll(() => useBackend(backend))

  test.each(vectors)('RFC 7748 §$name gives the shared secret', async ({ secretKey, publicKey, sharedSecret }) => {
    expect(toHex(await secretCrypto().x25519(fromHex(secretKey), fromHex(publicKey)))).toBe(sharedSecret)
  })

  test.each(SMALL_ORDER)('%s is refused at enrolment, as a recipient and as an encapsulated key', async (hex) => {
    const publicKey = asKemPublicKey(fromHex(hex))
    expect(() => kem.assertPublicKey(publicKey)).toThrow(refusal)
    await expect(kem.encapsulate(publicKey)).rejects.toThrow(refusal)
    const own = await kem.deriveKeyPair(new Uint8Array(32).fill(1))
    await expect(kem.decapsulate(own, publicKey)).rejects.toThrow(failure)
  })

  test('a public key that is not canonical is refused at enrolment', async () => {
    const { publicKey } = await kem.deriveKeyPair(new Uint8Array(32).fill(1))
    expect(() => kem.assertPublicKey(publicKey)).not.toThrow()
    expect(() => kem.assertPublicKey(fromHex(withTopBit(toHex(publicKey))))).toThrow(refusal)
    for (let low = 0xed; low <= 0xff; low += 1) {
      const beyond = new Uint8Array(32).fill(0xff)
      beyond[0] = low
      beyond[31] = 0x7f
      expect(() => kem.assertPublicKey(beyond)).toThrow(refusal)
    }
  })

  test('a public key of another length is refused', async () => {
    const { publicKey } = await kem.deriveKeyPair(new Uint8Array(32).fill(1))
    expect(() => kem.assertPublicKey(publicKey.subarray(1))).toThrow(refusal)
    expect(() => kem.assertPublicKey(concat(publicKey, Uint8Array.of(0)))).toThrow(refusal)
    await expect(kem.encapsulate(asKemPublicKey(new Uint8Array(1216)))).rejects.toThrow(refusal)
  })

  test('generated key pairs differ and agree with themselves', async () => {
    const [left, right] = [await kem.generateKeyPair(), await kem.generateKeyPair()]
    expect(left.publicKey).not.toEqual(right.publicKey)
    expect(() => kem.assertPublicKey(left.publicKey)).not.toThrow()
    const { enc, sharedSecret } = await kem.encapsulate(left.publicKey)
    expect(await kem.decapsulate(left, enc)).toEqual(sharedSecret)
    expect(await kem.decapsulate(right, enc)).not.toEqual(sharedSecret)
  })

  test('an encapsulation depends on the recipient even when the ephemeral key is shared', async () => {
    const ephemeral = await kem.deriveKeyPair(new Uint8Array(32).fill(2))
    const alice = await kem.deriveKeyPair(new Uint8Array(32).fill(3))
    const bob = await kem.deriveKeyPair(new Uint8Array(32).fill(4))
    const [toAlice, toBob] = [await kem.encapsulate(alice.publicKey, ephemeral), await kem.encapsulate(bob.publicKey, ephemeral)]
    expect(toAlice.enc).toEqual(toBob.enc)
    expect(toAlice.sharedSecret).not.toEqual(toBob.sharedSecret)
    expect(await kem.encapsulate(alice.publicKey, ephemeral)).toEqual(toAlice)
  })

  test('a private key from a seed decapsulates, and the same seed gives the same key', async () => {
    const seed = new Uint8Array(32).fill(8)
    const privateKey = await kemPrivateKeyFromSeed(kem, seed)
    const { enc, sharedSecret } = await kem.encapsulate(privateKey.publicKey)
    expect(await privateKey.decapsulate(enc)).toEqual(sharedSecret)
    expect((await kemPrivateKeyFromSeed(kem, seed)).publicKey).toEqual(privateKey.publicKey)
    await expect(kemPrivateKeyFromSeed(kem, seed.subarray(1))).rejects.toThrow(TypeError)
  })
})

test('every backend agrees on any two keys, canonical or not', async () => {
  const key = fc.uint8Array({ minLength: 32, maxLength: 32 })
  const property = fc.asyncProperty(key, key, async (secretKey, publicKey) => {
    const results = new Set<string>()
    for (const backend of BACKENDS) {
      const { x25519, x25519PublicKey } = backend.secretCrypto
      results.add(toHex(await x25519PublicKey(secretKey)) + toHex(await x25519(secretKey, publicKey)))
    }
    expect(results.size).toBe(1)
  })
  await fc.assert(property, { numRuns: 50 })
})

describe('keys', () => {
  const constructors = { asSigningPublicKey, asEpochSecret, asDek, asKemKeyId, asKemPublicKey } as const

  test.each(Object.entries(constructors))('%s takes 32 bytes and nothing one byte off', (_, construct) => {
    expect(construct(new Uint8Array(32))).toHaveLength(32)
    expect(() => construct(new Uint8Array(31))).toThrow(TypeError)
    expect(() => construct(new Uint8Array(33))).toThrow(TypeError)
  })

  test('a signature has 64 bytes and an X-Wing public key 1216', () => {
    expect(asSignature(new Uint8Array(64))).toHaveLength(64)
    expect(() => asSignature(new Uint8Array(63))).toThrow(TypeError)
    expect(asKemPublicKey(new Uint8Array(1216))).toHaveLength(1216)
    expect(() => asKemPublicKey(new Uint8Array(1215))).toThrow(TypeError)
  })

  test('the error about a secret of the wrong length says the length and no byte', () => {
    expect(() => asEpochSecret(new Uint8Array(31).fill(0xab))).toThrow('epoch secret must be 32 bytes, got 31')
  })

  test('a KEM key is named by its labelled hash', () => {
    const publicKey = asKemPublicKey(new Uint8Array(32).fill(9))
    expect(kemKeyId(publicKey)).toEqual(hashLabelled('kem-key-id', publicKey))
  })

  test('suite 1 is known and its sizes are those of its KEM; suite 0 and 3 are not', () => {
    const { nEnc, nPk } = KEMS[SUITES[1].kem]
    expect(SUITES[1]).toMatchObject({ nEnc, nPk, wrapBytes: 48 })
    expect(isSuiteId(1)).toBe(true)
    for (const value of [0, 3, -1, '1', null, undefined, 'toString']) expect(isSuiteId(value)).toBe(false)
  })
})
