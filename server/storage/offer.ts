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
}

export interface OfferTable {
  /** How many there are, and whether one is equal to the one offered. */
  readonly count: () => Promise<{ readonly offered: number; readonly same: boolean | null } | null>
  readonly insert: (n: number) => Promise<unknown>
}

/** A retire waits for this lock or is seen by it: nothing of a retired epoch comes back. It also puts offers in a row. */
const LOCK_GROUP = statement<{ retired_through: number; epoch: number }>(
  'offer_lock_group',
  'select retired_through, epoch from groups where group_id = $1 for no key update',
)

/** @throws ClavigerError `unknown_group`, `epoch_retired`, `epoch_unavailable`, `limit_exceeded`. */
export async function offer(connection: PoolClient, limits: OfferLimits, table: OfferTable): Promise<void> {
  const group = await first(connection, LOCK_GROUP, [limits.group])
  if (group === null) throw new ClavigerError('unknown_group')
  if (limits.target <= group.retired_through) throw new ClavigerError('epoch_retired')
  if (limits.target > group.epoch) throw new ClavigerError('epoch_unavailable')
  const present = await table.count()
  if (present?.same === true) return
  const n = present?.offered ?? 0
  if (n >= limits.countMax) throw new ClavigerError('limit_exceeded', 'as many were offered as are kept')
  await table.insert(n)
}
