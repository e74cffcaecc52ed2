/**
 * Cutting a stream of pieces of any size into chunks of one size, in constant memory.
 */

/** One chunk. It is valid until the next one is asked for: it may be a view of the piece the source gave. */
export interface Chunk {
  readonly bytes: Uint8Array
  readonly isLast: boolean
}

/**
 * Cuts a stream into chunks of `size` bytes. At least one chunk comes out, and all but the last are full; which one is the
 * last is known because a chunk is held back until another byte, or the end, has come.
 *
 * What is held back is copied, so a source may reuse its buffer for the next piece.
 */
export async function* rechunk(source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>, size: number): AsyncGenerator<Chunk> {
  const held = new Uint8Array(size)
  let heldBytes = 0
  for await (const piece of source) {
    let rest = piece
    while (heldBytes + rest.length > size) {
      const taken = rest.subarray(0, size - heldBytes)
      yield { bytes: heldBytes === 0 ? taken : filled(held, heldBytes, taken), isLast: false }
      rest = rest.subarray(taken.length)
      heldBytes = 0
    }
    held.set(rest, heldBytes)
    heldBytes += rest.length
  }
  yield { bytes: held.subarray(0, heldBytes), isLast: true }
}

function filled(held: Uint8Array, heldBytes: number, more: Uint8Array): Uint8Array {
  held.set(more, heldBytes)
  return held
}
