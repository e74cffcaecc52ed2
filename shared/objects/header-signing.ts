/**
 * Signing headers, alone or many under one signature. Secret side: never imported by the server.
 */
import type { Signer } from '../crypto/signature.ts'
import { idKey } from '../ids.ts'
import { BATCH_ITEMS_MAX } from '../limits.ts'
import type { Header } from './header.ts'
import { batchMessage, encodeEnvelope, encodeHeader, headerHash, headerMessage } from './header.ts'
import { headerTree } from './header-tree.ts'

/** Signs one header. @returns its envelope. */
export async function signHeader(signer: Signer, header: Header): Promise<Uint8Array> {
  const bytes = encodeHeader(header)
  return encodeEnvelope({ header: bytes, signature: await signer.sign(headerMessage(headerHash(bytes))), batch: null })
}

/**
 * Signs many headers with one signature over the root of the tree of their hashes.
 *
 * @param headers - at most {@link BATCH_ITEMS_MAX}, no two of one object: a batch has no order.
 * @returns an envelope for each, in the same order.
 */
export async function signHeaders(signer: Signer, headers: readonly Header[]): Promise<Uint8Array[]> {
  assertBatch(headers)
  const [only] = headers
  if (headers.length === 1 && only !== undefined) return [await signHeader(signer, only)]
  if (only === undefined) return []
  const encoded = headers.map(encodeHeader)
  const { root, paths } = headerTree(encoded.map(headerHash))
  const signature = await signer.sign(batchMessage(encoded.length, root))
  return encoded.map((header, index) => encodeEnvelope({ header, signature, batch: { index, size: encoded.length, path: [...(paths[index] ?? [])] } }))
}

function assertBatch(headers: readonly Header[]): void {
  if (headers.length > BATCH_ITEMS_MAX) throw new RangeError(`headers must be at most ${BATCH_ITEMS_MAX}, got ${headers.length}`)
  if (new Set(headers.map(({ object }) => idKey(object))).size < headers.length) throw new TypeError('headers must be of different objects')
}
