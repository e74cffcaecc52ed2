/** Bytes of retired epochs stay in the data files until they are vacuumed: remembers that there are some. */
import type { Database } from './storage/database.ts'
import { vacuumRetired } from './storage/retire.ts'

export class RetiredSpace {
  readonly #database: Database
  #wanted = false

  constructor(database: Database) {
    this.#database = database
  }

  /** An epoch has been retired. */
  note(): void {
    this.#wanted = true
  }

  /** Vacuums if anything was retired since the last time. */
  async reclaim(): Promise<void> {
    if (!this.#wanted) return
    this.#wanted = false
    await vacuumRetired(this.#database)
  }
}
