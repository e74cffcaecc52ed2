/**
 * The tables as Kysely sees them; `migrations/` is what makes them. Column names are PostgreSQL's own.
 *
 * `group_id` leads every key, so that every table can be distributed by it; `identities` and `identity_groups` are
 * keyed by identity. What a column holds is told here, why a table is laid out as it is in the migration.
 */
import type { ColumnType, Generated } from 'kysely'

/** bytea; comes back as a plain `Uint8Array`. */
type Bytes = Uint8Array
/** `timestamptz not null default now()`. */
type TimeOfInsert = ColumnType<Date, Date | undefined, Date>

export interface Schema {
  groups: GroupsTable
  commits: CommitsTable
  epochs: EpochsTable
  links: LinksTable
  wraps: WrapsTable
  wrap_requests: WrapRequestsTable
  members: MembersTable
  identity_groups: IdentityGroupsTable
  identities: IdentitiesTable
  snapshots: SnapshotsTable
  objects: ObjectsTable
  loose_deks: LooseDeksTable
  superseded_deks: SupersededDeksTable
  key_pages: KeyPagesTable
  superseded_pages: SupersededPagesTable
  rewrap_jobs: RewrapJobsTable
  unopenable_deks: UnopenableDeksTable
  bodies: BodiesTable
  body_parts: BodyPartsTable
  signed_heads: SignedHeadsTable
  join_requests: JoinRequestsTable
  audit_log: AuditLogTable
  schema_migrations: SchemaMigrationsTable
}

/** The head of each group, and the only lock of a group: taken first in every transaction. */
export interface GroupsTable {
  group_id: Bytes
  suite: number
  head_seq: number
  head_hash: Bytes
  epoch: number
  rekey_owed: boolean
  /** Every epoch up to this one is retired; −1 if none is. */
  retired_through: Generated<number>
  /** Cursor: grows by one with each change a client must see, without gaps. */
  change_seq: Generated<number>
  /** IdentityId of the author of genesis, for quotas. */
  created_by: Bytes
  created_at: TimeOfInsert
}

export interface CommitsTable {
  group_id: Bytes
  seq: number
  hash: Bytes
  /** Exactly the bytes that were signed, with their signatures. */
  bytes: Bytes
  /** The epoch after this commit. */
  epoch: number
  change_seq: number
}

export interface EpochsTable {
  group_id: Bytes
  epoch: number
  opened_seq: number
  /** HPKE encapsulation shared by all wraps of the epoch; empty if the suite has none. */
  enc: Bytes
  retired: Generated<boolean>
}

/** An older epoch secret sealed under a newer one; up to four are offered, the commitment judges. */
export interface LinksTable {
  group_id: Bytes
  epoch: number
  link_to: number
  n: number
  link: Bytes
  /** Null for what came with a commit. */
  offerer: Bytes | null
}

export interface WrapsTable {
  group_id: Bytes
  epoch: number
  /** Hash of the recipient’s KEM public key. */
  recipient_key: Bytes
  /** 0 to 3: append-only, the commitment says which is good. */
  n: number
  /** 48 bytes that open with `epochs.enc`, or an own encapsulation followed by 48 bytes. */
  wrap: Bytes
  /** Seq of the commit at which the wrap was made. */
  at_seq: number
  /** Null for what came with a commit. */
  offerer: Bytes | null
}

/** Recipients who found no wrap that opens. */
export interface WrapRequestsTable {
  group_id: Bytes
  epoch: number
  recipient_key: Bytes
  since: TimeOfInsert
}

/** What the fold says about each principal: a derived index, never an authority. */
export interface MembersTable {
  group_id: Bytes
  principal: Bytes
  role: string
  signing_key: Bytes
  active: boolean
}

/** “My groups”: a repairable hint, keyed by identity. */
export interface IdentityGroupsTable {
  identity_id: Bytes
  group_id: Bytes
}

export interface IdentitiesTable {
  identity_id: Bytes
  /** Of the newest card. */
  signing_key: Bytes
  revision: number
  /** The encoded chain of cards. */
  cards: Bytes
  created_at: TimeOfInsert
}

export interface SnapshotsTable {
  group_id: Bytes
  seq: number
  author: Bytes
  roster: Bytes
}

/** One row an object: its newest version. Tombstones stay (`live` false), so that versions never restart. */
export interface ObjectsTable {
  group_id: Bytes
  object_id: Bytes
  version: number
  generation: number
  live: boolean
  /** Seq of the latest change in the group’s cursor. */
  change_seq: number
  /** The signed envelope, or the signed tombstone. */
  header: Bytes
  header_hash: Bytes
  author: Bytes
  /** The epoch the header was written in. */
  epoch: number
  batch_id: Bytes | null
  batch_index: number | null
  /** The body itself up to 16 KiB; larger ones are named by `body_id`. */
  body: Bytes | null
  body_id: Bytes | null
  /** Stored bytes of the body, for quotas. */
  body_bytes: Generated<number>
  dek_lost: Generated<boolean>
}

/** DEKs sealed alone. Never altered in place. */
export interface LooseDeksTable {
  group_id: Bytes
  object_id: Bytes
  generation: number
  epoch: number
  seal: Bytes
}

/** Loose seals that a page has absorbed, kept until their epoch is retired. */
export interface SupersededDeksTable {
  group_id: Bytes
  object_id: Bytes
  generation: number
  epoch: number
  seal: Bytes
  superseded_at: TimeOfInsert
}

/** Pages partition the id space of a group: `[lo, hi)`, `hi` null for the last. */
export interface KeyPagesTable {
  group_id: Bytes
  lo: Bytes
  hi: Bytes | null
  page_id: Bytes
  epoch: number
  count: number
  entries: Bytes
  sealed: Bytes
}

/** Replaced pages, kept until their epoch is retired. */
export interface SupersededPagesTable {
  group_id: Bytes
  page_id: Bytes
  lo: Bytes
  hi: Bytes | null
  epoch: number
  count: number
  entries: Bytes
  sealed: Bytes
  superseded_at: TimeOfInsert
}

export interface RewrapJobsTable {
  group_id: Bytes
  epoch: number
  total: number
  done: Generated<number>
  lease_owner: Bytes | null
  lease_until: Date | null
}

export interface UnopenableDeksTable {
  group_id: Bytes
  object_id: Bytes
  generation: number
  epoch: number
  seal: Bytes | null
  reported_by: Bytes
}

export type BodyState = 'uploading' | 'complete' | 'live' | 'orphan'

export interface BodiesTable {
  group_id: Bytes
  body_id: Bytes
  state: BodyState
  bytes: number
  /** The list of chunk hashes, stored with the body. */
  hashes: Bytes | null
  owner: Bytes
  /** Since when the body is in this state. */
  since: TimeOfInsert
}

export interface BodyPartsTable {
  group_id: Bytes
  body_id: Bytes
  part: number
  data: Bytes
}

export interface SignedHeadsTable {
  group_id: Bytes
  principal: Bytes
  seq: number
  bytes: Bytes
  at: TimeOfInsert
}

export interface JoinRequestsTable {
  group_id: Bytes
  request_hash: Bytes
  invite: Bytes
  identity: Bytes
  bytes: Bytes
  at: TimeOfInsert
}

export interface AuditLogTable {
  /** Empty for events outside any group. */
  group_id: Bytes
  at: TimeOfInsert
  /** Random. */
  id: Bytes
  kind: string
  principal: Bytes | null
  /** Facts of the event; never a secret. Given as JSON text. */
  detail: ColumnType<unknown, string, string>
}

export interface SchemaMigrationsTable {
  version: number
  name: string
  applied_at: TimeOfInsert
}
