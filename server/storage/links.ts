/** Links: an older epoch secret sealed under a newer one. Append-only, at most four for each pair; the commitment judges. */
import type { GroupId, PrincipalId } from '../../shared/ids.ts'
import { LINKS_PER_PAIR_MAX } from '../../shared/limits.ts'
import type { Database } from './database.ts'
import { offer } from './offer.ts'
import { all, execute, first, statement } from './statement.ts'
import { withStorageErrors } from './storage-error.ts'
import { transact } from './transaction.ts'

export interface Link {
  /** The newer epoch, whose secret opens it. */
  readonly epoch: number
  /** The older epoch, whose secret is inside. */
  readonly to: number
  readonly link: Uint8Array
}

const READ = statement<{ epoch: number; link_to: number; link: Uint8Array }>(
  'link_read',
  `select epoch, link_to, link from links where group_id = $1 and epoch <= $2 and link_to >= $3
   order by epoch desc, link_to desc, n limit $4`,
)
const COUNT = statement<{ offered: number; same: boolean | null; own: boolean | null }>(
  'link_count',
  'select count(*) as offered, bool_or(link = $4) as same, bool_or(offerer = $5) as own from links where group_id = $1 and epoch = $2 and link_to = $3',
)
const INSERT = statement('link_offer', 'insert into links (group_id, epoch, link_to, n, link, offerer) values ($1, $2, $3, $4, $5, $6)')

/** Links from `epoch` downwards that contain no epoch below `downTo`, newest first. */
export function readLinks(
  database: Database,
  group: GroupId,
  asked: { readonly epoch: number; readonly downTo: number; readonly limit?: number },
): Promise<Link[]> {
  return withStorageErrors(async () => {
    const rows = await all(database.pool, READ, [group, asked.epoch, asked.downTo, asked.limit ?? 16_384])
    return rows.map((row) => ({ epoch: row.epoch, to: row.link_to, link: row.link }))
  })
}

/**
 * Adds a link beside those there are.
 *
 * @param offered - `seq` is the head at which the offer was judged.
 * @throws ClavigerError `stale_head`, `epoch_retired`, `limit_exceeded` after four, or one of the same offerer.
 */
export function offerLink(
  database: Database,
  group: GroupId,
  { epoch, to, link, seq, offerer }: Link & { readonly seq: number; readonly offerer: PrincipalId },
): Promise<void> {
  if (to >= epoch) throw new RangeError(`a link must go to an older epoch, got ${epoch} to ${to}`)
  return transact(database, (connection) =>
    offer(
      connection,
      { group, target: to, countMax: LINKS_PER_PAIR_MAX, seq },
      {
        count: () => first(connection, COUNT, [group, epoch, to, link, offerer]),
        insert: (n) => execute(connection, INSERT, [group, epoch, to, n, link, offerer]),
      },
    ),
  )
}
