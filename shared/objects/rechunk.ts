/**
 * Cutting a stream of pieces of any size into chunks of one size.
 */
import { concat } from '../bytes.ts'

/** One chunk. It may be a view of a piece: the source must not reuse its buffers. */
export interface Chunk {
  readonly bytes: Uint8Array
  readonly isLast: boolean
}

/**
 * Cuts a stream into chunks of `size` bytes, whatever the sizes it comes in. At least one chunk comes out, and all but the
 * last are full; `isLast` is known because the next byte has been waited for.
 */
export async function* rechunk(source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>, size: number): AsyncGenerator<Chunk> {
  let pending: Uint8Array[] = []
  let pendingBytes = 0
  for await (const piece of source) {
    let rest = piece
    while (pendingBytes + rest.length > size) {
      const taken = rest.subarray(0, size - pendingBytes)
      yield { bytes: join(pending, taken), isLast: false }
      rest = rest.subarray(taken.length)
      pending = []
      pendingBytes = 0
    }
    if (rest.length > 0) pending.push(rest)
    pendingBytes += rest.length
  }
  yield { bytes: join(pending), isLast: true }
}

/** Avoids a copy when one piece is a whole chunk. */
function join(pending: readonly Uint8Array[], ...more: readonly Uint8Array[]): Uint8Array {
  const [only, ...others] = [...pending, ...more]
  return only !== undefined && others.length === 0 ? only : concat(...pending, ...more)
}
