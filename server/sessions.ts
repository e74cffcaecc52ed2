/** All sessions of this process: their number, their clock tick, and their end. */
import { idKey } from '../shared/ids.ts'
import type { IdentityId } from '../shared/ids.ts'
import type { CloseReason } from '../shared/protocol/close-codes.ts'
import type { Metrics } from './metrics.ts'
import type { Peer } from './peer.ts'
import type { Session, SessionState } from './session.ts'

/** Deadlines and silence are judged this often. */
const TICK_MS = 1000

export class Sessions {
  readonly #all = new Set<Session>()
  readonly #peersByIdentity = new Map<string, Set<Peer>>()
  readonly #metrics: Metrics
  readonly #timer: NodeJS.Timeout

  constructor(metrics: Metrics) {
    this.#metrics = metrics
    this.#timer = setInterval(() => this.#tick(), TICK_MS)
    this.#timer.unref()
  }

  get size(): number {
    return this.#all.size
  }

  /** Identities with an open session here, one peer each: for comparing their cards with the database. */
  identities(): readonly Peer[] {
    return [...this.#peersByIdentity.values()].flatMap((peers) => [...peers].slice(0, 1))
  }

  add(session: Session): void {
    this.#all.add(session)
  }

  opened(peer: Peer): void {
    const key = idKey(peer.identity)
    const peers = this.#peersByIdentity.get(key)
    if (peers === undefined) this.#peersByIdentity.set(key, new Set([peer]))
    else peers.add(peer)
  }

  remove(session: Session, peer: Peer | null): void {
    this.#all.delete(session)
    if (peer === null) return
    const key = idKey(peer.identity)
    const peers = this.#peersByIdentity.get(key)
    peers?.delete(peer)
    if (peers?.size === 0) this.#peersByIdentity.delete(key)
  }

  /** A newer card replaces the keys that older sessions authenticated with. */
  closeOlder(identity: IdentityId, revision: number): void {
    for (const peer of this.#peersByIdentity.get(idKey(identity)) ?? []) if (peer.revision < revision) peer.close('forbidden')
  }

  /** Requests being handled in all sessions. */
  get requestsInFlight(): number {
    let count = 0
    for (const session of this.#all) count += session.requestsInFlight
    return count
  }

  /** Ends every session and the tick. */
  closeAll(reason: CloseReason): void {
    clearInterval(this.#timer)
    for (const session of [...this.#all]) session.close(reason)
  }

  /** Brings the gauges up to date. */
  measure(): void {
    const count: Record<SessionState, number> = { greeting: 0, verifying: 0, open: 0, closed: 0 }
    let bytes = 0
    for (const session of this.#all) {
      count[session.state] += 1
      bytes += session.bufferedBytes
    }
    for (const state of ['greeting', 'verifying', 'open'] as const) this.#metrics.sessions.set({ state }, count[state])
    this.#metrics.bufferedBytes.set(bytes)
  }

  #tick(): void {
    for (const session of [...this.#all]) session.tick()
  }
}
