/**
 * Epoch secrets: wraps that open for one recipient, epoch and history, that every holder computes alike, and links.
 */
import { createHmac } from 'node:crypto'
import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { concat } from '../../../shared/bytes.ts'
import { context } from '../../../shared/codec.ts'
import { openBase, sealBase, setupBaseRecipient } from '../../../shared/crypto/hpke.ts'
import type { KemPrivateKey } from '../../../shared/crypto/kem.ts'
import { KEMS, kemPrivateKey } from '../../../shared/crypto/kem.ts'
import { asEpochSecret, asKemPublicKey, kemKeyId } from '../../../shared/crypto/keys.ts'
import { labelled } from '../../../shared/crypto/labels.ts'
import { ClavigerError } from '../../../shared/errors.ts'
import type { EpochContext, LinkContext } from '../../../shared/group/epoch.ts'
import {
  LINK_BYTES,
  assertEpochSecret,
  depositKeyPair,
  epochCommitment,
  epochPublic,
  generateEpochSecret,
  isGoodWrap,
  openLink,
  sealLink,
  unwrapEpochSecret,
  wrapAlone,
  wrapEpochSecret,
} from '../../../shared/group/epoch.ts'
import { linkHash } from '../../../shared/group/link-hash.ts'
import type { Recipient } from '../../../shared/group/roster.ts'
import { asCommitHash, asGroupId, idKey } from '../../../shared/ids.ts'
import { anyHash, withFlippedBit } from '../../support/forge.ts'
import type { Person } from '../../support/people.ts'
import { people, seedOf } from '../../support/people.ts'
import { twoKeyCiphertext } from '../../support/two-key-ciphertext.ts'
import { BACKENDS, useBackend } from '../crypto/backends.ts'
import { hpkeOracle } from '../crypto/hpke-oracle.ts'

const { alice, bob, carol, mallory } = await people('alice', 'bob', 'carol', 'mallory')
const kem = KEMS[0x0020]

const recipientOf = (principal: Person['id'], { publicKey }: Pick<KemPrivateKey, 'publicKey'>): Recipient => {
  const id = kemKeyId(publicKey)
  return { principal, kemKey: publicKey, kemKeyId: id, key: idKey(id) }
}
const everybody = [alice, bob, carol].map(({ id, kemPrivateKey: key }) => recipientOf(id, key))
const secret = asEpochSecret(seedOf('epoch secret', 'one'))
const otherSecret = asEpochSecret(seedOf('epoch secret', 'two'))
const at: EpochContext = {
  suite: 1,
  group: asGroupId(seedOf('hash', 'group')),
  epoch: 7,
  seq: 41,
  parent: asCommitHash(seedOf('hash', 'parent')),
  commitment: epochCommitment(secret, 7),
}
const smallOrder = recipientOf(mallory.id, { publicKey: asKemPublicKey(new Uint8Array(32)) })

/** Bob’s place in the list. */
const BOB = 1
const wrapOfBob = (wraps: readonly (Uint8Array | null)[]): Uint8Array => {
  const wrap = wraps[BOB]
  if (wrap === undefined || wrap === null) throw new Error('bob has a wrap')
  return wrap
}
const invalid = expect.objectContaining({ code: 'wrap_invalid' })

