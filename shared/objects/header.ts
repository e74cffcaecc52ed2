/**
 * Signed object headers: what an author says about one version of one object.
 *
 * The signed bytes travel and are stored inside an envelope with their signature, alone or with a path in the tree of a
 * batch (RFC 9162 shape, own labels). Decoding applies the rules O1–O4, which need nothing but the envelope.
 */
import { z } from 'zod/mini'
import { concat, equalBytes, toHex } from '../bytes.ts'
import { bytesOf, bytesUpTo, codec, context, HeadSchema, uint } from '../codec.ts'
import { BoundedCache } from '../crypto/bounded-cache.ts'
import type { Signature, SigningPublicKey } from '../crypto/keys.ts'
import { labelled } from '../crypto/labels.ts'
import { hashLabelled } from '../crypto/public-crypto.ts'
import { verifySignature } from '../crypto/signature.ts'
import { ClavigerError } from '../errors.ts'
import type { GroupId, IdentityId, ObjectId } from '../ids.ts'
import { HASH_BYTES, OBJECT_ID_BYTES } from '../ids.ts'
import { BATCH_ITEMS_MAX, BODY_BYTES_MAX, HEADER_BYTES_MAX, METADATA_BYTES_MAX, OBJECT_VERSION_MAX } from '../limits.ts'
import { pathLength, rootFromPath } from './header-tree.ts'

/** Greatest epoch number: fits a signed 32-bit column. */
const EPOCH_MAX = 0x7fff_ffff
/** log2 of the largest batch, rounded up. */
const PATH_LENGTH_MAX = 10

const hash = bytesOf(HASH_BYTES)
const version = uint(OBJECT_VERSION_MAX).check(z.positive())

/** What an author signs about one version of one object. Byte counts are of plaintext, `metadata` is sealed. */
export const Header = z.strictObject({
  v: z.literal(1),
  group: bytesOf<GroupId>(HASH_BYTES),
  object: bytesOf<ObjectId>(OBJECT_ID_BYTES),
  version,
  generation: version,
  epoch: uint(EPOCH_MAX),
  at: HeadSchema,
  author: bytesOf<IdentityId>(HASH_BYTES),
  previous: z.nullable(hash),
  dekCommitment: z.nullable(hash),
  bodyHash: z.nullable(hash),
  bodyLength: uint(BODY_BYTES_MAX),
  metadata: bytesUpTo(METADATA_BYTES_MAX),
})
export type Header = z.infer<typeof Header>

/** Place of a header in a signed batch: leaf `index` of `size`, and the RFC 9162 inclusion path to the root. */
const Batch = z.strictObject({
  index: uint(BATCH_ITEMS_MAX - 1),
  size: uint(BATCH_ITEMS_MAX).check(z.positive()),
  path: z.array(hash).check(z.maxLength(PATH_LENGTH_MAX)),
})
export type HeaderBatch = z.infer<typeof Batch>

const Envelope = z.strictObject({
  header: bytesUpTo(HEADER_BYTES_MAX),
  signature: bytesOf<Signature>(64),
  batch: z.nullable(Batch),
})
type Envelope = z.infer<typeof Envelope>

const headerCodec = codec('header', Header, HEADER_BYTES_MAX)
const envelopeCodec = codec('header envelope', Envelope, HEADER_BYTES_MAX)

/** A decoded envelope. Well-formed, but not yet verified: see {@link verifyHeader} and `judgeHeader`. */
export interface SignedHeader {
  /** The envelope as it travels and is stored. */
  readonly bytes: Uint8Array
  readonly header: Header
  /** The bytes that were signed. */
  readonly headerBytes: Uint8Array
  /** `headerHash` of the signed bytes: what `previous` and key pages refer to. */
  readonly hash: Uint8Array
  readonly signature: Signature
  /** Null when the signature is over this header alone. */
  readonly batch: HeaderBatch | null
}

/** What can be wrong with an envelope by itself. The key is the rule’s number and name. */
const STRUCTURE_RULES = {
  /** An old generation would be sealed under a DEK that somebody since removed has kept. */
  O1_generationIsVersion: ({ header }) => header.generation === header.version,
  /** A second “first version” would hide the history of an object, or bring a deleted one back. */
  O2_onlyTheFirstHasNoPrevious: ({ header }) => (header.version === 1) === (header.previous === null),
  /** A half tombstone would be a deletion to one client and content to another. */
  O3_tombstoneIsBare: ({ header }) => (isTombstone(header) ? isBare(header) : isFull(header)),
  /** Two encodings of one place in a batch would be two envelopes for one signature. */
  O4_batchPathFits: ({ batch }) =>
    batch === null || (batch.index < batch.size && batch.path.length === pathLength(batch.index, batch.size)),
} as const satisfies Record<string, (parts: { readonly header: Header; readonly batch: HeaderBatch | null }) => boolean>

