import { ed25519 } from '@noble/curves/ed25519.js'
import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import type { Forgery } from './signature-forgery.ts'
import { concat, fromHex, toHex } from '../../../shared/bytes.ts'
import { noblePublicCrypto } from '../../../shared/crypto/noble-public-crypto.ts'
import { signMessage, signerFromSeed } from '../../../shared/crypto/sign.ts'
import { assertSigningKey, verifySignature } from '../../../shared/crypto/signature.ts'
import { BACKENDS, useBackend } from './backends.ts'
import { ORDER, ORDER_EIGHT, TORSION, forge, nonCanonicalEncodings, referenceVerdict, withLargerS } from './signature-forgery.ts'
import { readVectors } from './vectors.ts'

interface SignatureVectors {
  readonly tests: readonly {
    readonly name: string
    readonly secretKey: string
    readonly publicKey: string
    readonly message: string
    readonly signature: string
  }[]
}
interface EdgeVectors {
  readonly tests: readonly {
    readonly name: string
    readonly publicKey: string
    readonly message: string
    readonly signature: string
    readonly accepted: boolean
    readonly keyAccepted: boolean
  }[]
}

const rfc8032 = readVectors<SignatureVectors>('ed25519-rfc8032.json').tests
const speccheck = readVectors<EdgeVectors>('ed25519-speccheck.json').tests
const refusal: unknown = expect.objectContaining({ code: 'invalid_key' })

/** The verdict of every backend, by name. */
async function verdicts({ publicKey, message, signature }: Forgery): Promise<Record<string, boolean>> {
  const verdictByBackend: Record<string, boolean> = {}
  for (const backend of BACKENDS) {
    useBackend(backend)
    verdictByBackend[backend.name] = await verifySignature(publicKey, message, signature)
  }
  return verdictByBackend
}

async function expectVerdict(forgery: Forgery, expected: boolean, name?: string): Promise<void> {
  expect(referenceVerdict(forgery), name).toBe(expected)
  for (const [backend, verdict] of Object.entries(await verdicts(forgery))) {
    expect(verdict, `${name ?? 'forgery'} on ${backend}`).toBe(expected)
  }
}

/** An honest key and nonce for the edge cases. */
const honest = { a: 0x1234_5678_9abc_def0n * 0x1_0000_0001n, r: 0xfedc_ba98_7654_3210n, message: Uint8Array.of(1, 2, 3) }

describe.each(BACKENDS)('Ed25519 on $name', (backend) => {
  beforeAll(() => useBackend(backend))

  test.each(rfc8032)('RFC 8032 $name signs and verifies', async ({ secretKey, publicKey, message, signature }) => {
    const signer = await signerFromSeed(fromHex(secretKey))
    expect(toHex(signer.publicKey)).toBe(publicKey)
    expect(toHex(await signer.sign(fromHex(message)))).toBe(signature)
    expect(await verifySignature(fromHex(publicKey), fromHex(message), fromHex(signature))).toBe(true)
    expect(() => assertSigningKey(fromHex(publicKey))).not.toThrow()
  })

  test.each(rfc8032)('RFC 8032 $name with any one bit flipped does not verify', async ({ publicKey, message, signature }) => {
    const inputs = [fromHex(publicKey), fromHex(message), fromHex(signature)] as const
    for (let part = 0; part < inputs.length; part += 1) {
      const length = inputs[part]?.length ?? 0
      for (let index = 0; index < length; index += 5) {
        const changed = inputs.map((bytes) => Uint8Array.from(bytes))
        const target = changed[part]
        if (target !== undefined) target[index] = (target[index] ?? 0) ^ (1 << (index % 8))
        const [key, text, mark] = changed
        expect(await verifySignature(key ?? new Uint8Array(0), text ?? new Uint8Array(0), mark ?? new Uint8Array(0))).toBe(false)
      }
    }
  })

  test('wrong lengths are a false verdict, never an exception', async () => {
    const seed = new Uint8Array(32).fill(3)
    const message = Uint8Array.of(1)
    const { publicKey } = await signerFromSeed(seed)
    const signature = await signMessage(seed, message)
    expect(await verifySignature(publicKey, message, signature)).toBe(true)
    expect(await verifySignature(publicKey, message, concat(signature, Uint8Array.of(0)))).toBe(false)
    expect(await verifySignature(publicKey, message, signature.subarray(1))).toBe(false)
    expect(await verifySignature(publicKey, message, new Uint8Array(0))).toBe(false)
    expect(await verifySignature(publicKey.subarray(1), message, signature)).toBe(false)
    expect(await verifySignature(concat(publicKey, Uint8Array.of(0)), message, signature)).toBe(false)
  })

  test('a seed of the wrong length is a TypeError', async () => {
    await expect(signMessage(new Uint8Array(31), new Uint8Array(0))).rejects.toThrow(TypeError)
    await expect(signerFromSeed(new Uint8Array(64))).rejects.toThrow(TypeError)
  })

  test('a signer keeps its own copy of the seed', async () => {
    const seed = new Uint8Array(32).fill(5)
    const signer = await signerFromSeed(seed)
    const before = await signer.sign(Uint8Array.of(1))
    seed.fill(0)
    expect(await signer.sign(Uint8Array.of(1))).toEqual(before)
  })

  test('a seed array that was reused signs with its new content', async () => {
    const seed = new Uint8Array(32).fill(5)
    const before = await signMessage(seed, Uint8Array.of(1))
    seed.fill(6)
    const after = await signMessage(seed, Uint8Array.of(1))
    expect(after).not.toEqual(before)
    expect(after).toEqual(await signMessage(new Uint8Array(32).fill(6), Uint8Array.of(1)))
  })
})

