/** Identities the server has seen: their chain of cards, which only ever gets longer. */
import type { IdentityId } from '../../shared/ids.ts'
import { asIdentityId } from '../../shared/ids.ts'
import type { SigningPublicKey } from '../../shared/crypto/keys.ts'
import { asSigningPublicKey } from '../../shared/crypto/keys.ts'
import type { Database } from './database.ts'
import { all, execute, first, statement } from './statement.ts'
import { isUniqueViolation, withStorageErrors } from './storage-error.ts'

export interface IdentityRow {
  readonly identity: IdentityId
  /** Of the newest card. */
  readonly signingKey: SigningPublicKey
  /** Of the newest card. */
  readonly revision: number
  /** The encoded chain. */
  readonly cards: Uint8Array
}

/** `older` and `other` (a different chain of the same length) are refused; `key-taken`: another identity signs with this key. */
export type StoreCardsOutcome = 'stored' | 'unchanged' | 'older' | 'other' | 'key-taken'

const UPSERT = statement(
  'identity_upsert',
  `insert into identities (identity_id, signing_key, revision, cards) values ($1, $2, $3, $4)
   on conflict (identity_id) do update set signing_key = excluded.signing_key, revision = excluded.revision, cards = excluded.cards
     where identities.revision < excluded.revision`,
)
const READ = statement<{ signing_key: Uint8Array; revision: number; cards: Uint8Array }>(
  'identity_read',
  'select signing_key, revision, cards from identities where identity_id = $1',
)
const COMPARE = statement<{ revision: number; same: boolean }>(
  'identity_compare',
  'select revision, cards = $2 as same from identities where identity_id = $1',
)
const READ_NEWER = statement<{ identity_id: Uint8Array; revision: number }>(
  'identity_read_newer',
  `select i.identity_id, i.revision from unnest($1::bytea[], $2::int[]) as x(identity_id, revision)
   join identities i on i.identity_id = x.identity_id where i.revision > x.revision`,
)

/** Keeps a verified chain of cards unless a newer one is kept. That a longer chain extends the kept one is the caller's check. */
export function storeCards(database: Database, { identity, signingKey, revision, cards }: IdentityRow): Promise<StoreCardsOutcome> {
  return withStorageErrors(async () => {
    const known = await first(database.pool, COMPARE, [identity, cards])
    if (known?.same === true) return 'unchanged'
    const stored = await execute(database.pool, UPSERT, [identity, signingKey, revision, cards]).catch(takenAsNull)
    if (stored === null) return 'key-taken'
    if (stored > 0) return 'stored'
    const kept = await first(database.pool, COMPARE, [identity, cards])
    if (kept?.same === true) return 'unchanged'
    return (kept?.revision ?? 0) > revision ? 'older' : 'other'
  })
}

/** The newest known chain of an identity, or null. */
export function readIdentity(database: Database, identity: IdentityId): Promise<IdentityRow | null> {
  return withStorageErrors(async () => {
    const row = await first(database.pool, READ, [identity])
    return row === null ? null : { identity, signingKey: asSigningPublicKey(row.signing_key), revision: row.revision, cards: row.cards }
  })
}

/** Which of these identities have a newer card than the revision given. */
export function readNewerRevisions(
  database: Database,
  known: readonly Pick<IdentityRow, 'identity' | 'revision'>[],
): Promise<Pick<IdentityRow, 'identity' | 'revision'>[]> {
  return withStorageErrors(async () => {
    const rows = await all(database.pool, READ_NEWER, [known.map(({ identity }) => identity), known.map(({ revision }) => revision)])
    return rows.map((row) => ({ identity: asIdentityId(row.identity_id), revision: row.revision }))
  })
}

function takenAsNull(error: unknown): null {
  if (isUniqueViolation(error)) return null
  throw error
}
