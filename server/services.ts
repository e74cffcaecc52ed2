/** What handlers work with: the parts of one server, made once in `server.ts`. */
import type { Access } from './access.ts'
import type { Audit } from './audit.ts'
import type { BodyUploads } from './body-uploads.ts'
import type { Clock } from './clock.ts'
import type { CommitHashes } from './commit-hashes.ts'
import type { CommitTrees } from './commit-trees.ts'
import type { Groups } from './groups.ts'
import type { Log } from './log.ts'
import type { Metrics } from './metrics.ts'
import type { Referee } from './referee.ts'
import type { Relay } from './relay/relay.ts'
import type { BodyStore } from './storage/body-store.ts'
import type { RetiredSpace } from './retired-space.ts'
import type { RewrapLeases } from './rewrap-leases.ts'
import type { RewrapStatuses } from './rewrap-statuses.ts'
import type { WriteCombiner } from './storage/combiner.ts'
import type { Database } from './storage/database.ts'

export interface Services {
  readonly database: Database
  readonly clock: Clock
  readonly log: Log
  readonly metrics: Metrics
  readonly groups: Groups
  readonly access: Access
  readonly hashes: CommitHashes
  readonly trees: CommitTrees
  readonly referee: Referee
  readonly relay: Relay
  readonly writes: WriteCombiner
  readonly bodies: BodyStore
  readonly uploads: BodyUploads
  readonly audit: Audit
  readonly retired: RetiredSpace
  readonly leases: RewrapLeases
  readonly statuses: RewrapStatuses
}
