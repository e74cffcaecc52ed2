/**
 * Retiring epochs: their wraps, every link that contains them, every seal under them are deleted.
 *
 * Runs inside the commit that says so, in statements after the one that took the group's row FOR UPDATE: whoever wrote
 * under these epochs has committed before, and is seen. Bytes stay in dead tuples, WAL and backups until these expire.
 */
import type { Client, PoolClient } from 'pg'
import { ClavigerError } from '../../shared/errors.ts'
import type { GroupId } from '../../shared/ids.ts'
import { execute, first, statement } from './statement.ts'
import { withStorageErrors } from './storage-error.ts'

/** An empty page seals nothing: it only has to stop naming an old epoch. */
const RESTAMP_EMPTY_PAGES = statement('retire_restamp', 'update key_pages set epoch = $3 where group_id = $1 and epoch <= $2 and count = 0')
const FIND_NEEDED = statement<{ pages: boolean; loose: boolean }>(
  'retire_find_needed',
  `select exists (select from key_pages where group_id = $1 and epoch <= $2) as pages,
     exists (select from loose_deks where group_id = $1 and epoch <= $2) as loose`,
)
const MARK_GROUP = statement(
  'retire_mark_group',
  'update groups set retired_through = $2 where group_id = $1 and retired_through < $2 and epoch > $2',
)
const DELETIONS = [
  statement('retire_wraps', 'delete from wraps where group_id = $1 and epoch <= $2'),
  statement('retire_wrap_requests', 'delete from wrap_requests where group_id = $1 and epoch <= $2'),
  statement('retire_links', 'delete from links where group_id = $1 and link_to <= $2'),
  statement('retire_superseded_deks', 'delete from superseded_deks where group_id = $1 and epoch <= $2'),
  statement('retire_superseded_pages', 'delete from superseded_pages where group_id = $1 and epoch <= $2'),
  // The listing stays: it says why the object cannot be read.
  statement('retire_unopenable', 'update unopenable_deks set seal = null where group_id = $1 and epoch <= $2 and seal is not null'),
  statement('retire_jobs', 'delete from rewrap_jobs where group_id = $1 and epoch <= $2'),
  statement('retire_epochs', `update epochs set retired = true, enc = '' where group_id = $1 and epoch <= $2 and not retired`),
]

/**
 * Deletes all that opens with the epochs up to `through`.
 *
 * @param retired - `epoch` is the current one, which is never retired.
 * @throws ClavigerError `not_retirable` (data: what still needs one of them).
 */
export async function retireThrough(
  connection: PoolClient,
  group: GroupId,
  retired: { readonly through: number; readonly epoch: number },
): Promise<void> {
  const { through, epoch } = retired
  await execute(connection, RESTAMP_EMPTY_PAGES, [group, through, epoch])
  const needed = await first(connection, FIND_NEEDED, [group, through])
  if (needed === null || needed.pages || needed.loose) throw new ClavigerError('not_retirable', undefined, { data: { ...needed } })
  if ((await execute(connection, MARK_GROUP, [group, through])) === 0)
    throw new ClavigerError('not_retirable', 'The epoch is current or already retired.')
  for (const deletion of DELETIONS) await execute(connection, deletion, [group, through])
}

/**
 * Frees what a retire deleted; it may run at any time and only shortens how long the bytes stay in the data files.
 *
 * @param client - a connection of its own, not yet connected: it takes as long as the tables are large.
 */
export function vacuumRetired(client: Client): Promise<void> {
  return withStorageErrors(async () => {
    await client.connect()
    await client.query('set statement_timeout = 0')
    await client.query('vacuum wraps, links, loose_deks, superseded_deks, key_pages, superseded_pages')
  })
}
