/** The rows that a commit brings along: itself, its epoch, wraps, links, and the derived member index. */
import type { PoolClient } from 'pg'
import { WRAPS_PER_RECIPIENT_MAX } from '../../shared/limits.ts'
import type { CommitHash, GroupId, PrincipalId } from '../../shared/ids.ts'
import type { KemKeyId, SigningPublicKey } from '../../shared/crypto/keys.ts'
import { execute, statement } from './statement.ts'

/** A commit as stored: exactly the signed bytes, and what the referee's fold says about it. */
export interface CommitRow {
  readonly seq: number
  readonly hash: CommitHash
  readonly bytes: Uint8Array
  /** The epoch after this commit. */
  readonly epoch: number
}

/** What travels beside a commit that opens an epoch, so that it can be deleted. */
export interface EpochOpening {
  /** HPKE encapsulation shared by all wraps; empty if the suite has none. */
  readonly enc: Uint8Array
  /** An older epoch secret sealed under the new one. */
  readonly link: { readonly to: number; readonly bytes: Uint8Array } | null
}

export interface NewWrap {
  readonly recipient: KemKeyId
  readonly wrap: Uint8Array
}

/** What the fold says about one identity after a commit. */
export interface MemberChange {
  readonly principal: PrincipalId
  readonly role: string
  readonly signingKey: SigningPublicKey
  readonly active: boolean
}

const INSERT_COMMIT = statement(
  'commit_insert',
  'insert into commits (group_id, seq, hash, bytes, epoch, change_seq) values ($1, $2, $3, $4, $5, $6)',
)
const INSERT_EPOCH = statement('epoch_insert', 'insert into epochs (group_id, epoch, opened_seq, enc) values ($1, $2, $3, $4)')
const INSERT_LINK = statement('link_insert_first', 'insert into links (group_id, epoch, link_to, n, link) values ($1, $2, $3, 0, $4)')
/** A recipient that comes back under the same key has a wrap already: the new one goes beside it while there is room. */
const INSERT_WRAPS = statement(
  'wrap_insert',
  `insert into wraps (group_id, epoch, recipient_key, n, wrap, at_seq)
   select $1, $2, x.recipient, held.n, x.wrap, $3
   from unnest($4::bytea[], $5::bytea[]) as x(recipient, wrap) cross join lateral (
     select coalesce(max(w.n) + 1, 0) as n from wraps w where w.group_id = $1 and w.epoch = $2 and w.recipient_key = x.recipient) held
   where held.n < ${WRAPS_PER_RECIPIENT_MAX}`,
)
const UPSERT_MEMBERS = statement(
  'member_upsert',
  `insert into members (group_id, principal, role, signing_key, active)
   select $1, x.* from unnest($2::bytea[], $3::text[], $4::bytea[], $5::boolean[]) as x
   on conflict (group_id, principal) do update set role = excluded.role, signing_key = excluded.signing_key, active = excluded.active`,
)
const INSERT_IDENTITY_GROUPS = statement(
  'identity_group_insert',
  'insert into identity_groups (identity_id, group_id) select x, $1 from unnest($2::bytea[]) as x on conflict do nothing',
)
const DELETE_IDENTITY_GROUPS = statement(
  'identity_group_delete',
  'delete from identity_groups where group_id = $1 and identity_id = any($2::bytea[])',
)

export async function insertCommit(connection: PoolClient, group: GroupId, commit: CommitRow & { readonly change: number }): Promise<void> {
  await execute(connection, INSERT_COMMIT, [group, commit.seq, commit.hash, commit.bytes, commit.epoch, commit.change])
}

/** @param opened - `seq` is that of the commit that opens the epoch. */
export async function insertEpoch(
  connection: PoolClient,
  group: GroupId,
  opened: { readonly epoch: number; readonly seq: number; readonly opening: EpochOpening },
): Promise<void> {
  const { epoch, seq, opening } = opened
  await execute(connection, INSERT_EPOCH, [group, epoch, seq, opening.enc])
  if (opening.link !== null) await execute(connection, INSERT_LINK, [group, epoch, opening.link.to, opening.link.bytes])
}

/** @param given - `seq` is that of the commit the wraps came with. */
export async function insertWraps(
  connection: PoolClient,
  group: GroupId,
  given: { readonly epoch: number; readonly seq: number; readonly wraps: readonly NewWrap[] },
): Promise<void> {
  const { epoch, seq, wraps } = given
  if (wraps.length === 0) return
  await execute(connection, INSERT_WRAPS, [group, epoch, seq, wraps.map(({ recipient }) => recipient), wraps.map(({ wrap }) => wrap)])
}

/** Keeps the two derived indexes: members of the group, groups of the identity. */
export async function writeMembers(connection: PoolClient, group: GroupId, members: readonly MemberChange[]): Promise<void> {
  if (members.length === 0) return
  const principals = members.map(({ principal }) => principal)
  await execute(connection, UPSERT_MEMBERS, [
    group,
    principals,
    members.map(({ role }) => role),
    members.map(({ signingKey }) => signingKey),
    members.map(({ active }) => active),
  ])
  await execute(connection, INSERT_IDENTITY_GROUPS, [group, members.filter(({ active }) => active).map(({ principal }) => principal)])
  await execute(connection, DELETE_IDENTITY_GROUPS, [group, members.filter(({ active }) => !active).map(({ principal }) => principal)])
}
