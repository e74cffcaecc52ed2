/**
 * An object’s name, type and the app’s own data, sealed inside its signed header. Secret side: never imported by the server.
 *
 * The plaintext is padded to a few sizes before it is sealed: exact lengths of names would tell them apart.
 */
import { z } from 'zod/mini'
import { wipe } from '../bytes.ts'
import { bytesUpTo, codec, context } from '../codec.ts'
import { openWithNonce, sealWithNonce, TAG_BYTES, XCHACHA_NONCE_BYTES } from '../crypto/aead.ts'
import type { Dek } from '../crypto/keys.ts'
import { ClavigerError } from '../errors.ts'
import { METADATA_BYTES_MAX } from '../limits.ts'
import type { DekContext } from './dek.ts'
import { metadataKey } from './dek.ts'

const OVERHEAD_BYTES = XCHACHA_NONCE_BYTES + TAG_BYTES
/** Padded sizes in bytes: what the server sees of a name is which of these seven it fits. */
const BUCKETS_BYTES: readonly number[] = [64, 128, 256, 512, 1024, 2048, METADATA_BYTES_MAX - OVERHEAD_BYTES]
/** One byte at least is padding. */
const PLAIN_BYTES_MAX = METADATA_BYTES_MAX - OVERHEAD_BYTES - 1
const END_OF_DATA = 0x80

/** What only readers see of an object. */
export const ObjectMetadata = z.strictObject({
  name: z.exactOptional(z.string()),
  /** A media type, RFC 6838. */
  type: z.exactOptional(z.string()),
  /** The app’s own data. */
  custom: z.exactOptional(bytesUpTo(PLAIN_BYTES_MAX)),
})
export type ObjectMetadata = z.infer<typeof ObjectMetadata>

const metadataCodec = codec('metadata', ObjectMetadata, PLAIN_BYTES_MAX)

/**
 * Seals metadata under an object’s DEK.
 *
 * @returns nonce ‖ ciphertext ‖ tag, at most {@link METADATA_BYTES_MAX} bytes, in one of seven lengths.
 * @throws RangeError if name, type and custom data together do not fit.
 */
export function sealMetadata(dek: Dek, of: DekContext, metadata: ObjectMetadata): Uint8Array {
  const padded = pad(metadataCodec.encode(metadata))
  return withMetadataKey(dek, of, (key) => sealWithNonce(key, metadataAad(of), padded))
}

/** Opens metadata; the DEK was checked before. @throws ClavigerError `decryption_failed`, or `malformed` if the author sealed nonsense. */
export function openMetadata(dek: Dek, of: DekContext, sealed: Uint8Array): ObjectMetadata {
  if (!BUCKETS_BYTES.includes(sealed.length - OVERHEAD_BYTES)) throw new ClavigerError('decryption_failed')
  return metadataCodec.decode(unpad(withMetadataKey(dek, of, (key) => openWithNonce(key, metadataAad(of), sealed))))
}

function withMetadataKey(dek: Dek, of: DekContext, use: (key: Uint8Array) => Uint8Array): Uint8Array {
  const key = metadataKey(dek, of)
  try {
    return use(key)
  } finally {
    wipe(key)
  }
}

function metadataAad(of: DekContext): Uint8Array {
  return context('object-metadata', of.group, of.object, of.generation)
}

/** A one bit, then zeros up to the next bucket (ISO/IEC 7816-4). */
function pad(plain: Uint8Array): Uint8Array {
  const bucketBytes = BUCKETS_BYTES.find((bytes) => plain.length < bytes)
  if (bucketBytes === undefined) throw new RangeError(`metadata must be at most ${PLAIN_BYTES_MAX} bytes, got ${plain.length}`)
  const padded = new Uint8Array(bucketBytes)
  padded.set(plain)
  padded[plain.length] = END_OF_DATA
  return padded
}

function unpad(padded: Uint8Array): Uint8Array {
  const end = padded.findLastIndex((byte) => byte !== 0)
  if (end < 0 || padded[end] !== END_OF_DATA) throw new ClavigerError('malformed', 'the padding of the metadata is not well-formed')
  return padded.subarray(0, end)
}