/** Whether a header says that its object is deleted. */
export function isTombstone(header: Header): boolean {
  return header.dekCommitment === null
}

function isBare(header: Header): boolean {
  return header.bodyHash === null && header.bodyLength === 0 && header.metadata.length === 0
}

function isFull(header: Header): boolean {
  return header.bodyHash !== null && header.metadata.length > 0
}

/** What every header of a deletion has in common. */
export const TOMBSTONE_FIELDS = { dekCommitment: null, bodyHash: null, bodyLength: 0, metadata: new Uint8Array(0) } as const

/** The bytes of a header that are signed. @throws ClavigerError `rule_violated` if it breaks O1–O3. */
export function encodeHeader(header: Header): Uint8Array {
  assertStructure({ header, batch: null })
  return headerCodec.encode(header)
}

/** The 32-byte hash of a header’s signed bytes. */
export function headerHash(headerBytes: Uint8Array): Uint8Array {
  return hashLabelled('header', headerBytes)
}

/** The bytes of an envelope. Made by `signHeader`, kept as they are ever after. */
export function encodeEnvelope(envelope: {
  readonly header: Uint8Array
  readonly signature: Signature
  readonly batch: HeaderBatch | null
}): Uint8Array {
  return envelopeCodec.encode({ header: envelope.header, signature: envelope.signature, batch: envelope.batch })
}

/**
 * Decodes an envelope and the header in it.
 *
 * @throws ClavigerError `malformed`, `limit_exceeded`, or `rule_violated` with `data.rule` of O1–O4.
 */
export function decodeEnvelope(bytes: Uint8Array): SignedHeader {
  const { header: headerBytes, signature, batch } = envelopeCodec.decode(bytes)
  const header = headerCodec.decode(headerBytes)
  assertStructure({ header, batch })
  return { bytes, header, headerBytes, hash: headerHash(headerBytes), signature, batch }
}

function assertStructure(parts: { readonly header: Header; readonly batch: HeaderBatch | null }): void {
  for (const [rule, holds] of Object.entries(STRUCTURE_RULES)) {
    if (!holds(parts)) throw new ClavigerError('rule_violated', `the header breaks ${rule}`, { data: { rule } })
  }
}

/** What is signed for one header alone. */
export function headerMessage(hashOfHeader: Uint8Array): Uint8Array {
  return concat(labelled('header'), hashOfHeader)
}

/** What is signed for a batch of `size` headers. */
export function batchMessage(size: number, root: Uint8Array): Uint8Array {
  return concat(labelled('header-batch'), context(size, root))
}

/** Batches whose verdict is remembered: as many as are read side by side. */
const BATCH_VERDICTS_MAX = 256
const batchVerdicts = new BoundedCache<{ verdict: Promise<boolean> | undefined }>(BATCH_VERDICTS_MAX)

/**
 * Checks the signature of a header under `signingKey`, which the caller took from the verified roster.
 *
 * The headers of one batch cost one signature check together: verdicts are kept by key, root, size and signature.
 *
 * @throws ClavigerError `invalid_signature`.
 */
export async function verifyHeader(signed: SignedHeader, signingKey: SigningPublicKey): Promise<void> {
  const holds =
    signed.batch === null
      ? await verifySignature(signingKey, headerMessage(signed.hash), signed.signature)
      : await verifyInBatch(signed, signed.batch, signingKey)
  if (!holds) throw new ClavigerError('invalid_signature', undefined, { data: { author: signed.header.author } })
}

async function verifyInBatch(signed: SignedHeader, batch: HeaderBatch, signingKey: SigningPublicKey): Promise<boolean> {
  const message = batchMessage(batch.size, rootFromPath(signed.hash, batch))
  const slot = batchVerdicts.getOrMake(toHex(concat(signingKey, signed.signature, message)), () => ({ verdict: undefined }))
  try {
    slot.verdict ??= verifySignature(signingKey, message, signed.signature)
    return await slot.verdict
  } catch (cause) {
    // A backend that failed has given no verdict: the next caller asks again.
    slot.verdict = undefined
    throw cause
  }
}

/** Whether two envelopes hold the same version: the same signed bytes, whatever way they were signed. */
export function isSameHeader(left: SignedHeader, right: SignedHeader): boolean {
  return equalBytes(left.hash, right.hash)
}
