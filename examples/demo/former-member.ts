/**
 * A removed member at her most determined: every key she ever held, against a copy of the whole database.
 */
import type pg from 'pg'
import { decodeCanonical } from '../../shared/codec.ts'
import type { KemPrivateKey } from '../../shared/crypto/kem.ts'
import { KEMS, kemPrivateKeyFromSeed } from '../../shared/crypto/kem.ts'
import type { Dek, EpochSecret } from '../../shared/crypto/keys.ts'
import { asEpochSecret } from '../../shared/crypto/keys.ts'
import { KEM_DHKEM_X25519 } from '../../shared/crypto/suites.ts'
import { decodeCommit } from '../../shared/group/commit.ts'
import { openLink, unwrapEpochSecret } from '../../shared/group/epoch.ts'
import { inviteKeys, parseToken } from '../../shared/group/invite.ts'
import type { GroupId, ObjectId } from '../../shared/ids.ts'
import { asCommitHash, asObjectId, asPageId, idKey } from '../../shared/ids.ts'
import { openInlineBody } from '../../shared/objects/body.ts'
import { epochSealKeys, openDek } from '../../shared/objects/dek.ts'
import { decodeEnvelope } from '../../shared/objects/header.ts'
import { openMetadata } from '../../shared/objects/metadata.ts'
import { decodeEntries } from '../../shared/objects/page.ts'
import { dekAt, openPage } from '../../shared/objects/page-seal.ts'
import type { Store } from '../../client/store.ts'

/** Every key that somebody has had. */
export interface HeldKeys {
  readonly kemKeys: readonly KemPrivateKey[]
  readonly secrets: ReadonlyMap<number, EpochSecret>
  readonly deks: readonly Dek[]
}

/** What was tried, and what opened. */
export interface Attempts {
  readonly tried: number
  readonly opened: number
}

interface SealedRow {
  epoch: number
  object_id: Uint8Array
  generation: number
  seal: Uint8Array
}

interface PageRow {
  epoch: number
  page_id: Uint8Array
  entries: Uint8Array
  sealed: Uint8Array
}

/** The epoch secrets that a client’s store holds. */
export async function secretsIn(store: Store, group: GroupId): Promise<Map<number, EpochSecret>> {
  const prefix = `g/${idKey(group)}/epoch/`
  const kept = await store.getAll(prefix)
  return new Map([...kept].map(([key, secret]) => [Number(key.slice(prefix.length)), asEpochSecret(secret)]))
}

/** The private seeds in a client’s store. */
export async function seedsIn(store: Store): Promise<Uint8Array[]> {
  const saved = await store.get('identity')
  if (saved === null) return []
  const { signingSeed, kemSeed } = decodeCanonical(saved) as { signingSeed: Uint8Array; kemSeed: Uint8Array }
  return [signingSeed, kemSeed]
}

/** Collects everything a member can get at: her store’s keys, the tokens she has seen, every DEK her epochs open. */
export async function collectKeys(
  store: Store,
  group: GroupId,
  { tokens, database }: { tokens: readonly string[]; database: pg.Pool },
): Promise<HeldKeys> {
  const secrets = await secretsIn(store, group)
  const [, kemSeed] = await seedsIn(store)
  const own = kemSeed === undefined ? [] : [await kemPrivateKeyFromSeed(KEMS[KEM_DHKEM_X25519], kemSeed)]
  const invites = await Promise.all(tokens.map(async (token) => (await inviteKeys(parseToken(token).secret, 1)).kem))
  return { kemKeys: [...own, ...invites], secrets, deks: await deksUnder(database, group, secrets) }
}

/** Every DEK that the given epoch secrets open in the database, superseded seals included. */
export async function deksUnder(database: pg.Pool, group: GroupId, secrets: ReadonlyMap<number, EpochSecret>): Promise<Dek[]> {
  const deks: Dek[] = []
  await openSeals(database, group, secrets, (dek) => deks.push(dek))
  return deks
}

/** Tries every held key against every wrap, link, seal and page that is in the database. */
export async function attackKeys(database: pg.Pool, group: GroupId, held: HeldKeys): Promise<Attempts> {
  const wraps = await attackWraps(database, group, held)
  const links = await attackLinks(database, group, held)
  let opened = 0
  const tried = await openSeals(database, group, held.secrets, () => {
    opened += 1
  })
  return { tried: wraps.tried + links.tried + tried, opened: wraps.opened + links.opened + opened }
}

/** Tries every held DEK against the metadata and inline bodies of given objects. */
export async function attackObjects(
  database: pg.Pool,
  group: GroupId,
  { held, objects }: { held: HeldKeys; objects: readonly ObjectId[] },
): Promise<Attempts> {
  const { rows } = await database.query<{ header: Buffer; body: Buffer | null }>(
    'select header, body from objects where group_id = $1 and object_id = any($2)',
    [group, [...objects]],
  )
  const attempts = { tried: 0, opened: 0 }
  for (const { header: envelope, body } of rows) {
    const { header } = decodeEnvelope(plain(envelope))
    const of = { group, object: header.object, generation: header.generation }
    for (const dek of held.deks) {
      const openBody = (): unknown => (body === null ? null : openInlineBody({ dek, context: of, suite: 1 }, header, plain(body)))
      count(attempts, await succeeds(() => openMetadata(dek, of, header.metadata)))
      if (body !== null) count(attempts, await succeeds(openBody))
    }
  }
  return attempts
}

