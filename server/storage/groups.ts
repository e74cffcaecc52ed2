/**
 * Groups: creation, and where each stands (head, epoch, cursor).
 *
 * A group's row in `groups` is its only lock and is taken first by every transaction that writes. Its three strengths:
 * writes update it (fence, order and cursor in one), rewraps hold it FOR KEY SHARE, commits FOR UPDATE.
 */
import type { PoolClient } from 'pg'
import { ClavigerError } from '../../shared/errors.ts'
import type { CommitHash, GroupId, IdentityId } from '../../shared/ids.ts'
import { asCommitHash, asGroupId, idKey } from '../../shared/ids.ts'
import type { CommitRow, EpochOpening, MemberChange, NewWrap } from './commit-rows.ts'
import { insertCommit, insertEpoch, insertWraps, writeMembers } from './commit-rows.ts'
import type { Database } from './database.ts'
import type { Connection } from './statement.ts'
import { all, execute, first, statement } from './statement.ts'
import { withStorageErrors } from './storage-error.ts'
import { transact } from './transaction.ts'

/** The state that every fence compares with. */
export interface GroupPosition {
  readonly seq: number
  readonly hash: CommitHash
  readonly epoch: number
  readonly rekeyOwed: boolean
  /** Every epoch up to this one is retired; −1 if none is. */
  readonly retiredThrough: number
  /** Cursor of the newest change. */
  readonly change: number
}

/** How far a group's log and feed have come. */
export interface GroupProgress {
  readonly seq: number
  readonly change: number
}

export interface Genesis {
  readonly group: GroupId
  readonly suite: number
  /** For quotas. */
  readonly createdBy: IdentityId
  readonly commit: CommitRow
  readonly opening: EpochOpening
  readonly wraps: readonly NewWrap[]
  readonly members: readonly MemberChange[]
  /** Fresh random bytes: the first key page, empty, covers the whole id space. */
  readonly pageId: Uint8Array
}

const INSERT_GROUP = statement(
  'group_insert',
  `insert into groups (group_id, suite, head_seq, head_hash, epoch, rekey_owed, change_seq, created_by)
   values ($1, $2, $3, $4, $5, false, 1, $6) on conflict do nothing`,
)
const INSERT_FIRST_PAGE = statement(
  'group_insert_page',
  `insert into key_pages (group_id, lo, hi, page_id, epoch, count, entries, sealed) values ($1, '', null, $2, $3, 0, '', '')`,
)
const READ_POSITION = statement<PositionRow>(
  'group_position',
  'select head_seq, head_hash, epoch, rekey_owed, retired_through, change_seq from groups where group_id = $1',
)
const READ_PROGRESS = statement<{ group_id: Uint8Array; head_seq: number; change_seq: number }>(
  'group_progress',
  'select group_id, head_seq, change_seq from groups where group_id = any($1::bytea[])',
)
const LIST_GROUPS = statement<{ group_id: Uint8Array }>(
  'group_list',
  'select group_id from identity_groups where identity_id = $1 order by group_id',
)
const COUNT_CREATED = statement<{ count: number }>('group_count_created', 'select count(*) as count from groups where created_by = $1')

interface PositionRow {
  head_seq: number
  head_hash: Uint8Array
  epoch: number
  rekey_owed: boolean
  retired_through: number
  change_seq: number
}

/**
 * Stores a new group whole.
 *
 * @returns the cursor of its first change.
 * @throws ClavigerError `group_exists`.
 */
export function createGroup(database: Database, genesis: Genesis): Promise<{ readonly change: number }> {
  return transact(database, async (connection) => {
    const { group, suite, commit, createdBy } = genesis
    const inserted = await execute(connection, INSERT_GROUP, [group, suite, commit.seq, commit.hash, commit.epoch, createdBy])
    if (inserted === 0) throw new ClavigerError('group_exists')
    await insertRows(connection, genesis)
    return { change: 1 }
  })
}

async function insertRows(connection: PoolClient, { group, commit, opening, wraps, members, pageId }: Genesis): Promise<void> {
  await insertCommit(connection, group, { ...commit, change: 1 })
  await insertEpoch(connection, group, { epoch: commit.epoch, seq: commit.seq, opening })
  await insertWraps(connection, group, { epoch: commit.epoch, seq: commit.seq, wraps })
  await writeMembers(connection, group, members)
  await execute(connection, INSERT_FIRST_PAGE, [group, pageId, commit.epoch])
}

/** Where a group stands, or null if there is none. */
export function readPosition(database: Database, group: GroupId): Promise<GroupPosition | null> {
  return withStorageErrors(() => positionOf(database.pool, group))
}

/** The same inside a transaction. */
export async function positionOf(connection: Connection, group: GroupId): Promise<GroupPosition | null> {
  const row = await first(connection, READ_POSITION, [group])
  return row === null ? null : toPosition(row)
}

/** How far many groups have come, by `idKey`: what the sweep compares, because notices may be lost. */
export function readProgress(database: Database, groups: readonly GroupId[]): Promise<ReadonlyMap<string, GroupProgress>> {
  return withStorageErrors(async () => {
    const rows = await all(database.pool, READ_PROGRESS, [groups])
    return new Map(rows.map((row) => [idKey(row.group_id), { seq: row.head_seq, change: row.change_seq }]))
  })
}

/** The groups an identity is an active member of: a hint, never an authority. */
export function listGroups(database: Database, identity: IdentityId): Promise<GroupId[]> {
  return withStorageErrors(async () => (await all(database.pool, LIST_GROUPS, [identity])).map((row) => asGroupId(row.group_id)))
}

/** How many groups an identity has created, for its quota. */
export function countCreatedGroups(database: Database, identity: IdentityId): Promise<number> {
  return withStorageErrors(async () => (await first(database.pool, COUNT_CREATED, [identity]))?.count ?? 0)
}

function toPosition(row: PositionRow): GroupPosition {
  return {
    seq: row.head_seq,
    hash: asCommitHash(row.head_hash),
    epoch: row.epoch,
    rekeyOwed: row.rekey_owed,
    retiredThrough: row.retired_through,
    change: row.change_seq,
  }
}
