/**
 * Wraps of epoch secrets: read, asked for, offered. Append-only, at most four each: the commitment inside the signed
 * commit says which is good, so a bad one never replaces a good one.
 */
import { ClavigerError } from '../../shared/errors.ts'
import type { GroupId, PrincipalId } from '../../shared/ids.ts'
import type { KemKeyId } from '../../shared/crypto/keys.ts'
import { asKemKeyId } from '../../shared/crypto/keys.ts'
import { idKey } from '../../shared/ids.ts'
import { WRAPS_PER_RECIPIENT_MAX } from '../../shared/limits.ts'
import type { Database } from './database.ts'
import { offer } from './offer.ts'
import { all, execute, first, statement } from './statement.ts'
import { withStorageErrors } from './storage-error.ts'
import { transact } from './transaction.ts'

/** The wraps of one epoch, by recipient in the order asked for. */
export interface EpochWraps {
  readonly enc: Uint8Array
  readonly wraps: readonly (readonly Uint8Array[])[]
}

const READ_ENC = statement<{ enc: Uint8Array; retired: boolean }>(
  'wrap_read_enc',
  'select enc, retired from epochs where group_id = $1 and epoch = $2',
)
const READ = statement<{ recipient_key: Uint8Array; wrap: Uint8Array }>(
  'wrap_read',
  'select recipient_key, wrap from wraps where group_id = $1 and epoch = $2 and recipient_key = any($3::bytea[]) order by recipient_key, n',
)
const COUNT = statement<{ offered: number; same: boolean | null; own: boolean | null }>(
  'wrap_count',
  'select count(*) as offered, bool_or(wrap = $4) as same, bool_or(offerer = $5) as own from wraps where group_id = $1 and epoch = $2 and recipient_key = $3',
)
const INSERT = statement(
  'wrap_offer',
  'insert into wraps (group_id, epoch, recipient_key, n, wrap, at_seq, offerer) values ($1, $2, $3, $4, $5, $6, $7)',
)
const REQUEST = statement<{ is_new: boolean }>(
  'wrap_request',
  `insert into wrap_requests (group_id, epoch, recipient_key) select group_id, $2, $3 from groups where group_id = $1 and epoch = $2
   on conflict (group_id, epoch, recipient_key) do update set since = wrap_requests.since returning xmax = 0 as is_new`,
)
const LIST_REQUESTS = statement<{ recipient_key: Uint8Array }>(
  'wrap_list_requests',
  'select recipient_key from wrap_requests where group_id = $1 and epoch = $2 order by since limit 4096',
)
const DELETE_REQUEST = statement(
  'wrap_delete_request',
  'delete from wrap_requests where group_id = $1 and epoch = $2 and recipient_key = $3',
)

/** @throws ClavigerError `epoch_retired`, `epoch_unavailable` if there is no such epoch. */
export function readWraps(
  database: Database,
  group: GroupId,
  asked: { readonly epoch: number; readonly recipients: readonly KemKeyId[] },
): Promise<EpochWraps> {
  return withStorageErrors(async () => {
    const epoch = await first(database.pool, READ_ENC, [group, asked.epoch])
    if (epoch === null) throw new ClavigerError('epoch_unavailable')
    if (epoch.retired) throw new ClavigerError('epoch_retired')
    const rows = await all(database.pool, READ, [group, asked.epoch, asked.recipients])
    const byRecipient = new Map<string, Uint8Array[]>(asked.recipients.map((recipient) => [idKey(recipient), []]))
    for (const row of rows) byRecipient.get(idKey(row.recipient_key))?.push(row.wrap)
    return { enc: epoch.enc, wraps: asked.recipients.map((recipient) => byRecipient.get(idKey(recipient)) ?? []) }
  })
}

/**
 * Adds a wrap beside those there are, and answers the request for it.
 *
 * @param offered - `seq` is the head at which the offer was judged.
 * @throws ClavigerError `stale_head`, `epoch_retired`, `limit_exceeded` after four, or one of the same offerer.
 */
export function offerWrap(
  database: Database,
  group: GroupId,
  offered: {
    readonly epoch: number
    readonly recipient: KemKeyId
    readonly wrap: Uint8Array
    readonly seq: number
    readonly offerer: PrincipalId
  },
): Promise<void> {
  const { epoch, recipient, wrap, seq, offerer } = offered
  return transact(database, async (connection) => {
    await offer(
      connection,
      { group, target: epoch, countMax: WRAPS_PER_RECIPIENT_MAX, seq },
      {
        count: () => first(connection, COUNT, [group, epoch, recipient, wrap, offerer]),
        insert: (n) => execute(connection, INSERT, [group, epoch, recipient, n, wrap, seq, offerer]),
      },
    )
    await execute(connection, DELETE_REQUEST, [group, epoch, recipient])
  })
}

/** Notes that a recipient has no wrap of the current epoch that opens. */
export function requestWrap(
  database: Database,
  group: GroupId,
  asked: { readonly epoch: number; readonly recipient: KemKeyId },
): Promise<'noted' | 'known' | 'not-current'> {
  return withStorageErrors(async () => {
    const row = await first(database.pool, REQUEST, [group, asked.epoch, asked.recipient])
    if (row === null) return 'not-current'
    return row.is_new ? 'noted' : 'known'
  })
}

/** Who asks for a wrap of `epoch`, oldest request first. */
export function listWrapRequests(database: Database, group: GroupId, epoch: number): Promise<KemKeyId[]> {
  return withStorageErrors(async () =>
    (await all(database.pool, LIST_REQUESTS, [group, epoch])).map((row) => asKemKeyId(row.recipient_key)),
  )
}
