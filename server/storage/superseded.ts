/** Expiry of what compactions replaced: superseded seals of the current epoch. Those of older epochs go when these are retired. */
import { SUPERSEDED_MS } from '../../shared/limits.ts'
import type { Database } from './database.ts'
import { executeInBatches, statement } from './statement.ts'
import { withStorageErrors } from './storage-error.ts'

/** Rows deleted in one transaction: none is to take long. */
const ROWS_PER_STATEMENT = 5000

const EXPIRE_DEKS = statement(
  'superseded_expire_deks',
  `delete from superseded_deks s using (
     select s.group_id, s.object_id, s.generation, s.epoch from superseded_deks s join groups g on g.group_id = s.group_id and g.epoch = s.epoch
     where s.superseded_at < now() - $1 * interval '1 millisecond' limit ${ROWS_PER_STATEMENT}) d
   where s.group_id = d.group_id and s.object_id = d.object_id and s.generation = d.generation and s.epoch = d.epoch`,
)
const EXPIRE_PAGES = statement(
  'superseded_expire_pages',
  `delete from superseded_pages s using (
     select s.group_id, s.page_id from superseded_pages s join groups g on g.group_id = s.group_id and g.epoch = s.epoch
     where s.superseded_at < now() - $1 * interval '1 millisecond' limit ${ROWS_PER_STATEMENT}) d
   where s.group_id = d.group_id and s.page_id = d.page_id`,
)

/** Deletes superseded seals and pages of current epochs that are older than `ageMs`. @returns how many rows. */
export function expireSuperseded(database: Database, ageMs: number = SUPERSEDED_MS): Promise<number> {
  return withStorageErrors(
    async () =>
      (await executeInBatches(database.pool, EXPIRE_DEKS, [ageMs], ROWS_PER_STATEMENT)) +
      (await executeInBatches(database.pool, EXPIRE_PAGES, [ageMs], ROWS_PER_STATEMENT)),
  )
}
