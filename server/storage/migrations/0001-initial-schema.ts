/**
 * The first schema. `group_id` leads every key and there is no sequence, no foreign key and no unique constraint
 * across groups, so that every table of a group can be partitioned or distributed by it.
 *
 * Sealed bytes do not compress: their columns are `storage external`, which skips the attempt and keeps the heap
 * rows of pages around 150 bytes, so that `sum(count)` over all pages of a group stays cheap.
 */
import type { Migration } from './migration.ts'
import { createTableStatements } from './table-definition.ts'
import type { TableDefinition } from './table-definition.ts'

/** Rows here are replaced wholesale by a rewrap; the default (a fifth dead) lets the table grow too far. */
const VACUUM_SOON = ['autovacuum_vacuum_scale_factor=0.02', 'toast.autovacuum_vacuum_scale_factor=0.02'] as const

const LOG_TABLES: readonly TableDefinition[] = [
  {
    // Updated by every write of a group. Half-full heap pages, and no index on a column that changes, keep those updates HOT.
    name: 'groups',
    distributedBy: 'group_id',
    columns: `group_id bytea primary key, suite smallint not null, head_seq bigint not null, head_hash bytea not null,
      epoch int not null, rekey_owed boolean not null, retired_through int not null default -1,
      change_seq bigint not null default 0, created_by bytea not null, created_at timestamptz not null default now()`,
    parameters: ['fillfactor=50'],
    // For the quota of an identity, asked when it creates a group.
    indexes: ['create index groups_created_by on groups (created_by)'],
  },
  {
    name: 'commits',
    distributedBy: 'group_id',
    columns: `group_id bytea, seq bigint, hash bytea not null, bytes bytea not null, epoch int not null,
      change_seq bigint not null, primary key (group_id, seq), unique (group_id, hash)`,
  },
  {
    name: 'epochs',
    distributedBy: 'group_id',
    columns: `group_id bytea, epoch int, opened_seq bigint not null, enc bytea not null,
      retired boolean not null default false, primary key (group_id, epoch)`,
  },
  {
    // Several may be offered for one pair (n); a bad one is never replaced, the commitment tells which is good.
    name: 'links',
    distributedBy: 'group_id',
    columns: `group_id bytea, epoch int, link_to int, n smallint, link bytea not null, offerer bytea,
      primary key (group_id, epoch, link_to, n)`,
  },
  {
    // Append-only: n from 0 to 3 for one recipient.
    name: 'wraps',
    distributedBy: 'group_id',
    columns: `group_id bytea, epoch int, recipient_key bytea, n smallint, wrap bytea not null, at_seq bigint not null, offerer bytea,
      primary key (group_id, epoch, recipient_key, n)`,
  },
  {
    name: 'wrap_requests',
    distributedBy: 'group_id',
    columns: `group_id bytea, epoch int, recipient_key bytea, since timestamptz not null default now(),
      primary key (group_id, epoch, recipient_key)`,
  },
  {
    name: 'members',
    distributedBy: 'group_id',
    columns: `group_id bytea, principal bytea, role text not null, signing_key bytea not null, active boolean not null,
      primary key (group_id, principal)`,
  },
  {
    name: 'snapshots',
    distributedBy: 'group_id',
    columns: 'group_id bytea, seq bigint, author bytea not null, roster bytea not null, primary key (group_id, seq)',
  },
  {
    name: 'signed_heads',
    distributedBy: 'group_id',
    columns: `group_id bytea, principal bytea, seq bigint not null, bytes bytea not null,
      at timestamptz not null default now(), primary key (group_id, principal)`,
  },
  {
    name: 'join_requests',
    distributedBy: 'group_id',
    columns: `group_id bytea, request_hash bytea, invite bytea not null, identity bytea not null, bytes bytea not null,
      at timestamptz not null default now(), primary key (group_id, request_hash)`,
  },
]

