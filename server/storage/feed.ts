/**
 * The feed of a group: commits and object headers in the order of their changes.
 *
 * One row an object keeps only its newest change, so overwritten versions vanish from the feed. Changes are numbered under
 * the lock of the group's row until commit: whoever sees number n sees every number below it.
 */
import type { CommitHash, GroupId, ObjectId } from '../../shared/ids.ts'
import { asCommitHash, asObjectId } from '../../shared/ids.ts'
import { CHANGES_PAGE_BYTES, CHANGES_PAGE_ITEMS } from '../../shared/limits.ts'
import type { Database } from './database.ts'
import { all, statement } from './statement.ts'
import { withStorageErrors } from './storage-error.ts'

/** One change. */
export type StoredChange =
  | { readonly kind: 'commit'; readonly change: number; readonly seq: number; readonly hash: CommitHash; readonly bytes: Uint8Array }
  | { readonly kind: 'header'; readonly change: number; readonly object: ObjectId; readonly header: Uint8Array }

/** All that is left of the changes in (from, to], oldest first. */
export interface FeedPage {
  readonly from: number
  readonly to: number
  /** Of the group at that moment: the page is the last one if `to` is equal. */
  readonly change: number
  readonly seq: number
  readonly items: readonly StoredChange[]
}

/** Where to read on. */
export interface FeedRequest {
  /** Changes up to here are known. */
  readonly cursor: number
  /** Commits up to here are known, whatever their change. */
  readonly seq: number
  readonly itemsMax?: number
  readonly bytesMax?: number
}

interface FeedRow {
  head_seq: number
  group_change: number
  is_cut: boolean
  change_seq: number | null
  seq: number | null
  name: Uint8Array
  bytes: Uint8Array
}

/** Both kinds are cut to one item more than fits, joined, and cut again by number and bytes; the first always comes. */
const READ_FEED = statement<FeedRow>(
  'feed_read',
  `with changes as (
     (select change_seq, seq, hash as name, bytes from commits where group_id = $1 and seq > $3 and change_seq > $2 order by seq limit $4 + 1)
     union all
     (select change_seq, null::bigint, object_id, header from objects where group_id = $1 and change_seq > $2 order by change_seq limit $4 + 1)),
   measured as (
     select *, row_number() over (order by change_seq) as n, sum(octet_length(bytes)) over (order by change_seq) as total from changes)
   select g.head_seq, g.change_seq as group_change, exists (select from measured where n > 1 and (n > $4 or total > $5)) as is_cut,
     m.change_seq, m.seq, m.name, m.bytes
   from groups g left join measured m on m.n = 1 or (m.n <= $4 and m.total <= $5)
   where g.group_id = $1 order by m.change_seq`,
)

/** The next page after a cursor, or null if there is no such group. */
export function readFeed(database: Database, group: GroupId, request: FeedRequest): Promise<FeedPage | null> {
  const { cursor, seq, itemsMax = CHANGES_PAGE_ITEMS, bytesMax = CHANGES_PAGE_BYTES } = request
  return withStorageErrors(async () => {
    const rows = await all(database.pool, READ_FEED, [group, cursor, seq, itemsMax, bytesMax])
    const [group_] = rows
    if (group_ === undefined) return null
    const items = rows.flatMap(toChange)
    const to = group_.is_cut ? (items.at(-1)?.change ?? cursor) : Math.max(cursor, group_.group_change)
    return { from: cursor, to, change: group_.group_change, seq: group_.head_seq, items }
  })
}

function toChange(row: FeedRow): StoredChange[] {
  if (row.change_seq === null) return []
  const { change_seq: change, name, bytes } = row
  if (row.seq === null) return [{ kind: 'header', change, object: asObjectId(name), header: bytes }]
  return [{ kind: 'commit', change, seq: row.seq, hash: asCommitHash(name), bytes }]
}
