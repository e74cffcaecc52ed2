/**
 * Parts of bodies on their way in: frames are gathered in memory until their part is whole, and only then stored.
 *
 * A part in memory is not durable and its frames are not promised anything: after a lost connection the client
 * sends the part again.
 */
import { ClavigerError } from '../shared/errors.ts'
import { idKey } from '../shared/ids.ts'
import { BODY_PART_BYTES } from '../shared/limits.ts'
import type { Params } from '../shared/protocol/messages.ts'
import type { Clock } from './clock.ts'
import type { Peer } from './peer.ts'

/** Parts one session may have unfinished: twice the window of a client. */
const PARTS_PER_SESSION_MAX = 8
/** Parts of all sessions, 1 MiB each. */
const PARTS_PER_PROCESS_MAX = 256

/** Frames of one part: 4 KiB each if they are alike. */
const FRAMES_PER_PART_MAX = 256
/** A part of which nothing has come for this long is given up. */
const IDLE_MS_MAX = 60_000

/** One part, as far as its frames have arrived. */
interface Gathering {
  readonly data: Uint8Array
  readonly lengthByOffset: Map<number, number>
  /** Known once the last frame has come. */
  end: number | null
  /** Frames join without a gap up to here. */
  joined: number
  /** When its newest frame came. */
  at: number
}

export class BodyUploads {
  readonly #byPeer = new Map<Peer, Map<string, Gathering>>()
  readonly #clock: Clock
  #count = 0

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /**
   * Takes one frame.
   *
   * @returns the whole part if this frame completes it, else null.
   * @throws ClavigerError `malformed`, `limit_exceeded`, `rate_limited`, `closed`.
   */
  gather(peer: Peer, frame: Params<'body.write'>): Uint8Array | null {
    // The session may have ended while its request was being judged; nobody would ever remove its parts again.
    if (peer.closed) throw new ClavigerError('closed')
    if (frame.offset + frame.data.length > BODY_PART_BYTES)
      throw new ClavigerError('malformed', `a part must be at most ${BODY_PART_BYTES} bytes`)
    const key = `${idKey(frame.group)}/${idKey(frame.bodyId)}/${frame.part}`
    if (frame.offset === 0 && frame.last) {
      this.#drop(peer, key)
      return frame.data
    }
    const part = this.#gathering(peer, key)
    part.at = this.#clock.now()
    if (part.lengthByOffset.size >= FRAMES_PER_PART_MAX && !part.lengthByOffset.has(frame.offset))
      throw new ClavigerError('limit_exceeded', `a part comes in at most ${FRAMES_PER_PART_MAX} frames`)
    part.data.set(frame.data, frame.offset)
    part.lengthByOffset.set(frame.offset, frame.data.length)
    if (frame.last) part.end = frame.offset + frame.data.length
    if (!isWhole(part)) return null
    this.#drop(peer, key)
    return part.data.subarray(0, part.end ?? 0)
  }

  /** Gives up parts that nobody goes on with. */
  sweep(): void {
    const before = this.#clock.now() - IDLE_MS_MAX
    for (const [peer, parts] of this.#byPeer) for (const [key, { at }] of parts) if (at < before) this.#drop(peer, key)
  }

  /** The session has ended. */
  remove(peer: Peer): void {
    this.#count -= this.#byPeer.get(peer)?.size ?? 0
    this.#byPeer.delete(peer)
  }

  #gathering(peer: Peer, key: string): Gathering {
    const parts = this.#byPeer.get(peer) ?? new Map<string, Gathering>()
    const known = parts.get(key)
    if (known !== undefined) return known
    if (parts.size >= PARTS_PER_SESSION_MAX)
      throw new ClavigerError('limit_exceeded', `at most ${PARTS_PER_SESSION_MAX} parts may be unfinished`)
    if (this.#count >= PARTS_PER_PROCESS_MAX) throw new ClavigerError('rate_limited', 'Too many uploads at once; try again shortly.')
    const part: Gathering = {
      data: new Uint8Array(BODY_PART_BYTES),
      lengthByOffset: new Map(),
      end: null,
      joined: 0,
      at: this.#clock.now(),
    }
    this.#byPeer.set(peer, parts.set(key, part))
    this.#count += 1
    return part
  }

  #drop(peer: Peer, key: string): void {
    const parts = this.#byPeer.get(peer)
    if (parts?.delete(key) !== true) return
    this.#count -= 1
    if (parts.size === 0) this.#byPeer.delete(peer)
  }
}

/** Whether the frames join without a gap from the start to the end. */
function isWhole(part: Gathering): boolean {
  while (part.joined !== part.end) {
    const length = part.lengthByOffset.get(part.joined) ?? 0
    if (length === 0) return false
    part.joined += length
  }
  return true
}