async function attackWraps(database: pg.Pool, group: GroupId, { kemKeys }: HeldKeys): Promise<Attempts> {
  const { rows } = await database.query<{ epoch: number; opened_seq: string; parent: Buffer | null; enc: Buffer; wrap: Buffer }>(
    `select w.epoch, e.opened_seq, e.enc, w.wrap, p.hash as parent from wraps w join epochs e using (group_id, epoch)
     left join commits p on p.group_id = w.group_id and p.seq = e.opened_seq - 1 where w.group_id = $1`,
    [group],
  )
  const commitments = await commitmentsOf(database, group)
  const attempts = { tried: 0, opened: 0 }
  for (const { epoch, opened_seq: seq, parent, enc, wrap } of rows) {
    const commitment = commitments.get(epoch)
    if (commitment === undefined) continue
    const at = {
      suite: 1,
      group,
      epoch,
      seq: Number(seq),
      parent: parent === null ? null : asCommitHash(plain(parent)),
      commitment,
    } as const
    for (const key of kemKeys) count(attempts, await succeeds(() => unwrapEpochSecret(key, at, { enc: plain(enc), wrap: plain(wrap) })))
  }
  return attempts
}

async function attackLinks(database: pg.Pool, group: GroupId, { secrets }: HeldKeys): Promise<Attempts> {
  const { rows } = await database.query<{ epoch: number; link_to: number; link: Buffer }>(
    'select epoch, link_to, link from links where group_id = $1',
    [group],
  )
  const attempts = { tried: 0, opened: 0 }
  for (const { epoch, link_to: to, link } of rows) {
    for (const secret of secrets.values()) count(attempts, await succeeds(() => openLink(secret, plain(link), { group, epoch, to })))
  }
  return attempts
}

/** Opens every loose seal and page with every secret. @returns how many openings were tried. */
async function openSeals(
  database: pg.Pool,
  group: GroupId,
  secrets: ReadonlyMap<number, EpochSecret>,
  onDek: (dek: Dek) => void,
): Promise<number> {
  let tried = 0
  const seals = await database.query<SealedRow>(
    `select epoch, object_id, generation, seal from loose_deks where group_id = $1
     union all select epoch, object_id, generation, seal from superseded_deks where group_id = $1
     union all select epoch, object_id, generation, seal from unopenable_deks where group_id = $1 and seal is not null`,
    [group],
  )
  const pages = await database.query<PageRow>(
    'select epoch, page_id, entries, sealed from key_pages where group_id = $1 and count > 0 union all select epoch, page_id, entries, sealed from superseded_pages where group_id = $1 and count > 0',
    [group],
  )
  for (const secret of secrets.values()) {
    for (const row of seals.rows) {
      tried += 1
      const keys = epochSealKeys(secret, { group, epoch: row.epoch })
      const name = { object: asObjectId(plain(row.object_id)), generation: Number(row.generation) }
      await succeeds(() => onDek(openDek(keys, name, plain(row.seal))))
    }
    for (const row of pages.rows) {
      tried += 1
      const keys = epochSealKeys(secret, { group, epoch: row.epoch })
      await succeeds(() => {
        const page = openPage(keys, { pageId: asPageId(plain(row.page_id)), entries: plain(row.entries), sealed: plain(row.sealed) })
        for (const [index] of decodeEntries(page.entries).entries()) onDek(dekAt(page, index))
      })
    }
  }
  return tried
}

/** The commitments of live epochs, from the newest commit that opened each. */
async function commitmentsOf(database: pg.Pool, group: GroupId): Promise<Map<number, Uint8Array>> {
  const { rows } = await database.query<{ bytes: Buffer }>('select bytes from commits where group_id = $1 order by seq', [group])
  const opened = rows.map(({ bytes }) => decodeCommit(plain(bytes)).payload).filter(({ rekey }) => rekey !== null)
  return new Map(opened.flatMap(({ epoch, rekey }) => (rekey === null ? [] : [[epoch, rekey.commitment] as const])))
}

async function succeeds(attempt: () => unknown): Promise<boolean> {
  try {
    await attempt()
    return true
  } catch {
    // That it does not open is what is being counted.
    return false
  }
}

function count(attempts: { tried: number; opened: number }, opened: boolean): void {
  attempts.tried += 1
  if (opened) attempts.opened += 1
}

/** A plain view of a Buffer: CBOR and comparisons want Uint8Array itself. */
function plain(bytes: Uint8Array): Uint8Array {
  return Uint8Array.from(bytes)
}
