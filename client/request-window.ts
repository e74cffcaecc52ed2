/**
 * Requests on their way: first queued, then in flight, at most as many as the server takes before it stops reading.
 *
 * Holds no timers and no sockets: time comes in as a number, frames go out as bytes.
 */
import { REQUEST_BYTES_IN_FLIGHT_MAX, REQUEST_MS_MAX, REQUESTS_IN_FLIGHT_MAX } from '../shared/limits.ts'

/** One request and what to do with its outcome. */
export interface Outgoing {
  readonly id: number
  readonly frame: Uint8Array
  /** Whether it makes sense in the current session only. */
  readonly bound: boolean
  readonly resolve: (result: unknown) => void
  readonly reject: (reason: unknown) => void
}

interface Waiting {
  readonly outgoing: Outgoing
  /** When its clock started, in ms. */
  since: number
}

/** The window of one connection, across its sessions. */
export class RequestWindow {
  /** In the order of the calls; a `Map` so that an aborted one leaves in constant time. */
  readonly #queued = new Map<number, Waiting>()
  readonly #inFlight = new Map<number, Waiting>()
  /** Aborted by the caller while in flight: the server still works on them, so they keep their place. */
  readonly #abandoned = new Set<number>()
  #bytesInFlight = 0

  add(outgoing: Outgoing, now: number): void {
    this.#queued.set(outgoing.id, { outgoing, since: now })
  }

  /** Moves what fits from the queue into flight, and returns it in order. A frame larger than the window goes alone. */
  takeSendable(now: number): readonly Outgoing[] {
    const sendable: Outgoing[] = []
    for (const [id, { outgoing }] of this.#queued) {
      if (!this.#hasRoomFor(outgoing.frame.length)) break
      this.#queued.delete(id)
      this.#inFlight.set(id, { outgoing, since: now })
      this.#bytesInFlight += outgoing.frame.length
      sendable.push(outgoing)
    }
    return sendable
  }

  /**
   * Takes out the request that `id` answers; null if nobody waits for it any more.
   *
   * Requests sent after it start their clocks again: on a slow link they queue behind one another, and that is progress.
   */
  answer(id: number, now: number): Outgoing | null {
    const waiting = this.#leaveFlight(id)
    if (waiting === null) return null
    for (const later of this.#inFlight.values()) if (later.outgoing.id > id) later.since = now
    return this.#abandoned.delete(id) ? null : waiting.outgoing
  }

  /** The caller does not want `id` any more. */
  abandon(id: number): void {
    if (!this.#queued.delete(id) && this.#inFlight.has(id)) this.#abandoned.add(id)
  }

  /** Takes out everything in flight: the connection is lost, and whether the server acted is not known. */
  takeInFlight(): readonly Outgoing[] {
    const lost: Outgoing[] = []
    for (const { outgoing } of this.#inFlight.values()) if (!this.#abandoned.has(outgoing.id)) lost.push(outgoing)
    this.#inFlight.clear()
    this.#abandoned.clear()
    this.#bytesInFlight = 0
    return lost
  }

  /** Takes out queued requests that made sense only in the session that has just ended. */
  takeBoundToSession(): readonly Outgoing[] {
    return this.#takeQueued(({ outgoing }) => outgoing.bound)
  }

  /** Takes out everything queued. */
  takeQueued(): readonly Outgoing[] {
    return this.#takeQueued(() => true)
  }

  /** Starts the clocks of the queue again: from here on it waits for a connection. */
  restartQueueClocks(now: number): void {
    for (const waiting of this.#queued.values()) waiting.since = now
  }

  /** Takes out queued requests that have waited too long for a connection. */
  takeQueuedTooLong(now: number): readonly Outgoing[] {
    return this.#takeQueued(({ since }) => now - since >= REQUEST_MS_MAX)
  }

  /** Takes out requests in flight that have had no answer in time. */
  takeUnanswered(now: number): readonly Outgoing[] {
    const unanswered: Outgoing[] = []
    for (const [id, { outgoing, since }] of this.#inFlight) {
      if (now - since < REQUEST_MS_MAX) continue
      this.#leaveFlight(id)
      if (!this.#abandoned.delete(id)) unanswered.push(outgoing)
    }
    return unanswered
  }

  #takeQueued(wanted: (waiting: Waiting) => boolean): readonly Outgoing[] {
    const taken: Outgoing[] = []
    for (const [id, waiting] of this.#queued) {
      if (!wanted(waiting)) continue
      this.#queued.delete(id)
      taken.push(waiting.outgoing)
    }
    return taken
  }

  #hasRoomFor(bytes: number): boolean {
    if (this.#inFlight.size === 0) return true
    return this.#inFlight.size < REQUESTS_IN_FLIGHT_MAX && this.#bytesInFlight + bytes <= REQUEST_BYTES_IN_FLIGHT_MAX
  }

  #leaveFlight(id: number): Waiting | null {
    const waiting = this.#inFlight.get(id)
    if (waiting === undefined) return null
    this.#inFlight.delete(id)
    this.#bytesInFlight -= waiting.outgoing.frame.length
    return waiting
  }
}