describe.each(BACKENDS)('wraps on $name', (backend) => {
  beforeAll(() => useBackend(backend))

  test('open for each recipient by their own key alone', async () => {
    const { enc, wraps } = await wrapEpochSecret(secret, at, everybody)
    for (const [index, wrap] of wraps.entries())
      for (const [other, who] of [alice, bob, carol].entries()) {
        const opening = unwrapEpochSecret(who.kemPrivateKey, at, { enc, wrap: wrap ?? new Uint8Array() })
        if (index === other) expect(await opening).toEqual(secret)
        else await expect(opening).rejects.toEqual(invalid)
      }
  })

  test('are 48 bytes beside one shared encapsulation of 32', async () => {
    const { enc, wraps } = await wrapEpochSecret(secret, at, everybody)
    expect([enc.length, ...wraps.map((wrap) => wrap?.length)]).toEqual([32, 48, 48, 48])
  })

  test.each([
    ['A18 another group', { group: asGroupId(seedOf('hash', 'another group')) }],
    ['A19 another epoch', { epoch: 8 }],
    ['A19 another commit number', { seq: 42 }],
    ['A19 another parent', { parent: asCommitHash(seedOf('hash', 'another parent')) }],
    ['A19 the genesis, which has no parent', { parent: null }],
    ['A19 another commitment', { commitment: epochCommitment(otherSecret, 7) }],
  ] as const)('do not open for %s', async (_, change) => {
    const { enc, wraps } = await wrapEpochSecret(secret, at, everybody)
    await expect(unwrapEpochSecret(bob.kemPrivateKey, { ...at, ...change }, { enc, wrap: wrapOfBob(wraps) })).rejects.toEqual(invalid)
  })

  test('A22 fail with one error for every flipped bit, cut and added byte', async () => {
    const { enc, wraps } = await wrapEpochSecret(secret, at, everybody)
    const wrap = wrapOfBob(wraps)
    const bad = [
      ...Array.from({ length: 48 }, (_, index) => ({ enc, wrap: withFlippedBit(wrap, 8 * index + (index % 8)) })),
      ...Array.from({ length: 32 }, (_, index) => ({ enc: withFlippedBit(enc, 8 * index), wrap })),
      ...[0, 1, 15, 16, 17, 47].map((length) => ({ enc, wrap: wrap.subarray(0, length) })),
      ...[0, 31].map((length) => ({ enc: enc.subarray(0, length), wrap })),
      { enc, wrap: concat(wrap, Uint8Array.of(0)) },
      { enc: concat(enc, Uint8Array.of(0)), wrap },
      { enc: new Uint8Array(32), wrap },
      { enc, wrap: new Uint8Array(80) },
    ]
    for (const stored of bad) await expect(unwrapEpochSecret(bob.kemPrivateKey, at, stored)).rejects.toEqual(invalid)
  })

  test('A22 the error says nothing but its code, whatever was wrong', async () => {
    const { enc, wraps } = await wrapEpochSecret(secret, at, everybody)
    const wrong = [
      { enc, wrap: withFlippedBit(wrapOfBob(wraps), 1) },
      { enc: new Uint8Array(32), wrap: wrapOfBob(wraps) },
      { enc, wrap: new Uint8Array(3) },
    ]
    const errors = await Promise.all(
      wrong.map((stored) => unwrapEpochSecret(bob.kemPrivateKey, at, stored).catch((error: unknown) => error)),
    )
    const other = await wrapEpochSecret(otherSecret, at, everybody)
    errors.push(
      await unwrapEpochSecret(bob.kemPrivateKey, at, { enc: other.enc, wrap: wrapOfBob(other.wraps) }).catch((error: unknown) => error),
    )
    const told = errors.map((error) =>
      error instanceof Error ? { message: error.message, cause: error.cause, fields: { ...error, stack: undefined } } : error,
    )
    expect(new Set(told.map((one) => JSON.stringify(one))).size).toBe(1)
  })

  test('A23 A40 of another secret do not pass the commitment, though they open', async () => {
    const { enc, wraps } = await wrapEpochSecret(otherSecret, at, everybody)
    await expect(unwrapEpochSecret(bob.kemPrivateKey, at, { enc, wrap: wrapOfBob(wraps) })).rejects.toEqual(invalid)
  })

  test('A40 one ciphertext that opens for two recipients, differently, passes the commitment for neither', async () => {
    const ephemeral = await kem.deriveKeyPair(seedOf('ephemeral', 'mallory'))
    const aad = context(at.group, at.epoch, at.seq, at.parent, at.commitment)
    const readers = await Promise.all(
      [alice, bob].map(async ({ kemPrivateKey: privateKey }) => {
        const info = concat(labelled('wrap'), kemKeyId(privateKey.publicKey))
        const { key, baseNonce } = await setupBaseRecipient({ kem, privateKey, enc: ephemeral.publicKey, info })
        return { privateKey, info, reader: { key, nonce: baseNonce, aad } }
      }),
    )
    const [one, two] = readers
    if (one === undefined || two === undefined) throw new Error('two readers')
    const ciphertext = twoKeyCiphertext(one.reader, two.reader)
    const opened = await Promise.all(
      readers.map(({ privateKey, info }) => openBase({ kem, privateKey, enc: ephemeral.publicKey, info, aad, ciphertext })),
    )
    expect(opened[0]).not.toEqual(opened[1])
    for (const { privateKey } of readers)
      await expect(unwrapEpochSecret(privateKey, at, { enc: ephemeral.publicKey, wrap: ciphertext })).rejects.toEqual(invalid)
    // Not even if the commitment is to what one of them reads: then the other one notices.
    const chosen = { ...at, commitment: epochCommitment(asEpochSecret(opened[0] ?? new Uint8Array(32)), at.epoch) }
    await expect(unwrapEpochSecret(two.privateKey, chosen, { enc: ephemeral.publicKey, wrap: ciphertext })).rejects.toEqual(invalid)
  })

  test('that hold something shorter or longer than a secret are invalid', async () => {
    const ephemeral = await kem.deriveKeyPair(seedOf('ephemeral', 'mallory'))
    for (const plaintext of [new Uint8Array(0), new Uint8Array(31), new Uint8Array(33)]) {
      const info = concat(labelled('wrap'), kemKeyId(bob.kemPrivateKey.publicKey))
      const aad = context(at.group, at.epoch, at.seq, at.parent, at.commitment)
      const { enc, ciphertext } = await sealBase({ kem, recipientPublicKey: bob.kemPrivateKey.publicKey, ephemeral, info, aad, plaintext })
      await expect(unwrapEpochSecret(bob.kemPrivateKey, at, { enc, wrap: ciphertext })).rejects.toEqual(invalid)
    }
  })

  test.each([
    ['an agent that is locked', new Error('the agent is locked')],
    ['an agent out of reach', new TypeError('fetch failed')],
    ['an agent that is slow', new ClavigerError('timeout')],
  ] as const)('are not called invalid because of %s', async (_, failure) => {
    const { enc, wraps } = await wrapEpochSecret(secret, at, everybody)
    const agent = { publicKey: bob.kemPrivateKey.publicKey, decapsulate: () => Promise.reject(failure) }
    await expect(unwrapEpochSecret(agent, at, { enc, wrap: wrapOfBob(wraps) })).rejects.toBe(failure)
  })

  test('are invalid if the key refuses the encapsulation, and are not shown to it in other lengths', async () => {
    const { enc, wraps } = await wrapEpochSecret(secret, at, everybody)
    const wrap = wrapOfBob(wraps)
    for (const code of ['decryption_failed', 'invalid_key'] as const) {
      const agent = { publicKey: bob.kemPrivateKey.publicKey, decapsulate: () => Promise.reject(new ClavigerError(code)) }
      await expect(unwrapEpochSecret(agent, at, { enc, wrap })).rejects.toEqual(invalid)
    }
    const asked: Uint8Array[] = []
    const agent = {
      publicKey: bob.kemPrivateKey.publicKey,
      decapsulate: (one: Uint8Array) => {
        asked.push(one)
        return bob.kemPrivateKey.decapsulate(one)
      },
    }
    for (const stored of [
      { enc: enc.subarray(1), wrap },
      { enc: concat(enc, enc), wrap },
      { enc, wrap: wrap.subarray(1) },
      { enc, wrap: concat(wrap, wrap) },
    ])
      await expect(unwrapEpochSecret(agent, at, stored)).rejects.toEqual(invalid)
    expect(asked).toEqual([])
    expect(await unwrapEpochSecret(agent, at, { enc, wrap })).toEqual(secret)
    expect(asked).toHaveLength(1)
  })

  test('A74 a KEM key that cannot be sealed to gets null, and nobody else is held up', async () => {
    const { enc, wraps } = await wrapEpochSecret(secret, at, [smallOrder, ...everybody])
    expect(wraps[0]).toBeNull()
    expect(await unwrapEpochSecret(alice.kemPrivateKey, at, { enc, wrap: wraps[1] ?? new Uint8Array() })).toEqual(secret)
    await expect(wrapAlone(secret, at, smallOrder)).rejects.toMatchObject({ code: 'invalid_key' })
  })

  test('open with another implementation of HPKE, told only what RFC 9180 wants to know', async () => {
    const { enc, wraps } = await wrapEpochSecret(secret, at, everybody)
    const keyPair = await hpkeOracle.DeriveKeyPair(seedOf('kem', 'bob'), true)
    const info = concat(labelled('wrap'), kemKeyId(bob.kemPrivateKey.publicKey))
    const aad = context(at.group, at.epoch, at.seq, at.parent, at.commitment)
    expect(new Uint8Array(await hpkeOracle.Open(keyPair, enc, wrapOfBob(wraps), { info, aad }))).toEqual(Uint8Array.from(secret))
    await expect(
      hpkeOracle.Open(keyPair, enc, wrapOfBob(wraps), { info, aad: context(at.group, at.epoch, at.seq, at.parent) }),
    ).rejects.toMatchObject({ name: 'OpenError' })
  })

  test('made by another implementation open here', async () => {
    const publicKey = await hpkeOracle.DeserializePublicKey(bob.kemPrivateKey.publicKey)
    const info = concat(labelled('wrap'), kemKeyId(bob.kemPrivateKey.publicKey))
    const aad = context(at.group, at.epoch, at.seq, at.parent, at.commitment)
    const { encapsulatedSecret, ciphertext } = await hpkeOracle.Seal(publicKey, secret, { info, aad })
    expect(await unwrapEpochSecret(bob.kemPrivateKey, at, { enc: encapsulatedSecret, wrap: ciphertext })).toEqual(secret)
  })
})

