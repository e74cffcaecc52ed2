/** Append-only offers, of which only the first few are kept: wraps for one recipient, links between two epochs. */
import type { PoolClient } from 'pg'
import { ClavigerError } from '../../shared/errors.ts'
import type { GroupId } from '../../shared/ids.ts'
import { first, statement } from './statement.ts'

export interface OfferLimits {
  readonly group: GroupId
  /** The epoch whose secret is offered. */
  readonly target: number
  readonly countMax: number
  /** The head at which the offer was judged. */
  readonly seq: number
}

export interface OfferTable {
  /** How many there are, whether one is equal to the one offered, and whether one is of the same offerer. */
  readonly count: () => Promise<{ readonly offered: number; readonly same: boolean | null; readonly own: boolean | null } | null>
  readonly insert: (n: number) => Promise<unknown>
}

/** A retire waits for this lock or is seen by it: nothing of a retired epoch comes back. It also puts offers in a row. */
const LOCK_GROUP = statement<{ retired_through: number; epoch: number; head_seq: number }>(
  'offer_lock_group',
  'select retired_through, epoch, head_seq from groups where group_id = $1 for no key update',
)

/**
 * Everybody has one offer, so that no one member can take all the room there is.
 *
 * @throws ClavigerError `unknown_group`, `stale_head`, `epoch_retired`, `epoch_unavailable`, `limit_exceeded`.
 */
export async function offer(connection: PoolClient, limits: OfferLimits, table: OfferTable): Promise<void> {
  const group = await first(connection, LOCK_GROUP, [limits.group])
  if (group === null) throw new ClavigerError('unknown_group')
  if (limits.target <= group.retired_through) throw new ClavigerError('epoch_retired')
  if (limits.target > group.epoch) throw new ClavigerError('epoch_unavailable')
  if (limits.seq !== group.head_seq) throw new ClavigerError('stale_head')
  const present = await table.count()
  if (present?.same === true) return
  if (present?.own === true) throw new ClavigerError('limit_exceeded', 'one is kept of each who offers')
  const n = present?.offered ?? 0
  if (n >= limits.countMax) throw new ClavigerError('limit_exceeded', 'as many were offered as are kept')
  await table.insert(n)
}
