/**
 * One session following one group.
 *
 * `behind`: pages after its cursor are being read for it. `live`: it gets each batch as it happens. `lagging`: its session
 * does not read fast enough; the cursor stays and is read on from later.
 */
import type { Peer } from '../peer.ts'

export type SubscriptionState = 'behind' | 'live' | 'lagging' | 'ended'

/** What of the feed somebody may see: depositors fold the log and see no objects. */
export type Audience = 'objects' | 'log'

export class Subscription {
  readonly peer: Peer
  state: SubscriptionState = 'behind'
  audience: Audience
  /** Everything up to this change has been sent. */
  cursor: number
  /** Commits up to this number are known to the client. */
  seq: number
  /** Whether pages are being read for it. */
  reading = false

  constructor(start: { readonly peer: Peer; readonly audience: Audience; readonly cursor: number; readonly seq: number }) {
    this.peer = start.peer
    this.audience = start.audience
    this.cursor = start.cursor
    this.seq = start.seq
  }
}