describe.each(BACKENDS)('derandomised wraps on $name', (backend) => {
  beforeAll(() => useBackend(backend))

  test('are the same for every holder, whenever and for whomever they are made', async () => {
    const [once, again] = [
      await wrapEpochSecret(secret, at, everybody),
      await wrapEpochSecret(asEpochSecret(Uint8Array.from(secret)), { ...at }, everybody.toReversed()),
    ]
    expect(again.enc).toEqual(once.enc)
    expect(again.wraps.toReversed()).toEqual(once.wraps)
  })

  test('are the same on every backend', async () => {
    const made = []
    for (const each of BACKENDS) {
      useBackend(each)
      made.push(await wrapEpochSecret(secret, at, everybody))
    }
    useBackend(backend)
    expect(made[1]).toEqual(made[0])
  })

  test('have another encapsulation for every group, epoch, commit and secret', async () => {
    const contexts = [
      at,
      { ...at, group: asGroupId(seedOf('hash', 'another group')) },
      { ...at, epoch: 8 },
      { ...at, seq: 42 },
      { ...at, parent: null },
    ]
    const encs = await Promise.all([...contexts.map((where) => wrapEpochSecret(secret, where, [])), wrapEpochSecret(otherSecret, at, [])])
    expect(new Set(encs.map(({ enc }) => idKey(enc))).size).toBe(encs.length)
  })

  test('start from a key pair that a second implementation of the derivation gives', async () => {
    const { enc } = await wrapEpochSecret(secret, at, [])
    const prefix = concat(labelled('wrap'), context(at.group, at.epoch, at.seq, at.parent, at.commitment))
    // HKDF-Expand of one block is HMAC(secret, info ‖ 1); node’s HKDF would extract first.
    const ikm = createHmac('sha256', secret).update(prefix).update(Uint8Array.of(1)).digest()
    const { publicKey } = await hpkeOracle.DeriveKeyPair(Uint8Array.from(ikm), true)
    expect(enc).toEqual(new Uint8Array(await hpkeOracle.SerializePublicKey(publicKey)))
  })

  test('that heal carry their own encapsulation: 80 bytes that open under any shared one', async () => {
    const [bobs] = everybody.slice(BOB)
    if (bobs === undefined) throw new Error('bob is a recipient')
    const healed = await wrapAlone(secret, at, bobs)
    const { enc, wraps } = await wrapEpochSecret(secret, at, everybody)
    expect(healed).toEqual(concat(enc, wrapOfBob(wraps)))
    for (const stored of [enc, new Uint8Array(32), new Uint8Array(0)])
      expect(await unwrapEpochSecret(bob.kemPrivateKey, at, { enc: stored, wrap: healed })).toEqual(secret)
  })
})

