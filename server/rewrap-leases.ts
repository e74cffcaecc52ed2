/**
 * Which session of this process holds a lease on a rewrap job. One that ends lets go of it, so that the next admin need not
 * wait until it runs out; a process that dies leaves that to the clock.
 */
import type { GroupId } from '../shared/ids.ts'
import { idKey } from '../shared/ids.ts'
import type { Log } from './log.ts'
import type { Peer } from './peer.ts'
import type { Database } from './storage/database.ts'
import { endLeases } from './storage/rewrap-jobs.ts'

export class RewrapLeases {
  readonly #database: Database
  readonly #log: Log
  readonly #groupsByPeer = new Map<Peer, Map<string, GroupId>>()
  readonly #pending = new Set<Promise<void>>()

  constructor(database: Database, log: Log) {
    this.#database = database
    this.#log = log
  }

  /** A session has been given a lease. */
  taken(peer: Peer, group: GroupId): void {
    const groups = this.#groupsByPeer.get(peer) ?? new Map<string, GroupId>()
    this.#groupsByPeer.set(peer, groups.set(idKey(group), group))
    // The session may have ended while its request was carried out; nobody would let go of the lease.
    if (peer.closed) this.remove(peer)
  }

  /** The session has ended. */
  remove(peer: Peer): void {
    const groups = [...(this.#groupsByPeer.get(peer)?.values() ?? [])]
    this.#groupsByPeer.delete(peer)
    for (const group of groups) {
      const ending = endLeases(this.#database, group, peer.binding.nonce).catch((error: unknown) =>
        this.#log.error({ group: idKey(group) }, 'a rewrap lease was not ended', error),
      )
      this.#pending.add(ending)
      void ending.finally(() => this.#pending.delete(ending))
    }
  }

  /** Waits for what is under way. */
  async settle(): Promise<void> {
    await Promise.all(this.#pending)
  }
}
