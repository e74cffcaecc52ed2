/** Requests to join that wait for an admin's approval. */
import { ClavigerError } from '../../shared/errors.ts'
import type { GroupId, IdentityId, InviteId } from '../../shared/ids.ts'
import { JOIN_REQUESTS_MAX } from '../../shared/limits.ts'
import type { Database } from './database.ts'
import { all, execute, first, statement } from './statement.ts'
import { withStorageErrors } from './storage-error.ts'

export interface JoinRequestRow {
  readonly requestHash: Uint8Array
  readonly invite: InviteId
  readonly identity: IdentityId
  /** Exactly the bytes that were signed. */
  readonly bytes: Uint8Array
}

/** One request an identity and invite: a newer one takes the place of the older. */
const REMOVE_EARLIER = statement(
  'join_remove_earlier',
  'delete from join_requests where group_id = $1 and invite = $2 and identity = $3 and request_hash <> $4',
)
const INSERT = statement<{ is_new: boolean }>(
  'join_insert',
  `insert into join_requests (group_id, request_hash, invite, identity, bytes) select $1, $2, $3, $4, $5
   where (select count(*) from join_requests where group_id = $1 and request_hash <> $2) < $6
   on conflict (group_id, request_hash) do update set at = now() returning xmax = 0 as is_new`,
)
const LIST = statement<{ bytes: Uint8Array }>('join_list', 'select bytes from join_requests where group_id = $1 order by at limit $2')
const READ = statement<{ bytes: Uint8Array }>('join_read', 'select bytes from join_requests where group_id = $1 and request_hash = $2')
const REMOVE_OF_IDENTITY = statement('join_remove_identity', 'delete from join_requests where group_id = $1 and identity = $2')
const REMOVE_OF_INVITE = statement('join_remove_invite', 'delete from join_requests where group_id = $1 and invite = any($2::bytea[])')

/** Keeps a request. Those who ask at the same instant may exceed the bound by a few. @returns whether it is new. @throws ClavigerError `limit_exceeded`. */
export function storeJoinRequest(database: Database, group: GroupId, request: JoinRequestRow): Promise<boolean> {
  const { requestHash, invite, identity, bytes } = request
  return withStorageErrors(async () => {
    await execute(database.pool, REMOVE_EARLIER, [group, invite, identity, requestHash])
    const stored = await first(database.pool, INSERT, [group, requestHash, invite, identity, bytes, JOIN_REQUESTS_MAX])
    if (stored === null) throw new ClavigerError('limit_exceeded', `at most ${JOIN_REQUESTS_MAX} requests wait in a group`)
    return stored.is_new
  })
}

/** Waiting requests, oldest first. */
export function listJoinRequests(database: Database, group: GroupId): Promise<Uint8Array[]> {
  return withStorageErrors(async () => (await all(database.pool, LIST, [group, JOIN_REQUESTS_MAX])).map(({ bytes }) => bytes))
}

/** One waiting request by its hash, or null. */
export function readJoinRequest(database: Database, group: GroupId, requestHash: Uint8Array): Promise<Uint8Array | null> {
  return withStorageErrors(async () => (await first(database.pool, READ, [group, requestHash]))?.bytes ?? null)
}

/** Removes the requests of an identity that has become a member, or was refused. */
export function removeJoinRequests(database: Database, group: GroupId, identity: IdentityId): Promise<void> {
  return withStorageErrors(async () => void (await execute(database.pool, REMOVE_OF_IDENTITY, [group, identity])))
}

/** Removes the requests through invites that are spent or revoked. */
export function removeJoinRequestsThrough(database: Database, group: GroupId, invites: readonly InviteId[]): Promise<void> {
  return withStorageErrors(async () => void (await execute(database.pool, REMOVE_OF_INVITE, [group, invites])))
}