describe.each(BACKENDS)('checking somebody else’s wrap on $name', (backend) => {
  beforeAll(() => useBackend(backend))
  const recipient = everybody[BOB] ?? smallOrder

  test('A20 A41 A76 finds good ones good: shared or healed', async () => {
    const { enc, wraps } = await wrapEpochSecret(secret, at, everybody)
    expect(await isGoodWrap(secret, at, { recipient, stored: { enc, wrap: wrapOfBob(wraps) } })).toBe(true)
    expect(
      await isGoodWrap(secret, at, { recipient, stored: { enc: new Uint8Array(32), wrap: await wrapAlone(secret, at, recipient) } }),
    ).toBe(true)
  })

  test('A41 A76 finds every other one bad', async () => {
    const { enc, wraps } = await wrapEpochSecret(secret, at, everybody)
    const wrap = wrapOfBob(wraps)
    const other = await wrapEpochSecret(otherSecret, at, everybody)
    const bad = [
      { enc, wrap: wraps[0] ?? wrap },
      { enc, wrap: withFlippedBit(wrap, 7) },
      { enc: withFlippedBit(enc, 7), wrap },
      { enc, wrap: new Uint8Array(48) },
      { enc, wrap: new Uint8Array(0) },
      { enc, wrap: concat(wrap, Uint8Array.of(0)) },
      { enc: other.enc, wrap: wrapOfBob(other.wraps) },
    ]
    for (const stored of bad) expect(await isGoodWrap(secret, at, { recipient, stored })).toBe(false)
  })

  test('takes no bytes from one part for the other', async () => {
    const joined = await wrapAlone(secret, at, recipient)
    for (const cut of [0, 31, 33, 79]) {
      const stored = { enc: joined.subarray(0, cut), wrap: joined.subarray(cut) }
      const opens = await unwrapEpochSecret(bob.kemPrivateKey, at, stored).then(
        () => true,
        () => false,
      )
      expect(await isGoodWrap(secret, at, { recipient, stored })).toBe(opens)
    }
  })

  test('A74 of a key that cannot be sealed to finds it bad, so that an audit goes on', async () => {
    expect(await isGoodWrap(secret, at, { recipient: smallOrder, stored: { enc: new Uint8Array(32), wrap: new Uint8Array(48) } })).toBe(
      false,
    )
  })
})

