/** The audit table: authentication failures, use of invites, accesses by removed members, reports of unopenable DEKs. */
import type { GroupId, PrincipalId } from '../../shared/ids.ts'
import { asGroupId, asIdentityId } from '../../shared/ids.ts'
import type { Database } from './database.ts'
import { all, execute, executeInBatches, statement } from './statement.ts'
import { withStorageErrors } from './storage-error.ts'

export interface AuditEntry {
  /** Null for what happened outside any group. */
  readonly group: GroupId | null
  readonly kind: string
  readonly principal: PrincipalId | null
  /** Facts of the event; never a secret. */
  readonly detail: Readonly<Record<string, unknown>>
}

export interface StoredAuditEntry extends AuditEntry {
  readonly at: Date
}

interface AuditRow {
  group_id: Uint8Array
  at: Date
  kind: string
  principal: Uint8Array | null
  detail: Record<string, unknown>
}

const NO_GROUP = new Uint8Array(0)

const INSERT = statement(
  'audit_insert',
  `insert into audit_log (group_id, id, kind, principal, detail) values ($1, decode(replace(gen_random_uuid()::text, '-', ''), 'hex'), $2, $3, $4::jsonb)`,
)
const LIST = statement<AuditRow>(
  'audit_list',
  'select group_id, at, kind, principal, detail from audit_log where group_id = $1 and at < $2 order by at desc, id limit $3',
)
/** Entries deleted in one transaction: none is to take long. */
const ROWS_PER_STATEMENT = 5000
const EXPIRE = statement(
  'audit_expire',
  `delete from audit_log a using (
     select group_id, at, id from audit_log where at < now() - $1 * interval '1 millisecond' limit ${ROWS_PER_STATEMENT}) d
   where a.group_id = d.group_id and a.at = d.at and a.id = d.id`,
)

/** Notes an event. */
export function appendAudit(database: Database, entry: AuditEntry): Promise<void> {
  const { group, kind, principal, detail } = entry
  return withStorageErrors(
    async () => void (await execute(database.pool, INSERT, [group ?? NO_GROUP, kind, principal, JSON.stringify(detail)])),
  )
}

/** Events before `before`, newest first. @param group - null for those outside any group. */
export function listAudit(
  database: Database,
  group: GroupId | null,
  { before, limit }: { readonly before: Date; readonly limit: number },
): Promise<StoredAuditEntry[]> {
  return withStorageErrors(async () => (await all(database.pool, LIST, [group ?? NO_GROUP, before, limit])).map(toEntry))
}

/** Deletes events older than `ageMs`. @returns how many. */
export function expireAudit(database: Database, ageMs: number): Promise<number> {
  return withStorageErrors(() => executeInBatches(database.pool, EXPIRE, [ageMs], ROWS_PER_STATEMENT))
}

function toEntry(row: AuditRow): StoredAuditEntry {
  return {
    group: row.group_id.length === 0 ? null : asGroupId(row.group_id),
    at: row.at,
    kind: row.kind,
    principal: row.principal === null ? null : asIdentityId(row.principal),
    detail: row.detail,
  }
}
