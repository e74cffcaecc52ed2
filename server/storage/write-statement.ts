/**
 * The one statement of every write: fence, order, compare-and-set and all rows of k items in one trip.
 *
 * Its parts in the order their locks are taken: the group's row (`fence`), bodies, objects, loose DEKs by id. An item
 * whose condition fails writes nothing and is missing from `done`; its neighbours do not notice. The numbers of failed
 * items are skipped in the feed, which nobody can tell from a version that was overwritten.
 *
 * The statement sees the database as it was before it waited for the fence. That is safe: the two facts an item
 * rests on, the version it follows and the body it names, were committed before its client could know of them, and both
 * are checked again on the newest row when that row is written.
 */
import type { Statement } from './statement.ts'
import { statement } from './statement.ts'

/** No row: the fence did not hold. `done` are the ordinals (from 1) of the items that were written. */
export interface WriteRow {
  readonly base: number
  readonly done: readonly number[]
}

/** $1 group, $2 epoch, $3 head seq, $4 items, then the columns of {@link ITEMS}. */
const ITEMS = `x as materialized (
  select * from unnest($5::bytea[], $6::bigint[], $7::bytea[], $8::bytea[], $9::bytea[], $10::bytea[], $11::bytea[], $12::bytea[], $13::bigint[])
    with ordinality as x(object_id, expected, header, header_hash, author, seal, body, body_id, body_bytes, n))`

const FENCE = `fence as (
  update groups set change_seq = change_seq + $4 where group_id = $1 and epoch = $2 and head_seq = $3 and not rekey_owed
  returning change_seq - $4 as base)`

const COLUMNS = `group_id, object_id, version, generation, live, change_seq, header, header_hash, author, epoch, body, body_id, body_bytes`
const NEW_ROW = `$1, x.object_id, x.expected + 1, (x.expected + 1)::int, x.seal is not null, fence.base + x.n, x.header, x.header_hash,
  x.author, $2, x.body, x.body_id, x.body_bytes`

const INSERT_LOOSE = `loose as (
  insert into loose_deks (group_id, object_id, generation, epoch, seal)
  select $1, x.object_id, (x.expected + 1)::int, $2, x.seal from x join done using (object_id) where x.seal is not null)`

const RESULT = `select fence.base, array(select x.n from x join done using (object_id)) as done from fence`

/** Only new objects with inline bodies: most writes, and all of a bulk load. */
const CREATE_INLINE = `with ${ITEMS}, ${FENCE},
done as (insert into objects (${COLUMNS}) select ${NEW_ROW} from x, fence on conflict do nothing returning object_id),
${INSERT_LOOSE}
${RESULT}`

/** One new object, without arrays: small writes one by one, at 1.3 × the rate of the same as a list. */
const CREATE_ONE = `with fence as (
  update groups set change_seq = change_seq + 1 where group_id = $1 and epoch = $2 and head_seq = $3 and not rekey_owed
  returning change_seq - 1 as base),
done as (
  insert into objects (group_id, object_id, version, generation, live, change_seq, header, header_hash, author, epoch, body, body_bytes)
  select $1, $4, 1, 1, true, fence.base + 1, $5, $6, $7, $2, $9, $10 from fence on conflict do nothing returning object_id),
loose as (insert into loose_deks (group_id, object_id, generation, epoch, seal) select $1, object_id, 1, $2, $8 from done)
select fence.base, array(select 1::bigint from done) as done from fence`

const WRITE_ANY = `with ${ITEMS}, ${FENCE},
complete as materialized (
  select b.body_id from fence, x join bodies b on b.group_id = $1 and b.body_id = x.body_id
  where b.state = 'complete' and b.bytes = x.body_bytes order by b.body_id for update of b),
ready as materialized (
  select * from x where x.body_id is null or exists (select from complete c where c.body_id = x.body_id)),
old as materialized (
  select o.object_id, o.generation, o.body_id from fence, ready x join objects o on o.group_id = $1 and o.object_id = x.object_id
  where o.version = x.expected),
updated as (
  update objects o set version = x.expected + 1, generation = (x.expected + 1)::int, live = x.seal is not null, change_seq = fence.base + x.n,
    header = x.header, header_hash = x.header_hash, author = x.author, epoch = $2, body = x.body, body_id = x.body_id, body_bytes = x.body_bytes
  from fence, ready x where o.group_id = $1 and o.object_id = x.object_id and o.version = x.expected and x.expected > 0
  returning o.object_id),
inserted as (insert into objects (${COLUMNS}) select ${NEW_ROW} from ready x, fence where x.expected = 0 on conflict do nothing returning object_id),
done as materialized (select object_id from updated union all select object_id from inserted),
replaced as materialized (select old.* from old join updated using (object_id)),
dead as materialized (
  select l.object_id, l.generation from replaced r join loose_deks l on l.group_id = $1 and l.object_id = r.object_id and l.generation = r.generation
  order by l.object_id for update of l),
unseal as (delete from loose_deks l using dead where l.group_id = $1 and l.object_id = dead.object_id and l.generation = dead.generation),
heal as (delete from unopenable_deks u using replaced r where u.group_id = $1 and u.object_id = r.object_id and u.generation <= r.generation),
adopt as (
  update bodies b set state = 'live', since = now() from x join done using (object_id) where b.group_id = $1 and b.body_id = x.body_id),
release as (
  update bodies b set state = 'orphan', since = now() from replaced r where b.group_id = $1 and b.body_id = r.body_id),
${INSERT_LOOSE}
${RESULT}`

/** $1 group, $2 epoch, $3 head seq, $4 object, header, header hash, author, seal, body, $10 bytes of the body. */
export const createOne: Statement<WriteRow> = statement('write_create_one', CREATE_ONE)
export const createInline: Statement<WriteRow> = statement('write_create_inline', CREATE_INLINE)
export const writeAny: Statement<WriteRow> = statement('write_any', WRITE_ANY)