describe.each(BACKENDS)('commitment and deposit key on $name', (backend) => {
  beforeAll(() => useBackend(backend))

  test('depend on the secret and the epoch’s number', async () => {
    const contexts = [1, 2].flatMap((epoch) => [secret, otherSecret].map((one) => epochPublic(one, { suite: 1, epoch })))
    const keys = await Promise.all(contexts)
    expect(new Set(keys.map(({ commitment }) => idKey(commitment))).size).toBe(4)
    expect(new Set(keys.map(({ depositKey }) => idKey(depositKey))).size).toBe(4)
  })

  test('the deposit key is the public half of what every holder derives', async () => {
    const { depositKey } = await epochPublic(secret, at)
    const keyPair = await depositKeyPair(secret, at)
    expect(keyPair.publicKey).toEqual(depositKey)
    const publicKey = await hpkeOracle.DeserializePublicKey(depositKey)
    const { encapsulatedSecret, ciphertext } = await hpkeOracle.Seal(publicKey, Uint8Array.of(1, 2, 3))
    const nothing = new Uint8Array(0)
    expect(
      await openBase({ kem, privateKey: kemPrivateKey(kem, keyPair), enc: encapsulatedSecret, info: nothing, aad: nothing, ciphertext }),
    ).toEqual(Uint8Array.of(1, 2, 3))
  })

  test('a secret that is not the committed one is refused', () => {
    expect(() => assertEpochSecret(secret, at)).not.toThrow()
    expect(() => assertEpochSecret(otherSecret, at)).toThrow(invalid)
    expect(() => assertEpochSecret(secret, { ...at, epoch: 8 })).toThrow(invalid)
  })

  test('fresh secrets are 32 bytes and never the same', () => {
    const secrets = Array.from({ length: 100 }, generateEpochSecret)
    expect(new Set(secrets.map(idKey)).size).toBe(100)
    expect(secrets.every(({ length }) => length === 32)).toBe(true)
  })
})

