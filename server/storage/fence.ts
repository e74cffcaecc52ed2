/**
 * The fence of a group: what a request was judged by (roster at `seq`, epoch) must still hold when it is carried out.
 *
 * The epoch alone is no fence: a change of roles opens none.
 */
import { ClavigerError } from '../../shared/errors.ts'
import type { GroupId } from '../../shared/ids.ts'
import type { Database } from './database.ts'
import type { GroupPosition } from './groups.ts'
import { positionOf } from './groups.ts'
import type { Connection } from './statement.ts'

/** The head and epoch a request was judged by. */
export interface Fence {
  readonly seq: number
  readonly epoch: number
}

/** Why a fence did not hold, read after the fact. */
export async function readFence(database: Database, request: Fence & { readonly group: GroupId }): Promise<ClavigerError> {
  return await fenceError(database.pool, request)
}

/** The same inside a transaction. */
export async function fenceError(connection: Connection, request: Fence & { readonly group: GroupId }): Promise<ClavigerError> {
  const position = await positionOf(connection, request.group)
  return position === null ? new ClavigerError('unknown_group') : toError(position, request)
}

function toError({ seq, hash, epoch, rekeyOwed, change }: GroupPosition, fence: Fence): ClavigerError {
  const data = { seq, hash, epoch, change }
  if (epoch !== fence.epoch) return new ClavigerError('stale_epoch', undefined, { data })
  if (rekeyOwed && seq === fence.seq) return new ClavigerError('rekey_owed', undefined, { data })
  return new ClavigerError('stale_head', undefined, { data })
}
