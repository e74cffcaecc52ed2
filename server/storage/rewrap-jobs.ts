/**
 * Rewrap jobs: how much there is to move to an epoch, how much is done, and who is at it.
 *
 * The total is counted once, when the first admin's client starts; each replacement adds what it moved. The lease only
 * avoids double work, correctness never needs it.
 */
import type { PoolClient } from 'pg'
import type { GroupId } from '../../shared/ids.ts'
import { REWRAP_LEASE_MS } from '../../shared/limits.ts'
import type { Database } from './database.ts'
import { fenceError } from './fence.ts'
import type { Fence } from './fence.ts'
import { execute, first, statement } from './statement.ts'
import { withStorageErrors } from './storage-error.ts'
import { transact } from './transaction.ts'

export interface RewrapProgress {
  readonly epoch: number
  /** DEKs that were under older epochs when the job started. */
  readonly total: number
  readonly done: number
}

/** What is sealed where. */
export interface RewrapStatus {
  readonly epoch: number
  readonly seq: number
  /** The oldest epoch that still seals something; the current one if nothing is older. */
  readonly oldestSealed: number
  /** Pages with entries, and loose seals, under older epochs. */
  readonly oldPages: number
  readonly oldLoose: number
  readonly pages: number
  readonly loose: number
  /** Page entries that nothing needs any more; an estimate while DEKs are both loose and in a page. */
  readonly deadInPages: number
  /** Live DEKs that are listed as unopenable. */
  readonly unopenable: number
}

const HOLD_EPOCH = statement('rewrap_hold_epoch', 'select from groups where group_id = $1 and epoch = $2 and head_seq = $3 for key share')
const CREATE_JOB = statement(
  'rewrap_create_job',
  `insert into rewrap_jobs (group_id, epoch, total)
   select $1, $2, (select coalesce(sum(count), 0) from key_pages where group_id = $1 and epoch < $2) + (select count(*) from loose_deks where group_id = $1 and epoch < $2)
   where not exists (select from rewrap_jobs where group_id = $1 and epoch = $2) on conflict do nothing`,
)
const TAKE_LEASE = statement(
  'rewrap_take_lease',
  `update rewrap_jobs set lease_owner = $3, lease_until = now() + $4 * interval '1 millisecond'
   where group_id = $1 and epoch = $2 and (lease_owner is null or lease_owner = $3 or lease_until < now())`,
)
const END_LEASES = statement('rewrap_end_leases', 'update rewrap_jobs set lease_owner = null where group_id = $1 and lease_owner = $2')
const READ_JOB = statement<{ total: number; done: number }>(
  'rewrap_read_job',
  'select total, done from rewrap_jobs where group_id = $1 and epoch = $2',
)
const ADD_DONE = statement<{ total: number; done: number }>(
  'rewrap_add_done',
  `update rewrap_jobs set done = least(total, done + $3), lease_until = case when lease_owner = $4 then now() + $5 * interval '1 millisecond' else lease_until end
   where group_id = $1 and epoch = $2 returning total, done`,
)
const FINISH = statement('rewrap_finish', 'update rewrap_jobs set done = total where group_id = $1 and epoch = $2 and done < total')
const READ_STATUS = statement<StatusRow>(
  'rewrap_status',
  `with listed as materialized (select * from unopenable_deks where group_id = $1),
   open as materialized (select * from loose_deks where group_id = $1)
   select g.epoch, g.head_seq, least(k.oldest, l.oldest) as oldest, k.old_pages, l.old_loose, k.pages, l.loose, k.entries, o.live, l.live_loose, u.unopenable
   from groups g
   cross join lateral (
     select min(epoch) filter (where count > 0) as oldest, count(*) filter (where count > 0 and epoch < g.epoch) as old_pages,
       count(*) as pages, coalesce(sum(count), 0)::bigint as entries from key_pages where group_id = $1) k
   cross join lateral (
     select min(l.epoch) as oldest, count(*) filter (where l.epoch < g.epoch) as old_loose, count(*) as loose, count(o.object_id) as live_loose
     from open l left join objects o on o.group_id = l.group_id and o.object_id = l.object_id and o.generation = l.generation and o.live) l
   cross join (select count(*) as live from objects where group_id = $1 and live) o
   cross join (
     select count(*) as unopenable from listed u
     join objects o on o.group_id = u.group_id and o.object_id = u.object_id and o.generation = u.generation and o.live) u
   where g.group_id = $1`,
)