describe('every backend gives the same verdict', () => {
  test('an honest signature is accepted', async () => {
    await expectVerdict(forge(honest), true)
  })

  test('R with a torsion component is refused', async () => {
    for (const torsionOfR of TORSION) {
      if (!torsionOfR.is0()) await expectVerdict(forge({ ...honest, torsionOfR }), false)
    }
  })

  test('A of mixed order is judged by the cofactorless equation, and refused at enrolment', async () => {
    let accepted = 0
    for (let index = 0; index < 32; index += 1) {
      const forgery = forge({ ...honest, message: Uint8Array.of(index), torsionOfA: ORDER_EIGHT })
      const expected = referenceVerdict(forgery)
      await expectVerdict(forgery, expected)
      accepted += expected ? 1 : 0
      expect(() => assertSigningKey(forgery.publicKey)).toThrow(refusal)
    }
    expect(accepted, 'about one message in eight').toBeGreaterThan(0)
    expect(accepted).toBeLessThan(32)
  })

  test('A and R of mixed order are judged by the cofactorless equation', async () => {
    for (let index = 0; index < 16; index += 1) {
      const forgery = forge({ ...honest, message: Uint8Array.of(index), torsionOfA: ORDER_EIGHT, torsionOfR: ORDER_EIGHT })
      await expectVerdict(forgery, referenceVerdict(forgery))
    }
  })

  test('A the identity, or any point of small order, is refused although the equation can hold', async () => {
    for (const torsionOfA of TORSION) {
      for (let index = 0; index < 9; index += 1) {
        await expectVerdict(forge({ ...honest, a: 0n, message: Uint8Array.of(index), torsionOfA }), false)
      }
      expect(() => assertSigningKey(torsionOfA.toBytes())).toThrow(refusal)
    }
  })

  test('R of small order is refused although the equation can hold', async () => {
    for (const torsionOfR of TORSION) await expectVerdict(forge({ ...honest, r: 0n, torsionOfR }), false)
  })

  test('A not canonical is refused, in signatures and at enrolment', async () => {
    const encodings = TORSION.flatMap(nonCanonicalEncodings)
    expect(encodings).toHaveLength(6)
    const { message, signature } = forge({ ...honest, a: 0n })
    for (const publicKey of [...encodings, ...lenientlyDecodable()]) {
      await expectVerdict({ publicKey, message, signature }, false, toHex(publicKey))
      expect(() => assertSigningKey(publicKey)).toThrow(refusal)
    }
  })

  test('R not canonical is refused', async () => {
    for (const r of [...TORSION.flatMap(nonCanonicalEncodings), ...lenientlyDecodable()]) {
      const { publicKey, message, signature } = forge({ ...honest, r: 0n })
      await expectVerdict({ publicKey, message, signature: concat(r, signature.subarray(32)) }, false, toHex(r))
    }
  })

  test('S + n·L is refused', async () => {
    for (let times = 1n; times <= 15n; times += 1n) await expectVerdict(withLargerS(forge(honest), times), false)
  })

  test('S = 0 with R the identity is refused, and so is S = L', async () => {
    const { publicKey, message, signature } = forge({ ...honest, r: 0n })
    const zero = concat(signature.subarray(0, 32), new Uint8Array(32))
    await expectVerdict({ publicKey, message, signature: zero }, false)
    await expectVerdict(withLargerS({ publicKey, message, signature: zero }, 1n), false)
  })

  test('a public key that is no point of the curve is refused', async () => {
    const { message, signature } = forge(honest)
    let refused = 0
    for (let index = 0; index < 64 && refused < 8; index += 1) {
      const publicKey = new Uint8Array(32).fill(index, 0, 31)
      if (isPoint(publicKey)) continue
      refused += 1
      await expectVerdict({ publicKey, message, signature }, false)
      expect(() => assertSigningKey(publicKey)).toThrow(refusal)
    }
    expect(refused).toBe(8)
  })

  test.each(speccheck)('"Taming the many EdDSAs": $name', async ({ publicKey, message, signature, accepted, keyAccepted }) => {
    await expectVerdict({ publicKey: fromHex(publicKey), message: fromHex(message), signature: fromHex(signature) }, accepted)
    const check = (): void => assertSigningKey(fromHex(publicKey))
    if (keyAccepted) expect(check).not.toThrow()
    else expect(check).toThrow(refusal)
  })

  test('on any mixture of torsion, scalars and changed bytes', async () => {
    const scalar = fc.oneof(fc.constant(0n), fc.constant(1n), fc.bigInt({ min: 0n, max: ORDER - 1n }))
    const torsion = fc.constantFrom(...TORSION)
    const ingredients = fc.record({
      a: scalar,
      r: scalar,
      message: fc.uint8Array({ maxLength: 8 }),
      torsionOfA: torsion,
      torsionOfR: torsion,
    })
    const change = fc.option(fc.record({ index: fc.nat({ max: 63 }), bit: fc.nat({ max: 7 }) }), { nil: null })
    const property = fc.asyncProperty(ingredients, change, async (parts, changed) => {
      const forgery = forge(parts)
      const signature = Uint8Array.from(forgery.signature)
      if (changed !== null) signature[changed.index] = (signature[changed.index] ?? 0) ^ (1 << changed.bit)
      const judged = { ...forgery, signature }
      await expectVerdict(judged, referenceVerdict(judged))
    })
    await fc.assert(property, { numRuns: 150 })
  })

  test('on which points are of prime order', () => {
    const point = fc.record({ a: fc.bigInt({ min: 1n, max: ORDER - 1n }), torsionOfA: fc.constantFrom(...TORSION) })
    const forged = point.map(({ a, torsionOfA }) => ({
      encoding: forge({ ...honest, a, torsionOfA }).publicKey,
      expected: torsionOfA.is0(),
    }))
    const random = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((encoding) => {
      encoding[31] = (encoding[31] ?? 0) & 0xbf
      return { encoding, expected: noblePublicCrypto.isPrimeOrderPoint(encoding) }
    })
    const property = fc.property(fc.oneof(forged, random), ({ encoding, expected }) => {
      for (const { name, publicCrypto } of BACKENDS) expect(publicCrypto.isPrimeOrderPoint(encoding), name).toBe(expected)
    })
    fc.assert(property, { numRuns: 300 })
  })

  test('every backend signs the same bytes', async () => {
    const property = fc.asyncProperty(
      fc.uint8Array({ minLength: 32, maxLength: 32 }),
      fc.uint8Array({ maxLength: 300 }),
      async (seed, message) => {
        const signatures = new Set<string>()
        for (const backend of BACKENDS) {
          useBackend(backend)
          signatures.add(toHex(await signMessage(seed, message)))
        }
        expect(signatures.size).toBe(1)
      },
    )
    await fc.assert(property, { numRuns: 30 })
  })
})

test('a refused signing key stays refused and an accepted one accepted when asked again', () => {
  const { publicKey } = forge(honest)
  for (let round = 0; round < 2; round += 1) {
    expect(() => assertSigningKey(publicKey)).not.toThrow()
    expect(() => assertSigningKey(forge({ ...honest, torsionOfA: ORDER_EIGHT }).publicKey)).toThrow(refusal)
    expect(() => assertSigningKey(publicKey.subarray(1))).toThrow(refusal)
  }
})

/** Encodings with y ≥ p of points that are not of small order: a lenient decoder takes them. */
function lenientlyDecodable(): Uint8Array[] {
  const encodings: Uint8Array[] = []
  for (let low = 0xed; low <= 0xff; low += 1) {
    for (const high of [0x7f, 0xff]) {
      const encoding = new Uint8Array(32).fill(0xff)
      encoding[0] = low
      encoding[31] = high
      if (isPoint(encoding)) encodings.push(encoding)
    }
  }
  return encodings
}

function isPoint(encoding: Uint8Array): boolean {
  try {
    ed25519.Point.fromBytes(encoding, true)
    return true
  } catch {
    return false
  }
}
