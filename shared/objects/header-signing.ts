/**
 * Signing headers, alone or many under one signature. Secret side: never imported by the server.
 */
import type { Signer } from '../crypto/signature.ts'
import { idKey } from '../ids.ts'
import { BATCH_ITEMS_MAX } from '../limits.ts'
import type { Header, SignedHeader } from './header.ts'
import { batchMessage, encodeEnvelope, encodeHeader, headerHash, headerMessage } from './header.ts'
import { headerTree } from './header-tree.ts'

/** Signs one header. @returns its envelope. */
export async function signHeader(signer: Signer, header: Header): Promise<Uint8Array> {
  return (await issueAlone(signer, header)).bytes
}

/**
 * Signs many headers with one signature over the root of the tree of their hashes.
 *
 * @param headers - at most {@link BATCH_ITEMS_MAX}, no two of one object: a batch has no order.
 * @returns an envelope for each, in the same order.
 */
export async function signHeaders(signer: Signer, headers: readonly Header[]): Promise<Uint8Array[]> {
  return (await issueHeaders(signer, headers)).map(({ bytes }) => bytes)
}

/** {@link signHeaders}, with each envelope as its decoding would give it: whoever keeps what they sign need not decode it. */
export async function issueHeaders(signer: Signer, headers: readonly Header[]): Promise<SignedHeader[]> {
  assertBatch(headers)
  const [only] = headers
  if (only === undefined) return []
  if (headers.length === 1) return [await issueAlone(signer, only)]
  const encoded = headers.map((header) => ({ header, headerBytes: encodeHeader(header) }))
  const hashes = encoded.map(({ headerBytes }) => headerHash(headerBytes))
  const { root, paths } = headerTree(hashes)
  const signature = await signer.sign(batchMessage(encoded.length, root))
  return encoded.map(({ header, headerBytes }, index) => {
    const batch = { index, size: encoded.length, path: [...(paths[index] ?? [])] }
    const bytes = encodeEnvelope({ header: headerBytes, signature, batch })
    return { bytes, header, headerBytes, hash: hashes[index] ?? headerHash(headerBytes), signature, batch }
  })
}

async function issueAlone(signer: Signer, header: Header): Promise<SignedHeader> {
  const headerBytes = encodeHeader(header)
  const hash = headerHash(headerBytes)
  const signature = await signer.sign(headerMessage(hash))
  return { bytes: encodeEnvelope({ header: headerBytes, signature, batch: null }), header, headerBytes, hash, signature, batch: null }
}

function assertBatch(headers: readonly Header[]): void {
  if (headers.length > BATCH_ITEMS_MAX) throw new RangeError(`headers must be at most ${BATCH_ITEMS_MAX}, got ${headers.length}`)
  if (new Set(headers.map(({ object }) => idKey(object))).size < headers.length) throw new TypeError('headers must be of different objects')
}
