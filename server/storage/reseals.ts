/**
 * Sealing a DEK loose again, and the seals a reader may fall back to.
 *
 * A writer who holds the DEK heals a bad seal by this. The new loose row shadows a page's entry of the same DEK; the next
 * replacement absorbs it. A seal it displaces is kept as superseded, so a bad reseal loses nothing.
 */
import type { PoolClient } from 'pg'
import { ClavigerError } from '../../shared/errors.ts'
import type { GroupId, ObjectId } from '../../shared/ids.ts'
import { asPageId } from '../../shared/ids.ts'
import { findEntry } from '../../shared/objects/page.ts'
import type { Database } from './database.ts'
import type { Fence } from './fence.ts'
import { fenceError } from './fence.ts'
import type { StoredDek } from './objects.ts'
import { all, execute, first, statement } from './statement.ts'
import { withStorageErrors } from './storage-error.ts'
import { transact } from './transaction.ts'

/** A DEK of the live generation, sealed alone under the fence's epoch. */
export interface Reseal extends Fence {
  readonly group: GroupId
  readonly object: ObjectId
  readonly generation: number
  readonly seal: Uint8Array
}

/** Seals a reader tries at most; the newest are the likeliest. */
const FALLBACKS_MAX = 8

/** As strong as a write's lock, so that the generation stays live until the seal is there. */
const LOCK_GROUP = statement(
  'reseal_lock_group',
  'select from groups where group_id = $1 and epoch = $2 and head_seq = $3 and not rekey_owed for no key update',
)
const IS_LIVE = statement('reseal_is_live', 'select from objects where group_id = $1 and object_id = $2 and generation = $3 and live')
const DISPLACE = statement(
  'reseal_displace',
  `with moved as (delete from loose_deks where group_id = $1 and object_id = $2 and generation = $3 returning *)
   insert into superseded_deks (group_id, object_id, generation, epoch, seal) select group_id, object_id, generation, epoch, seal from moved on conflict do nothing`,
)
const UNLIST = statement(
  'reseal_unlist',
  `with unlisted as (delete from unopenable_deks where group_id = $1 and object_id = $2 and generation = $3 returning *)
   insert into superseded_deks (group_id, object_id, generation, epoch, seal)
   select group_id, object_id, generation, epoch, seal from unlisted where seal is not null on conflict do nothing`,
)
const INSERT = statement(
  'reseal_insert',
  'insert into loose_deks (group_id, object_id, generation, epoch, seal) values ($1, $2, $3, $4, $5)',
)

const READ_SEALS = statement<{ epoch: number; seal: Uint8Array }>(
  'fallback_seals',
  `select epoch, seal from (
     select epoch, seal, superseded_at from superseded_deks where group_id = $1 and object_id = $2 and generation = $3
     union all select epoch, seal, now() from unopenable_deks where group_id = $1 and object_id = $2 and generation = $3 and seal is not null) seals
   order by epoch desc, superseded_at desc limit $4`,
)
const READ_PAGES = statement<{ page_id: Uint8Array; epoch: number; entries: Uint8Array; sealed: Uint8Array }>(
  'fallback_pages',
  `select page_id, epoch, entries, sealed from (
     select page_id, epoch, entries, sealed, now() as since from key_pages
       where group_id = $1 and lo <= $2 and (hi is null or hi > $2)
     union all select page_id, epoch, entries, sealed, superseded_at from superseded_pages
       where group_id = $1 and lo <= $2 and (hi is null or hi > $2)) pages
   order by epoch desc, since desc limit $3`,
)

/**
 * Seals the DEK of a live generation loose, and ends its listing as unopenable.
 *
 * @throws ClavigerError `stale_epoch`, `stale_head`, `rekey_owed`, `unknown_group`, `version_conflict` if the generation is not live.
 */
export function resealDek(database: Database, reseal: Reseal): Promise<void> {
  const { group, epoch, seq } = reseal
  return transact(database, async (connection) => {
    if ((await first(connection, LOCK_GROUP, [group, epoch, seq])) === null) throw await fenceError(connection, reseal)
    await replaceSeal(connection, reseal)
  })
}

async function replaceSeal(connection: PoolClient, { group, object, generation, epoch, seal }: Reseal): Promise<void> {
  if ((await first(connection, IS_LIVE, [group, object, generation])) === null) throw new ClavigerError('version_conflict')
  await execute(connection, DISPLACE, [group, object, generation])
  await execute(connection, UNLIST, [group, object, generation])
  await execute(connection, INSERT, [group, object, generation, epoch, seal])
}

/** Other seals of one DEK, newest epoch first: superseded ones, a listed one, pages that have or had it. */
export function readFallbackDeks(
  database: Database,
  group: GroupId,
  { object, generation }: { readonly object: ObjectId; readonly generation: number },
): Promise<StoredDek[]> {
  return withStorageErrors(async () => {
    const seals = await all(database.pool, READ_SEALS, [group, object, generation, FALLBACKS_MAX])
    const pages = await all(database.pool, READ_PAGES, [group, object, FALLBACKS_MAX])
    const fromPages = pages.filter(({ entries }) => findEntry(entries, object, generation) !== null)
    const found: StoredDek[] = [
      ...seals.map(({ epoch, seal }) => ({ kind: 'loose' as const, epoch, seal })),
      ...fromPages.map(({ page_id, epoch, entries, sealed }) => ({
        kind: 'page' as const,
        pageId: asPageId(page_id),
        epoch,
        entries,
        sealed,
      })),
    ]
    return found.sort((left, right) => epochOf(right) - epochOf(left)).slice(0, FALLBACKS_MAX)
  })
}

function epochOf(dek: StoredDek): number {
  return dek.kind === 'known' ? 0 : dek.epoch
}