describe.each(BACKENDS)('links on $name', (backend) => {
  beforeAll(() => useBackend(backend))
  const where: LinkContext = { group: at.group, epoch: 7, to: 6 }
  const failed = expect.objectContaining({ code: 'decryption_failed' })

  test('open with the newer secret, and give the older', () => {
    const link = sealLink(secret, otherSecret, where)
    expect(link.length).toBe(LINK_BYTES)
    expect(openLink(secret, link, where)).toEqual(otherSecret)
  })

  test('are the same for every holder of both, on every backend, so that a lost one is healed under its hash', () => {
    const links = BACKENDS.map((each) => {
      useBackend(each)
      return sealLink(asEpochSecret(Uint8Array.from(secret)), otherSecret, { ...where })
    })
    useBackend(backend)
    expect(new Set(links.map((link) => idKey(linkHash(link)))).size).toBe(1)
  })

  test.each([
    ['another group', { group: asGroupId(seedOf('hash', 'another group')) }],
    ['another newer epoch', { epoch: 8 }],
    ['another older epoch', { to: 5 }],
  ] as const)('do not open for %s', (_, change) => {
    expect(() => openLink(secret, sealLink(secret, otherSecret, where), { ...where, ...change })).toThrow(failed)
  })

  test('do not open with the older secret, nor with a stranger’s', () => {
    const link = sealLink(secret, otherSecret, where)
    expect(() => openLink(otherSecret, link, where)).toThrow(failed)
    expect(() => openLink(asEpochSecret(anyHash()), link, where)).toThrow(failed)
  })

  test('A22 fail with one error for every flipped bit and every length', () => {
    const link = sealLink(secret, otherSecret, where)
    for (let bit = 0; bit < link.length * 8; bit += 1) expect(() => openLink(secret, withFlippedBit(link, bit), where)).toThrow(failed)
    for (const length of [0, 15, 16, 47]) expect(() => openLink(secret, link.subarray(0, length), where)).toThrow(failed)
    expect(() => openLink(secret, concat(link, Uint8Array.of(0)), where)).toThrow(failed)
  })

  test('of any two secrets and epochs open again', () => {
    const bytes32 = fc.uint8Array({ minLength: 32, maxLength: 32 })
    fc.assert(
      fc.property(bytes32, bytes32, bytes32, fc.nat(), fc.nat(), (newer, older, group, epoch, to) => {
        const here = { group: asGroupId(group), epoch, to }
        expect(openLink(asEpochSecret(newer), sealLink(asEpochSecret(newer), asEpochSecret(older), here), here)).toEqual(older)
      }),
      { numRuns: 50 },
    )
  })
})
