/**
 * The list of chunk hashes of a body that is being sealed, of a length not known before.
 */
import { HASH_BYTES } from '../ids.ts'

/** Room for the hashes of 1 MiB of plaintext. */
const FIRST_BYTES = 16 * HASH_BYTES

/** Hashes in a row, in one array that doubles when it is full: 32 bytes a chunk, not an object a chunk. */
export class ChunkHashes {
  #bytes = new Uint8Array(FIRST_BYTES)
  #count = 0

  /** How many there are. */
  get count(): number {
    return this.#count
  }

  /** Adds one of 32 bytes. */
  add(hash: Uint8Array): void {
    const end = this.#count * HASH_BYTES
    if (end === this.#bytes.length) this.#grow()
    this.#bytes.set(hash, end)
    this.#count += 1
  }

  /** A copy of all of them. */
  all(): Uint8Array {
    return this.#bytes.slice(0, this.#count * HASH_BYTES)
  }

  #grow(): void {
    const larger = new Uint8Array(2 * this.#bytes.length)
    larger.set(this.#bytes)
    this.#bytes = larger
  }
}
