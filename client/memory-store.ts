/** A store that lives as long as its process: for tests, and for clients that want to leave no trace. */
import { ClavigerError } from '../shared/errors.ts'
import type { Store, StoreBatch } from './store.ts'
import { applyBatch, copyBatch, selectPrefix } from './store.ts'

/** Keeps everything in memory; nothing outlives it. */
export class MemoryStore implements Store {
  readonly #entries = new Map<string, Uint8Array>()
  #closed = false

  async get(key: string): Promise<Uint8Array | null> {
    this.#assertOpen()
    const value = this.#entries.get(key)
    return value === undefined ? null : Uint8Array.from(value)
  }

  async getAll(prefix: string): Promise<ReadonlyMap<string, Uint8Array>> {
    this.#assertOpen()
    return selectPrefix(this.#entries, prefix)
  }

  async write(batch: StoreBatch): Promise<void> {
    this.#assertOpen()
    applyBatch(this.#entries, copyBatch(batch))
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#entries.clear()
  }

  #assertOpen(): void {
    if (this.#closed) throw new ClavigerError('closed', 'this store was closed')
  }
}
