/**
 * Accepting commits: compare-and-set on the head, with everything the commit brings, in one transaction.
 *
 * FOR UPDATE waits for writes (which update the row) and for rewraps (which hold it FOR KEY SHARE), and both wait for
 * it: after a commit that opens an epoch nothing more arrives under the old one.
 */
import type { PoolClient } from 'pg'
import { ClavigerError } from '../../shared/errors.ts'
import type { CommitHash, GroupId } from '../../shared/ids.ts'
import type { CommitRow, EpochOpening, MemberChange, NewWrap } from './commit-rows.ts'
import { insertCommit, insertEpoch, insertWraps, writeMembers } from './commit-rows.ts'
import type { Database } from './database.ts'
import { positionOf } from './groups.ts'
import { retireThrough } from './retire.ts'
import { first, statement } from './statement.ts'
import { transact } from './transaction.ts'

/** A commit the referee has folded and verified on top of `parent`. */
export interface AcceptedCommit {
  readonly group: GroupId
  readonly parent: CommitHash
  readonly commit: CommitRow
  readonly suite: number
  readonly rekeyOwed: boolean
  /** Set exactly if the commit opens `commit.epoch`. */
  readonly opening: EpochOpening | null
  /** Of `commit.epoch`: all recipients' with a new epoch, else those of new recipients. */
  readonly wraps: readonly NewWrap[]
  readonly members: readonly MemberChange[]
  /** Retires every epoch up to this one; null for none. */
  readonly retireThrough: number | null
}

const ADVANCE_HEAD = statement<{ change_seq: number }>(
  'commit_advance_head',
  `with locked as materialized (select group_id from groups where group_id = $1 and head_hash = $2 and head_seq = $3 - 1 for update)
   update groups g set head_seq = $3, head_hash = $4, epoch = $5, rekey_owed = $6, suite = $7, change_seq = g.change_seq + 1
   from locked where g.group_id = locked.group_id returning g.change_seq`,
)

/**
 * Stores a commit if its parent still is the head.
 *
 * @returns the commit's place in the feed.
 * @throws ClavigerError `stale_head` (data: the head `{seq, hash}` and epoch), `not_retirable`, `unknown_group`.
 */
export function acceptCommit(database: Database, accepted: AcceptedCommit): Promise<{ readonly change: number }> {
  return transact(database, async (connection) => {
    const change = await advanceHead(connection, accepted)
    await insertRows(connection, accepted, change)
    if (accepted.retireThrough !== null)
      await retireThrough(connection, accepted.group, { through: accepted.retireThrough, epoch: accepted.commit.epoch })
    return { change }
  })
}

async function advanceHead(connection: PoolClient, accepted: AcceptedCommit): Promise<number> {
  const { group, parent, commit, rekeyOwed, suite } = accepted
  const row = await first(connection, ADVANCE_HEAD, [group, parent, commit.seq, commit.hash, commit.epoch, rekeyOwed, suite])
  if (row !== null) return row.change_seq
  const head = await positionOf(connection, group)
  if (head === null) throw new ClavigerError('unknown_group')
  throw new ClavigerError('stale_head', undefined, { data: { seq: head.seq, hash: head.hash, epoch: head.epoch } })
}

async function insertRows(
  connection: PoolClient,
  { group, commit, opening, wraps, members }: AcceptedCommit,
  change: number,
): Promise<void> {
  await insertCommit(connection, group, { ...commit, change })
  if (opening !== null) await insertEpoch(connection, group, { epoch: commit.epoch, seq: commit.seq, opening })
  await insertWraps(connection, group, { epoch: commit.epoch, seq: commit.seq, wraps })
  await writeMembers(connection, group, members)
}
