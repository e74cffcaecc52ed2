import { readFileSync } from 'node:fs'
import { beforeEach, describe, expect, test } from 'vitest'
import { concat, fromHex, toHex } from '../../../shared/bytes.ts'
import type { Dek } from '../../../shared/crypto/keys.ts'
import { asDek, asEpochSecret, asSigningPublicKey } from '../../../shared/crypto/keys.ts'
import { sha256 } from '../../../shared/crypto/public-crypto.ts'
import { signerFromSeed } from '../../../shared/crypto/sign.ts'
import { asGroupId, asObjectId, asPageId } from '../../../shared/ids.ts'
import { openBodyRange, openInlineBody, sealBody, sealInlineBody } from '../../../shared/objects/body.ts'
import { checkHashes } from '../../../shared/objects/body-layout.ts'
import type { DekContext, EpochSealKeys } from '../../../shared/objects/dek.ts'
import { bodyKey, dekCommitment, epochSealKeys, metadataKey, openDek } from '../../../shared/objects/dek.ts'
import { decodeEnvelope, verifyHeader } from '../../../shared/objects/header.ts'
import { signHeader, signHeaders } from '../../../shared/objects/header-signing.ts'
import { openMetadata } from '../../../shared/objects/metadata.ts'
import { decodeEntries, encodeEntries } from '../../../shared/objects/page.ts'
import { openPage } from '../../../shared/objects/page-seal.ts'
import { BACKENDS, useBackend } from '../crypto/backends.ts'
import { collect, failureOf } from './fixtures.ts'
import type { Negative } from './reference-vectors.ts'
import { bodyPlaintext, referenceVectors } from './reference-vectors.ts'

interface Named {
  readonly name: string
}
interface Twinned extends Named {
  readonly negatives: readonly Negative[]
}
interface OfDek extends Named {
  readonly dek: string
  readonly group: string
  readonly object: string
  readonly generation: number
}
interface OfEpoch {
  readonly epochSecret: string
  readonly group: string
  readonly epoch: number
}
interface SingleVector extends Twinned {
  readonly seed: string
  readonly publicKey: string
  readonly headerBytes: string
  readonly headerHash: string
  readonly envelope: string
}
interface BatchVector extends Twinned {
  readonly seed: string
  readonly publicKey: string
  readonly headers: readonly string[]
  readonly headerHashes: readonly string[]
  readonly envelopes: readonly string[]
}
type DerivedVector = OfDek & { readonly dekCommitment: string; readonly bodyKey: string; readonly metadataKey: string }
type LooseVector = OfDek & OfEpoch & Twinned & { readonly seal: string }
type MetadataVector = OfDek &
  Twinned & { readonly content: Readonly<Record<string, string | { readonly hex: string }>>; readonly sealed: string }
type PageVector = OfEpoch & Twinned & { readonly pageId: string; readonly entries: string; readonly deks: string; readonly sealed: string }
type InlineVector = OfDek & Twinned & { readonly length: number; readonly sealed: string; readonly bodyHash: string }
type BodyVector = OfDek & {
  readonly length: number
  readonly chunks: number
  readonly sealed?: string
  readonly sealedSha256: string
  readonly hashesSha256: string
  readonly bodyHash: string
}

// Our own files: their shape is declared, not checked.
const read = <Content>(name: string): Content =>
  JSON.parse(readFileSync(new URL(`../../vectors/objects/${name}`, import.meta.url), 'utf8')) as Content
const headers = read<{ singles: SingleVector[]; batches: BatchVector[] }>('headers.json')
const seals = read<{ derived: DerivedVector[]; loose: LooseVector[]; metadata: MetadataVector[] }>('seals.json')
const { pages } = read<{ pages: PageVector[] }>('pages.json')
const bodies = read<{ inline: InlineVector[]; bodies: BodyVector[] }>('bodies.json')

const contextOf = ({ group, object, generation }: Omit<OfDek, 'name' | 'dek'>): DekContext => ({
  group: asGroupId(fromHex(group)),
  object: asObjectId(fromHex(object)),
  generation,
})
const dekFrom = ({ dek }: { readonly dek: string }): Dek => asDek(fromHex(dek))
const keysFrom = ({ epochSecret, group, epoch }: OfEpoch): EpochSealKeys =>
  epochSealKeys(asEpochSecret(fromHex(epochSecret)), { group: asGroupId(fromHex(group)), epoch })
const bodySecret = (vector: OfDek): Parameters<typeof openInlineBody>[0] => ({ dek: dekFrom(vector), context: contextOf(vector), suite: 1 })

async function readHeader({
  publicKey,
  envelope,
}: Pick<SingleVector, 'publicKey' | 'envelope'>): Promise<{ headerBytes: string; headerHash: string }> {
  const signed = decodeEnvelope(fromHex(envelope))
  await verifyHeader(signed, asSigningPublicKey(fromHex(publicKey)))
  return { headerBytes: toHex(signed.headerBytes), headerHash: toHex(signed.hash) }
}
const openLoose = (vector: LooseVector): string => toHex(openDek(keysFrom(vector), contextOf(vector), fromHex(vector.seal)))
const openSealedMetadata = (vector: MetadataVector): object => openMetadata(dekFrom(vector), contextOf(vector), fromHex(vector.sealed))
const openVectorPage = (vector: PageVector): string =>
  toHex(
    openPage(keysFrom(vector), {
      pageId: asPageId(fromHex(vector.pageId)),
      entries: fromHex(vector.entries),
      sealed: fromHex(vector.sealed),
    }).deks,
  )