interface StatusRow {
  epoch: number
  head_seq: number
  oldest: number | null
  old_pages: number
  old_loose: number
  pages: number
  loose: number
  entries: number
  live: number
  live_loose: number
  unopenable: number
}

/**
 * Starts or joins the job that moves everything to the current epoch.
 *
 * @param asked - `owner`: random, of one client's run.
 * @returns the progress, and whether `owner` now holds the lease.
 * @throws ClavigerError `stale_epoch`, `stale_head`, `unknown_group`.
 */
export function startRewrap(
  database: Database,
  asked: Fence & { readonly group: GroupId; readonly owner: Uint8Array },
): Promise<RewrapProgress & { readonly leased: boolean }> {
  const { group, epoch, seq, owner } = asked
  return transact(database, async (connection) => {
    if ((await first(connection, HOLD_EPOCH, [group, epoch, seq])) === null) throw await fenceError(connection, asked)
    await execute(connection, CREATE_JOB, [group, epoch])
    const leased = (await execute(connection, TAKE_LEASE, [group, epoch, owner, REWRAP_LEASE_MS])) > 0
    const job = await first(connection, READ_JOB, [group, epoch])
    return { epoch, total: job?.total ?? 0, done: job?.done ?? 0, leased }
  })
}

/** Lets go of every lease that `owner` holds in a group. */
export function endLeases(database: Database, group: GroupId, owner: Uint8Array): Promise<void> {
  return withStorageErrors(async () => {
    await execute(database.pool, END_LEASES, [group, owner])
  })
}

/** Adds what a replacement moved. Without a job (a compaction) there is nothing to count. */
export async function addDone(
  connection: PoolClient,
  { group, epoch, leaseOwner }: { readonly group: GroupId; readonly epoch: number; readonly leaseOwner: Uint8Array | null },
  moved: number,
): Promise<RewrapProgress> {
  const row = await first(connection, ADD_DONE, [group, epoch, moved, leaseOwner, REWRAP_LEASE_MS])
  return { epoch, total: row?.total ?? 0, done: row?.done ?? 0 }
}

/** What is sealed where. A job with nothing left under older epochs is marked done: writes may have taken the rest. */
export function readRewrapStatus(database: Database, group: GroupId): Promise<RewrapStatus | null> {
  return withStorageErrors(async () => {
    const row = await first(database.pool, READ_STATUS, [group])
    if (row === null) return null
    if (row.old_pages === 0 && row.old_loose === 0) await execute(database.pool, FINISH, [group, row.epoch])
    return toStatus(row)
  })
}

/** The job of an epoch, or null. */
export function readRewrapProgress(database: Database, group: GroupId, epoch: number): Promise<RewrapProgress | null> {
  return withStorageErrors(async () => {
    const row = await first(database.pool, READ_JOB, [group, epoch])
    return row === null ? null : { epoch, total: row.total, done: row.done }
  })
}

function toStatus(row: StatusRow): RewrapStatus {
  const neededInPages = Math.max(0, row.live - row.live_loose)
  return {
    epoch: row.epoch,
    seq: row.head_seq,
    oldestSealed: Math.min(row.oldest ?? row.epoch, row.epoch),
    oldPages: row.old_pages,
    oldLoose: row.old_loose,
    pages: row.pages,
    loose: row.loose,
    deadInPages: Math.max(0, row.entries - neededInPages),
    unopenable: row.unopenable,
  }
}
