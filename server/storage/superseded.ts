/** Expiry of what compactions replaced: superseded seals of the current epoch. Those of older epochs go when these are retired. */
import { SUPERSEDED_MS } from '../../shared/limits.ts'
import type { Database } from './database.ts'
import { execute, statement } from './statement.ts'
import { withStorageErrors } from './storage-error.ts'

const EXPIRE_DEKS = statement(
  'superseded_expire_deks',
  `delete from superseded_deks s using groups g
   where g.group_id = s.group_id and g.epoch = s.epoch and s.superseded_at < now() - $1 * interval '1 millisecond'`,
)
const EXPIRE_PAGES = statement(
  'superseded_expire_pages',
  `delete from superseded_pages s using groups g
   where g.group_id = s.group_id and g.epoch = s.epoch and s.superseded_at < now() - $1 * interval '1 millisecond'`,
)

/** Deletes superseded seals and pages of current epochs that are older than `ageMs`. @returns how many rows. */
export function expireSuperseded(database: Database, ageMs: number = SUPERSEDED_MS): Promise<number> {
  return withStorageErrors(
    async () => (await execute(database.pool, EXPIRE_DEKS, [ageMs])) + (await execute(database.pool, EXPIRE_PAGES, [ageMs])),
  )
}
