/** Signed heads: the latest of each principal, which members compare with their own to find forks. */
import type { GroupId, PrincipalId } from '../../shared/ids.ts'
import type { Database } from './database.ts'
import { all, execute, statement } from './statement.ts'
import { withStorageErrors } from './storage-error.ts'

export interface SignedHeadRow {
  readonly principal: PrincipalId
  /** Of the head that was signed. */
  readonly seq: number
  readonly bytes: Uint8Array
}

const UPSERT = statement(
  'head_upsert',
  `insert into signed_heads (group_id, principal, seq, bytes) values ($1, $2, $3, $4)
   on conflict (group_id, principal) do update set seq = excluded.seq, bytes = excluded.bytes, at = now() where signed_heads.seq <= excluded.seq and signed_heads.bytes <> excluded.bytes`,
)
const LIST = statement<{ bytes: Uint8Array }>('head_list', 'select bytes from signed_heads where group_id = $1 order by at desc limit $2')

/** Keeps a principal's newest signed head. @returns false if a later one, or this one, is kept already. */
export function storeSignedHead(database: Database, group: GroupId, head: SignedHeadRow): Promise<boolean> {
  return withStorageErrors(async () => (await execute(database.pool, UPSERT, [group, head.principal, head.seq, head.bytes])) > 0)
}

/** The signed heads of a group, most recent first. */
export function listSignedHeads(database: Database, group: GroupId, limit: number): Promise<Uint8Array[]> {
  return withStorageErrors(async () => (await all(database.pool, LIST, [group, limit])).map(({ bytes }) => bytes))
}
