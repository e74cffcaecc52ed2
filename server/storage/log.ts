/** Reading the group log: pages of commits, single commits and the hashes that Merkle proofs are made of. */
import type { CommitHash, GroupId, Head } from '../../shared/ids.ts'
import { asCommitHash, HASH_BYTES } from '../../shared/ids.ts'
import { LOG_PAGE_BYTES, LOG_PAGE_COMMITS } from '../../shared/limits.ts'
import type { Database } from './database.ts'
import { all, first, statement } from './statement.ts'
import { withStorageErrors } from './storage-error.ts'

/** A commit with its place in the feed. */
export interface StoredCommit {
  readonly seq: number
  readonly hash: CommitHash
  readonly bytes: Uint8Array
  /** The epoch after it. */
  readonly epoch: number
  readonly change: number
}

/** A run of commits, and the head of the same moment. */
export interface LogPage {
  readonly head: Head
  readonly commits: readonly StoredCommit[]
}

interface CommitRow {
  seq: number
  hash: Uint8Array
  bytes: Uint8Array
  epoch: number
  change_seq: number
}

interface LogRow {
  head_seq: number
  head_hash: Uint8Array
  seq: number | null
  hash: Uint8Array
  bytes: Uint8Array
  epoch: number
  change_seq: number
}

/** The first commit always comes, so that a reader moves on whatever its size. */
const READ_LOG = statement<LogRow>(
  'log_read',
  `select g.head_seq, g.head_hash, c.seq, c.hash, c.bytes, c.epoch, c.change_seq from groups g
   left join lateral (
     select * from (
       select seq, hash, bytes, epoch, change_seq, sum(octet_length(bytes)) over (order by seq) as total
       from (select * from commits where group_id = $1 and seq >= $2 order by seq limit $3) page) measured
     where total <= $4 or seq = $2) c on true
   where g.group_id = $1 order by c.seq`,
)
const READ_COMMIT = statement<CommitRow>(
  'log_read_one',
  'select seq, hash, bytes, epoch, change_seq from commits where group_id = $1 and seq = $2',
)
const READ_HASH = statement<{ hash: Uint8Array }>('log_read_hash', 'select hash from commits where group_id = $1 and seq = $2')
const READ_HASHES = statement<{ hashes: Uint8Array | null }>(
  'log_read_hashes',
  `select string_agg(hash, ''::bytea order by seq) as hashes from commits where group_id = $1 and seq >= $2 and seq < $3`,
)

/**
 * Commits from `from` on, oldest first, bounded by number and bytes.
 *
 * @returns null if there is no such group.
 */
export function readLog(
  database: Database,
  group: GroupId,
  {
    from,
    commitsMax = LOG_PAGE_COMMITS,
    bytesMax = LOG_PAGE_BYTES,
  }: { readonly from: number; readonly commitsMax?: number; readonly bytesMax?: number },
): Promise<LogPage | null> {
  return withStorageErrors(async () => {
    const rows = await all(database.pool, READ_LOG, [group, from, commitsMax, bytesMax])
    const [head] = rows
    if (head === undefined) return null
    const commits = rows.flatMap(({ seq, ...row }) => (seq === null ? [] : [toCommit({ ...row, seq })]))
    return { head: { seq: head.head_seq, hash: asCommitHash(head.head_hash) }, commits }
  })
}

/** One commit, or null. */
export function readCommit(database: Database, group: GroupId, seq: number): Promise<StoredCommit | null> {
  return withStorageErrors(async () => {
    const row = await first(database.pool, READ_COMMIT, [group, seq])
    return row === null ? null : toCommit(row)
  })
}

/** The hash of commit `seq`, or null: what a header's `at` is compared with. */
export function readCommitHash(database: Database, group: GroupId, seq: number): Promise<CommitHash | null> {
  return withStorageErrors(async () => {
    const row = await first(database.pool, READ_HASH, [group, seq])
    return row === null ? null : asCommitHash(row.hash)
  })
}

/** The hashes of commits `from` to `to` (exclusive): the leaves of Merkle proofs. */
export function readCommitHashes(
  database: Database,
  group: GroupId,
  { from, to }: { readonly from: number; readonly to: number },
): Promise<CommitHash[]> {
  return withStorageErrors(async () => {
    const packed = (await first(database.pool, READ_HASHES, [group, from, to]))?.hashes ?? new Uint8Array(0)
    const count = packed.length / HASH_BYTES
    return Array.from({ length: count }, (_, index) => asCommitHash(packed.slice(index * HASH_BYTES, (index + 1) * HASH_BYTES)))
  })
}

function toCommit(row: CommitRow): StoredCommit {
  return { seq: row.seq, hash: asCommitHash(row.hash), bytes: row.bytes, epoch: row.epoch, change: row.change_seq }
}
