/**
 * DEKs that do not open, listed so that they do not block retiring for ever.
 *
 * A loose seal moves into the list. An entry of a page stays in its page, where other readers may still open it, and the
 * list allows the next replacement of that page to drop it. The next write of the object, or a reseal, ends the listing.
 */
import { ClavigerError } from '../../shared/errors.ts'
import type { GroupId, IdentityId } from '../../shared/ids.ts'
import { asObjectId } from '../../shared/ids.ts'
import type { Pair } from '../../shared/objects/page.ts'
import type { Database } from './database.ts'
import type { Fence } from './fence.ts'
import { fenceError } from './fence.ts'
import { all, first, statement } from './statement.ts'
import { withStorageErrors } from './storage-error.ts'
import { transact } from './transaction.ts'

const LOCK_GROUP = statement(
  'unopenable_lock_group',
  'select from groups where group_id = $1 and epoch = $2 and head_seq = $3 for no key update',
)
/** Only live DEKs: a dead one hinders nobody. */
const LIST = statement<PairRow>(
  'unopenable_list',
  `with x as materialized (select $1::bytea as group_id, u.* from unnest($2::bytea[], $3::int[]) as u(object_id, generation)),
   asked as materialized (
     select x.* from x join objects o on o.group_id = x.group_id and o.object_id = x.object_id and o.generation = x.generation and o.live),
   locked as materialized (
     select l.group_id, l.object_id, l.generation from asked
     join loose_deks l on l.group_id = asked.group_id and l.object_id = asked.object_id and l.generation = asked.generation
     order by l.object_id, l.generation for update of l),
   moved as (
     delete from loose_deks l using locked
     where l.group_id = locked.group_id and l.object_id = locked.object_id and l.generation = locked.generation
     returning l.object_id, l.generation, l.epoch, l.seal)
   insert into unopenable_deks (group_id, object_id, generation, epoch, seal, reported_by)
   select asked.group_id, asked.object_id, asked.generation, coalesce(moved.epoch, page.epoch), moved.seal, $4
   from asked left join moved using (object_id, generation)
   left join lateral (select k.epoch from key_pages k where k.group_id = $1 and k.lo <= asked.object_id order by k.lo desc limit 1) page on true
   on conflict (group_id, object_id, generation) do update set epoch = excluded.epoch, seal = excluded.seal, reported_by = excluded.reported_by
     where excluded.seal is not null
   returning object_id, generation`,
)
const READ = statement<PairRow>(
  'unopenable_read',
  `with listed as materialized (select * from unopenable_deks where group_id = $1)
   select u.object_id, u.generation from listed u
   join objects o on o.group_id = u.group_id and o.object_id = u.object_id and o.generation = u.generation and o.live
   order by u.object_id limit $2`,
)

interface PairRow {
  object_id: Uint8Array
  generation: number
}

/**
 * Lists DEKs that an admin could not open.
 *
 * @returns those newly listed: live, and not listed before.
 * @throws ClavigerError `stale_epoch`, `stale_head`, `unknown_group`.
 */
export function reportUnopenable(
  database: Database,
  report: Fence & { readonly group: GroupId; readonly reportedBy: IdentityId; readonly deks: readonly Pair[] },
): Promise<Pair[]> {
  const { group, epoch, seq, deks, reportedBy } = report
  if (deks.some(({ generation }) => generation > 0x7fff_ffff)) throw new ClavigerError('malformed', 'generations must be below 2^31')
  return transact(database, async (connection) => {
    if ((await first(connection, LOCK_GROUP, [group, epoch, seq])) === null) throw await fenceError(connection, report)
    const rows = await all(connection, LIST, [
      group,
      deks.map(({ object }) => object),
      deks.map(({ generation }) => generation),
      reportedBy,
    ])
    return rows.map(toPair)
  })
}

/** Live DEKs that are listed. */
export function readUnopenable(database: Database, group: GroupId, limit: number): Promise<Pair[]> {
  return withStorageErrors(async () => (await all(database.pool, READ, [group, limit])).map(toPair))
}

function toPair(row: PairRow): Pair {
  return { object: asObjectId(row.object_id), generation: row.generation }
}