const OBJECT_TABLES: readonly TableDefinition[] = [
  {
    name: 'objects',
    distributedBy: 'group_id',
    columns: `group_id bytea, object_id bytea, version bigint not null, generation int not null, live boolean not null,
      change_seq bigint not null, header bytea not null, header_hash bytea not null, author bytea not null,
      epoch int not null, batch_id bytea, batch_index int, body bytea, body_id bytea,
      body_bytes bigint not null default 0, dek_lost boolean not null default false, primary key (group_id, object_id)`,
    parameters: ['fillfactor=90'],
    external: ['header', 'body'],
    indexes: ['create unique index objects_change_seq on objects (group_id, change_seq)'],
  },
  {
    // The DEKs sealed alone that are current: at most one a generation.
    name: 'loose_deks',
    distributedBy: 'group_id',
    columns: `group_id bytea, object_id bytea, generation int, epoch int not null, seal bytea not null,
      primary key (group_id, object_id, generation)`,
    parameters: VACUUM_SOON,
  },
  {
    // Absorbed seals move here rather than get a flag: the hot table stays as small as what is loose, and a
    // generation resealed under a newer epoch does not meet its old seal in the primary key.
    name: 'superseded_deks',
    distributedBy: 'group_id',
    columns: `group_id bytea, object_id bytea, generation int, epoch int, seal bytea not null,
      superseded_at timestamptz not null default now(), primary key (group_id, object_id, generation, epoch)`,
    parameters: VACUUM_SOON,
  },
  {
    // No index on epoch: pages are few, and "is anything left under n" is one scan of the group's own prefix.
    name: 'key_pages',
    distributedBy: 'group_id',
    columns: `group_id bytea, lo bytea, hi bytea, page_id bytea not null, epoch int not null, count int not null,
      entries bytea not null, sealed bytea not null, primary key (group_id, lo)`,
    parameters: VACUUM_SOON,
    external: ['entries', 'sealed'],
  },
  {
    name: 'superseded_pages',
    distributedBy: 'group_id',
    columns: `group_id bytea, page_id bytea, lo bytea not null, hi bytea, epoch int not null, count int not null,
      entries bytea not null, sealed bytea not null, superseded_at timestamptz not null default now(),
      primary key (group_id, page_id)`,
    parameters: VACUUM_SOON,
    external: ['entries', 'sealed'],
  },
  {
    name: 'rewrap_jobs',
    distributedBy: 'group_id',
    columns: `group_id bytea, epoch int, total bigint not null, done bigint not null default 0, lease_owner bytea,
      lease_until timestamptz, primary key (group_id, epoch)`,
  },
  {
    name: 'unopenable_deks',
    distributedBy: 'group_id',
    columns: `group_id bytea, object_id bytea, generation int, epoch int not null, seal bytea,
      reported_by bytea not null, primary key (group_id, object_id, generation)`,
  },
  {
    name: 'bodies',
    distributedBy: 'group_id',
    columns: `group_id bytea, body_id bytea,
      state text not null check (state in ('uploading', 'complete', 'live', 'orphan')),
      bytes bigint not null, hashes bytea, owner bytea not null, since timestamptz not null default now(),
      primary key (group_id, body_id)`,
    external: ['hashes'],
    // For the collector, which looks at all groups; live bodies, nearly all of them, are not in it.
    indexes: ["create index bodies_collectable on bodies (since) where state <> 'live'"],
  },
  {
    name: 'body_parts',
    distributedBy: 'group_id',
    columns: 'group_id bytea, body_id bytea, part int, data bytea not null, primary key (group_id, body_id, part)',
    external: ['data'],
  },
  {
    name: 'audit_log',
    distributedBy: 'group_id',
    columns: `group_id bytea, at timestamptz default now(), id bytea, kind text not null, principal bytea,
      detail jsonb not null, primary key (group_id, at, id)`,
  },
]

const IDENTITY_TABLES: readonly TableDefinition[] = [
  {
    // Keyed by identity, so that "my groups" is one prefix scan wherever the groups are.
    name: 'identity_groups',
    distributedBy: 'identity_id',
    columns: 'identity_id bytea, group_id bytea, primary key (identity_id, group_id)',
  },
]

/** Not distributed: signing keys are unique across identities, which no partitioning by another column can hold. */
const IDENTITIES = `create table identities (identity_id bytea primary key, signing_key bytea not null unique,
  revision int not null, cards bytea not null, created_at timestamptz not null default now())`

/** Every statement of this migration; with `partitions`, each distributable table is split into that many. */
export function initialSchemaStatements(partitions = 0): readonly string[] {
  const tables = [...LOG_TABLES, ...OBJECT_TABLES, ...IDENTITY_TABLES]
  return [IDENTITIES, ...tables.flatMap((table) => createTableStatements(table, partitions))]
}

export const initialSchema: Migration = { version: 1, name: 'initial-schema', statements: initialSchemaStatements() }
