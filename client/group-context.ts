/** What the parts of one group share: the line to the server, who we are, where things are kept, time and chance. */
import type { GroupId } from '../shared/ids.ts'
import type { GroupChange } from './changes.ts'
import type { Connection } from './connection.ts'
import type { GroupStore } from './group-store.ts'
import type { Identity } from './identity.ts'

/** What the parts of a group use of a connection. */
export type Line = Pick<Connection, 'on' | 'request' | 'serverTime' | 'session' | 'whenOpen'>

export interface GroupContext {
  readonly group: GroupId
  readonly connection: Line
  readonly identity: Identity
  readonly store: GroupStore
  /** Milliseconds since 1970, by this machine. */
  readonly now: () => number
  /** Uniform in [0, 1): jitter and samples, never keys. */
  readonly random: () => number
  readonly emit: (change: GroupChange) => void
  /** Counts what a test or a report wants to know. */
  readonly counters: GroupCounters
  /** How long background work waits at most before it starts, in ms: spreads the members of a group. */
  readonly jitterMs: number
}

/** What this client did since it started. */
export interface GroupCounters {
  wrapsOpened: number
  linksOpened: number
  commitsFolded: number
  snapshotsTaken: number
  headersChecked: number
}