const openInline = (vector: InlineVector): Promise<Uint8Array> =>
  openInlineBody(bodySecret(vector), { bodyLength: vector.length, bodyHash: fromHex(vector.bodyHash) }, fromHex(vector.sealed))

/** Reads each negative twin of a vector; all must fail as they say. */
async function expectRefused<Vector extends Twinned>(vector: Vector, reading: (vector: Vector) => unknown): Promise<void> {
  for (const { name, change, error } of vector.negatives)
    expect(await failureOf(() => reading({ ...vector, ...change })), `${vector.name}: ${name}`).toBe(error)
}

test('the vectors are what the second implementation makes', () => {
  const made = referenceVectors()
  expect(Object.fromEntries(Object.keys(made).map((name) => [name, read(name)]))).toEqual(made)
})

describe.each(BACKENDS)('with the $name backend', (backend) => {
  beforeEach(() => useBackend(backend))

  test.each(headers.singles)('the header vector $name verifies and is signed to the same bytes', async (vector) => {
    expect(await readHeader(vector)).toEqual({ headerBytes: vector.headerBytes, headerHash: vector.headerHash })
    const { header } = decodeEnvelope(fromHex(vector.envelope))
    expect(toHex(await signHeader(await signerFromSeed(fromHex(vector.seed)), header))).toBe(vector.envelope)
    await expectRefused(vector, readHeader)
  })

  test.each(headers.batches)('the header vector $name verifies and is signed to the same bytes', async (vector) => {
    for (const [index, envelope] of vector.envelopes.entries()) {
      expect(await readHeader({ ...vector, envelope })).toEqual({
        headerBytes: vector.headers[index],
        headerHash: vector.headerHashes[index],
      })
    }
    const fields = vector.envelopes.map((envelope) => decodeEnvelope(fromHex(envelope)).header)
    expect((await signHeaders(await signerFromSeed(fromHex(vector.seed)), fields)).map(toHex)).toEqual(vector.envelopes)
    await expectRefused({ ...vector, envelope: vector.envelopes[0] ?? '' }, readHeader)
  })

  test.each(seals.derived)('the vector $name is derived', (vector) => {
    const [dek, context] = [dekFrom(vector), contextOf(vector)]
    const derived = { dekCommitment: dekCommitment(dek, context), bodyKey: bodyKey(dek, context), metadataKey: metadataKey(dek, context) }
    expect(vector).toMatchObject(Object.fromEntries(Object.entries(derived).map(([key, value]) => [key, toHex(value)])))
  })

  test.each(seals.loose)('the vector $name opens', async (vector) => {
    expect(openLoose(vector)).toBe(vector.dek)
    await expectRefused(vector, openLoose)
  })

  test.each(seals.metadata)('the metadata vector $name opens', async (vector) => {
    const content = Object.fromEntries(
      Object.entries(vector.content).map(([key, value]) => [key, typeof value === 'string' ? value : fromHex(value.hex)]),
    )
    expect(openSealedMetadata(vector)).toEqual(content)
    await expectRefused(vector, openSealedMetadata)
  })

  test.each(pages)('the vector $name opens', async (vector) => {
    expect(openVectorPage(vector)).toBe(vector.deks)
    expect(toHex(encodeEntries(decodeEntries(fromHex(vector.entries))))).toBe(vector.entries)
    await expectRefused(vector, openVectorPage)
  })

  test.each(bodies.inline)('the vector $name opens and is sealed to the same bytes', async (vector) => {
    expect(await openInline(vector)).toEqual(bodyPlaintext(vector.length))
    expect(toHex((await sealInlineBody(bodySecret(vector), bodyPlaintext(vector.length))).sealed)).toBe(vector.sealed)
    await expectRefused(vector, openInline)
  })

  test.each(bodies.bodies)('the vector $name is sealed to the same bytes and opens', async (vector) => {
    const plain = bodyPlaintext(vector.length)
    const sealing = sealBody(bodySecret(vector), [plain])
    const chunks: Uint8Array[] = []
    for await (const chunk of sealing.chunks) chunks.push(chunk)
    const { hashes, bodyHash, length } = sealing.summary()
    const sealed = concat(...chunks)
    const stored = vector.sealed === undefined ? {} : { sealed: toHex(sealed) }
    expect({
      ...stored,
      length,
      chunks: chunks.length,
      sealedSha256: toHex(sha256(sealed)),
      hashesSha256: toHex(sha256(hashes)),
      bodyHash: toHex(bodyHash),
    }).toEqual({
      ...(vector.sealed === undefined ? {} : { sealed: vector.sealed }),
      length: vector.length,
      chunks: vector.chunks,
      sealedSha256: vector.sealedSha256,
      hashesSha256: vector.hashesSha256,
      bodyHash: vector.bodyHash,
    })

    const body = checkHashes({ bodyLength: length, bodyHash }, 1, hashes)
    const opened = await collect(
      openBodyRange({ secret: bodySecret(vector), body, read: (offset, bytes) => [sealed.subarray(offset, offset + bytes)] }),
    )
    expect(toHex(sha256(opened))).toBe(toHex(sha256(plain)))
  })
})
