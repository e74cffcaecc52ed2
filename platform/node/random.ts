/**
 * Random bytes of the operating system’s generator, drawn in blocks: a nonce costs 0.2 µs instead of 5.
 *
 * What has been handed out is wiped from the block at once; what is still in it is known to nobody but this process, as the
 * state of any generator is.
 */
import { randomFillSync } from 'node:crypto'

const BLOCK_BYTES = 4096
/** Larger requests go to the generator directly. */
const POOLED_BYTES_MAX = 256

const block = new Uint8Array(BLOCK_BYTES)
let used = BLOCK_BYTES

/** Fresh random bytes in an array of their own. */
export function randomBytes(length: number): Uint8Array {
  if (length > POOLED_BYTES_MAX) return randomFillSync(new Uint8Array(length))
  if (used + length > BLOCK_BYTES) refill()
  const bytes = block.slice(used, used + length)
  block.fill(0, used, used + length)
  used += length
  return bytes
}

function refill(): void {
  randomFillSync(block)
  used = 0
}
