/** Stored rosters: they save the fold from genesis, and let a client that was away jump ahead. */
import type { GroupId, PrincipalId } from '../../shared/ids.ts'
import { asIdentityId } from '../../shared/ids.ts'
import type { Database } from './database.ts'
import { all, execute, first, statement } from './statement.ts'
import { withStorageErrors } from './storage-error.ts'

/** A stored roster's commit, without the roster. */
export interface SnapshotName {
  readonly seq: number
  /** Author of commit `seq`: what the snapshot is worth to a client depends on who that is. */
  readonly author: PrincipalId
}

const INSERT = statement(
  'snapshot_insert',
  'insert into snapshots (group_id, seq, author, roster) values ($1, $2, $3, $4) on conflict do nothing',
)
const LIST = statement<{ seq: number; author: Uint8Array }>(
  'snapshot_list',
  'select seq, author from snapshots where group_id = $1 and seq > $2 order by seq desc limit $3',
)
const READ = statement<{ roster: Uint8Array }>('snapshot_read', 'select roster from snapshots where group_id = $1 and seq = $2')
const READ_NEWEST = statement<{ seq: number; roster: Uint8Array }>(
  'snapshot_read_newest',
  'select seq, roster from snapshots where group_id = $1 and seq <= $2 order by seq desc limit 1',
)

/** Stores the roster after commit `seq`; the fold is deterministic, so a second one is the same. */
export function storeSnapshot(database: Database, group: GroupId, snapshot: SnapshotName & { readonly roster: Uint8Array }): Promise<void> {
  return withStorageErrors(async () => void (await execute(database.pool, INSERT, [group, snapshot.seq, snapshot.author, snapshot.roster])))
}

/** Snapshots of commits after `after`, newest first. */
export function listSnapshots(
  database: Database,
  group: GroupId,
  { after, limit }: { readonly after: number; readonly limit: number },
): Promise<SnapshotName[]> {
  return withStorageErrors(async () => {
    const rows = await all(database.pool, LIST, [group, after, limit])
    return rows.map((row) => ({ seq: row.seq, author: asIdentityId(row.author) }))
  })
}

/** The encoded roster exactly after commit `seq`, or null. */
export function readSnapshot(database: Database, group: GroupId, seq: number): Promise<Uint8Array | null> {
  return withStorageErrors(async () => (await first(database.pool, READ, [group, seq]))?.roster ?? null)
}

/** The newest roster at or before commit `seq`, to fold on from. */
export function readSnapshotBefore(
  database: Database,
  group: GroupId,
  seq: number,
): Promise<{ readonly seq: number; readonly roster: Uint8Array } | null> {
  return withStorageErrors(() => first(database.pool, READ_NEWEST, [group, seq]))
}
