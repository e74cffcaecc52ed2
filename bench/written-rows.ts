/** Signed objects made in advance, and bare SQL that inserts the rows they become, without any fence. */
import type { Connection } from '../client/connection.ts'
import type { Identity } from '../client/node/index.ts'
import type { Database } from '../server/storage/database.ts'
import { execute, statement } from '../server/storage/statement.ts'
import type { WriteItem } from '../server/storage/writes.ts'
import { randomBytes, sha256 } from '../shared/crypto/public-crypto.ts'
import type { GroupId, Head } from '../shared/ids.ts'
import { asObjectId } from '../shared/ids.ts'
import { signHeader, signHeaders } from '../shared/objects/header-signing.ts'
import type { Header } from '../shared/objects/header.ts'
import { decodeEnvelope } from '../shared/objects/header.ts'
import type { PutItem } from '../shared/protocol/messages.ts'

/** Bytes of plaintext in each object. */
export const BODY_BYTES = 200
const TAG_BYTES = 16
const METADATA_BYTES = 24 + 64 + 16
const SEAL_BYTES = 72

/** Where headers say they were written. */
export interface WrittenAt {
  readonly group: GroupId
  readonly head: Head
  readonly epoch: number
}

/** Where a group stands now. */
export async function writtenAt(connection: Connection, group: GroupId): Promise<WrittenAt> {
  const { head, epoch } = await connection.request('log.head', { group })
  return { group, head, epoch }
}

/** New objects, signed one by one or as one batch. What is sealed is random: nobody opens it. */
export async function makeItems(
  author: Identity,
  at: WrittenAt,
  { count, batch }: { readonly count: number; readonly batch: boolean },
): Promise<PutItem[]> {
  const headers = Array.from({ length: count }, () => newHeader(author, at))
  const envelopes = batch
    ? await signHeaders(author.signer, headers)
    : await Promise.all(headers.map((header) => signHeader(author.signer, header)))
  return envelopes.map((header) => ({ header, seal: randomBytes(SEAL_BYTES), body: randomBytes(BODY_BYTES + TAG_BYTES), bodyId: null }))
}

function newHeader(author: Identity, { group, head, epoch }: WrittenAt): Header {
  const [dekCommitment, bodyHash] = [randomBytes(32), randomBytes(32)]
  const fresh = { v: 1, version: 1, generation: 1, previous: null } as const
  return {
    ...fresh,
    group,
    object: asObjectId(randomBytes(16)),
    epoch,
    at: head,
    author: author.id,
    dekCommitment,
    bodyHash,
    bodyLength: BODY_BYTES,
    metadata: randomBytes(METADATA_BYTES),
  }
}

/** The same as the server hands to its storage. */
export function toWriteItem(author: Identity, item: PutItem): WriteItem {
  const { header, hash } = decodeEnvelope(item.header)
  return {
    object: header.object,
    expected: 0,
    header: item.header,
    headerHash: hash,
    author: author.id,
    seal: item.seal,
    body: item.body,
    bodyId: null,
    bodyBytes: item.body?.length ?? 0,
  }
}

/** The rows of one statement, ready to be sent. */
export interface BareRows {
  readonly group: GroupId
  readonly items: readonly WriteItem[]
}

/** As the server’s statement without its first part: no fence, numbers from a sequence. */
const INSERT_BARE = statement(
  'bench_insert_bare',
  `with x as (select * from unnest($2::bytea[], $3::bytea[], $4::bytea[], $5::bytea[], $6::bytea[]) as x(object_id, header, header_hash, seal, body)),
   o as (insert into bare_objects (group_id, object_id, version, generation, live, change_seq, header, header_hash, author, epoch, body, body_bytes)
     select $1, x.object_id, 1, 1, true, nextval('bare_change_seq'), x.header, x.header_hash, $7, 0, x.body, octet_length(x.body) from x)
   insert into bare_loose_deks (group_id, object_id, generation, epoch, seal) select $1, x.object_id, 1, 0, x.seal from x`,
)

/** Tables like ours, for bare SQL. */
export async function createBareTables({ pool }: Database): Promise<void> {
  await pool.query('create table bare_objects (like objects including all)')
  await pool.query('create table bare_loose_deks (like loose_deks including all)')
  await pool.query('create sequence bare_change_seq')
}

/** Inserts objects with their loose DEKs in one trip. */
export async function insertBare({ pool }: Database, { group, items }: BareRows): Promise<void> {
  const author = items[0]?.author ?? sha256(group)
  const columns = [
    items.map(({ object }) => object),
    items.map(({ header }) => header),
    items.map(({ headerHash }) => headerHash),
    items.map(({ seal }) => seal),
    items.map(({ body }) => body),
  ]
  await execute(pool, INSERT_BARE, [group, ...columns, author])
}
