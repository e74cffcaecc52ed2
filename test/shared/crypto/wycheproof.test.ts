/**
 * Wycheproof vectors (C2SP), read from beside the repository; a clone without them skips these tests and says so.
 */
import { beforeAll, describe, expect, test } from 'vitest'
import type { MaybePromise } from '../../../shared/crypto/maybe-promise.ts'
import { concat, fromHex, toHex } from '../../../shared/bytes.ts'
import { openAesGcm, openChaCha, openXChaCha, sealAesGcm, sealChaCha, sealXChaCha } from '../../../shared/crypto/aead.ts'
import { hkdfExpand, hkdfExtract } from '../../../shared/crypto/kdf.ts'
import { verifySignature } from '../../../shared/crypto/signature.ts'
import { secretCrypto } from '../../../shared/crypto/secret-crypto.ts'
import { isSoundX25519Key } from '../../../shared/crypto/x25519-key.ts'
import { BACKENDS, useBackend } from './backends.ts'
import { readOutsideVectors } from './vectors.ts'

interface Case {
  readonly tcId: number
  readonly result: 'valid' | 'invalid' | 'acceptable'
  readonly flags: readonly string[]
}
interface File<Group> {
  readonly testGroups: readonly Group[]
}
type Signed = Case & { readonly msg: string; readonly sig: string }
type SignatureGroup = { readonly publicKey: { readonly pk: string }; readonly tests: readonly Signed[] }
type Exchange = Case & { readonly public: string; readonly private: string; readonly shared: string }
type Sealed = Case & {
  readonly key: string
  readonly iv: string
  readonly aad: string
  readonly msg: string
  readonly ct: string
  readonly tag: string
}
type SealedGroup = { readonly keySize: number; readonly ivSize: number; readonly tests: readonly Sealed[] }
type Derived = Case & { readonly ikm: string; readonly salt: string; readonly info: string; readonly size: number; readonly okm: string }
type Cipher = (key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, data: Uint8Array) => MaybePromise<Uint8Array>

const signatures = readOutsideVectors<File<SignatureGroup>>('wycheproof/ed25519_test.json')
const exchanges = readOutsideVectors<File<{ readonly tests: readonly Exchange[] }>>('wycheproof/x25519_test.json')
const derivations = readOutsideVectors<File<{ readonly tests: readonly Derived[] }>>('wycheproof/hkdf_sha256_test.json')
const AEADS = [
  { name: 'chacha20_poly1305', nonceBits: 96, seal: sealChaCha, open: openChaCha },
  { name: 'xchacha20_poly1305', nonceBits: 192, seal: sealXChaCha, open: openXChaCha },
  { name: 'aes_gcm', nonceBits: 96, seal: sealAesGcm, open: openAesGcm },
] as const satisfies readonly { name: string; nonceBits: number; seal: Cipher; open: Cipher }[]

if (signatures === null)
  process.stderr.write('Wycheproof vectors are not beside this clone (../shared/vectors): their tests are skipped.\n')

describe.skipIf(signatures === null).each(BACKENDS)('Wycheproof on $name', (backend) => {
  beforeAll(() => useBackend(backend))

  test('Ed25519 verdicts', async () => {
    for (const { publicKey, tests } of signatures?.testGroups ?? []) {
      for (const { tcId, msg, sig, result } of tests) {
        expect(await verifySignature(fromHex(publicKey.pk), fromHex(msg), fromHex(sig)), `case ${tcId}`).toBe(result === 'valid')
      }
    }
  })

  test('X25519 shared secrets, and an error where they are zero', async () => {
    for (const { tcId, public: publicKey, private: secretKey, shared, flags } of exchanges?.testGroups.flatMap(({ tests }) => tests) ??
      []) {
      const exchange = async (): Promise<string> => toHex(await secretCrypto().x25519(fromHex(secretKey), fromHex(publicKey)))
      if (flags.includes('ZeroSharedSecret')) await expect(exchange(), `case ${tcId}`).rejects.toMatchObject({ code: 'invalid_key' })
      else expect(await exchange(), `case ${tcId}`).toBe(shared)
    }
  })

  test('X25519 keys of small order or not canonical are not sound', () => {
    for (const { tcId, public: publicKey, flags } of exchanges?.testGroups.flatMap(({ tests }) => tests) ?? []) {
      const unsound = ['NonCanonicalPublic', 'LowOrderPublic', 'ZeroSharedSecret'].some((flag) => flags.includes(flag))
      if (unsound) expect(isSoundX25519Key(fromHex(publicKey)), `case ${tcId}`).toBe(false)
    }
  })

  test('HKDF-SHA-256 outputs', () => {
    for (const { tcId, ikm, salt, info, size, okm, result } of derivations?.testGroups.flatMap(({ tests }) => tests) ?? []) {
      const expand = (): string => toHex(hkdfExpand(hkdfExtract(fromHex(salt), fromHex(ikm)), fromHex(info), size))
      if (result === 'valid') expect(expand(), `case ${tcId}`).toBe(okm)
      else expect(expand, `case ${tcId}`).toThrow(RangeError)
    }
  })

  test.each(AEADS)('$name', async ({ name, nonceBits, seal, open }) => {
    const groups = readOutsideVectors<File<SealedGroup>>(`wycheproof/${name}_test.json`)?.testGroups ?? []
    let judged = 0
    for (const { tests } of groups.filter(({ keySize, ivSize }) => keySize === 256 && ivSize === nonceBits)) {
      for (const vector of tests) {
        judged += 1
        await expectVector(vector, seal, open)
      }
    }
    expect(judged).toBeGreaterThan(50)
  })

  test.each(AEADS)('$name with a nonce of any other length does not open', async ({ name, nonceBits, open }) => {
    const groups = readOutsideVectors<File<SealedGroup>>(`wycheproof/${name}_test.json`)?.testGroups ?? []
    for (const { tests } of groups.filter(({ keySize, ivSize }) => keySize === 256 && ivSize !== nonceBits)) {
      for (const { tcId, key, iv, aad, ct, tag } of tests) {
        const attempt = async (): Promise<Uint8Array> => open(fromHex(key), fromHex(iv), fromHex(aad), concat(fromHex(ct), fromHex(tag)))
        await expect(attempt(), `case ${tcId}`).rejects.toMatchObject({ code: 'decryption_failed' })
      }
    }
  })
})

async function expectVector(vector: Sealed, seal: Cipher, open: Cipher): Promise<void> {
  const [key, nonce, aad] = [fromHex(vector.key), fromHex(vector.iv), fromHex(vector.aad)]
  const sealed = concat(fromHex(vector.ct), fromHex(vector.tag))
  const attempt = async (): Promise<string> => toHex(await open(key, nonce, aad, sealed))
  if (vector.result !== 'valid') {
    await expect(attempt(), `case ${vector.tcId}`).rejects.toMatchObject({ code: 'decryption_failed' })
    return
  }
  expect(await attempt(), `case ${vector.tcId}`).toBe(vector.msg)
  expect(toHex(await seal(key, nonce, aad, fromHex(vector.msg))), `case ${vector.tcId}`).toBe(toHex(sealed))
}
