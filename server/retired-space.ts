/** Bytes of retired epochs stay in the data files until they are vacuumed: remembers that there are some. */
import pg from 'pg'
import { vacuumRetired } from './storage/retire.ts'

const CONNECT_MS_MAX = 10_000

export class RetiredSpace {
  readonly #url: string
  #wanted = false
  #client: pg.Client | null = null

  /** @param url - of the database. */
  constructor(url: string) {
    this.#url = url
  }

  /** Whether there is something to vacuum. */
  get wanted(): boolean {
    return this.#wanted
  }

  /** An epoch has been retired. */
  note(): void {
    this.#wanted = true
  }

  /** Vacuums if anything was retired since the last time it went well. */
  async reclaim(): Promise<void> {
    if (!this.#wanted) return
    const client = new pg.Client({
      connectionString: this.#url,
      application_name: 'claviger vacuum',
      connectionTimeoutMillis: CONNECT_MS_MAX,
      keepAlive: true,
    })
    // The statement under way fails with it.
    client.on('error', () => undefined)
    this.#client = client
    this.#wanted = false
    try {
      await vacuumRetired(client)
    } catch (error) {
      this.#wanted = true
      throw error
    } finally {
      this.#client = null
      await client.end().catch(() => undefined)
    }
  }

  /** Breaks off what is under way: it is no loss, and a shutdown does not wait for it. */
  stop(): void {
    void this.#client?.end().catch(() => undefined)
  }
}
