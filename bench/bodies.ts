/** Big bodies: through server and database, and their encryption by itself. */
import { createCipheriv, createHash, randomBytes as nodeRandomBytes } from 'node:crypto'
import { Claviger, Identity } from '../client/node/index.ts'
import type { Database } from '../server/storage/database.ts'
import { all, execute, statement } from '../server/storage/statement.ts'
import { randomBytes } from '../shared/crypto/public-crypto.ts'
import { asGroupId, asObjectId } from '../shared/ids.ts'
import { checkHashes } from '../shared/objects/body-layout.ts'
import { openBodyRange, sealBody } from '../shared/objects/body.ts'
import { generateDek } from '../shared/objects/dek.ts'
import { median } from './measure.ts'
import { figure, reportSection } from './section.ts'
import { withStage } from './stage.ts'

const MIB = 1024 * 1024
const BODY_MIB = 256
const CRYPTO_MIB = 64
const RUNS = 3
const CRYPTO_RUNS = 7
/** Statements of bare SQL under way at once. */
const IN_FLIGHT = 2

const INSERT_PART = statement('bench_insert_part', 'insert into bare_parts (group_id, body_id, part, data) values ($1, $2, $3, $4)')
const READ_PART = statement<{ data: Uint8Array }>(
  'bench_read_part',
  'select data from bare_parts where group_id = $1 and body_id = $2 and part = $3',
)

const KEY = nodeRandomBytes(32)

/** MiB a second. */
interface Transfer {
  readonly put: number
  readonly get: number
  readonly bareInsert: number
  readonly bareRead: number
}

const crypto = await measureCrypto()
const transfer = await withStage(({ server, database }) => measureTransfer(server.url, database))
reportSection({
  title: 'Bodies',
  method: `A body of ${BODY_MIB} MiB streamed by the SDK through a server in its own process into PostgreSQL with fsync and back, medians of ${RUNS}; bare SQL writes and reads the same bytes in rows of 1 MiB, ${IN_FLIGHT} in flight. Encryption by itself: ${CRYPTO_MIB} MiB in memory in chunks of 64 KiB with their hashes, against AES-256-GCM of node:crypto over pieces of 1 MiB, in turns, medians of ${CRYPTO_RUNS}.`,
  columns: ['MiB a second', 'ours', 'against', 'ours ÷ against'],
  rows: [
    ['put, against bare inserts', figure(transfer.put), figure(transfer.bareInsert), figure(transfer.put / transfer.bareInsert)],
    ['get, against bare reads', figure(transfer.get), figure(transfer.bareRead), figure(transfer.get / transfer.bareRead)],
    ['seal, against AES-256-GCM', figure(crypto.seal), figure(crypto.aes), figure(crypto.seal / crypto.aes)],
    ['open, against AES-256-GCM', figure(crypto.open), figure(crypto.aes), figure(crypto.open / crypto.aes)],
    ['seal, against AES-256-GCM and SHA-256', figure(crypto.seal), figure(crypto.aesAndSha), figure(crypto.seal / crypto.aesAndSha)],
  ],
  targets: [
    { what: 'body encryption', bound: 70, good: 'at least', measured: (100 * crypto.seal) / crypto.aes, unit: '% of AES-256-GCM at 1 MiB' },
  ],
  notes: [
    'Each sealed chunk is hashed as well, so that readers can check it before they open it: *AES-256-GCM and SHA-256* is what that costs at the least.',
  ],
})
process.exit(0)

async function measureTransfer(url: string, database: Database): Promise<Transfer> {
  const client = await Claviger.connect(url, { identity: await Identity.generate(), background: false })
  const group = await client.createGroup()
  await database.pool.query('create table bare_parts (like body_parts including all)')
  const times: Record<keyof Transfer, number[]> = { put: [], get: [], bareInsert: [], bareRead: [] }
  for (let run = 0; run < RUNS; run += 1) {
    const { value: receipt, rate: put } = await rateOf(BODY_MIB, () => group.put(pieces(BODY_MIB)))
    const { rate: get } = await rateOf(BODY_MIB, async () => drain((await group.get(receipt.id)).stream()))
    await group.delete(receipt.id)
    const names = [randomBytes(32), randomBytes(16)] as const
    const part = nodeRandomBytes(MIB)
    const { rate: bareInsert } = await rateOf(BODY_MIB, () =>
      eachPart((index) => execute(database.pool, INSERT_PART, [...names, index, part])),
    )
    const { rate: bareRead } = await rateOf(BODY_MIB, () => eachPart((index) => all(database.pool, READ_PART, [...names, index])))
    await database.pool.query('truncate bare_parts')
    for (const [name, rate] of Object.entries({ put, get, bareInsert, bareRead })) times[name as keyof Transfer].push(rate)
  }
  client.close()
  return { put: median(times.put), get: median(times.get), bareInsert: median(times.bareInsert), bareRead: median(times.bareRead) }
}

/** Part after part, a few at once. */
async function eachPart(work: (index: number) => Promise<unknown>): Promise<void> {
  let next = 0
  const runner = async (): Promise<void> => {
    while (next < BODY_MIB) await work((next += 1))
  }
  await Promise.all(Array.from({ length: IN_FLIGHT }, runner))
}

async function rateOf<T>(mebibytes: number, work: () => Promise<T>): Promise<{ value: T; rate: number }> {
  const started = performance.now()
  const value = await work()
  return { value, rate: mebibytes / ((performance.now() - started) / 1000) }
}

async function* pieces(mebibytes: number): AsyncGenerator<Uint8Array> {
  const piece = nodeRandomBytes(MIB)
  for (let index = 0; index < mebibytes; index += 1) yield piece
}

async function drain(source: AsyncIterable<Uint8Array>): Promise<number> {
  let bytes = 0
  for await (const piece of source) bytes += piece.length
  return bytes
}

async function measureCrypto(): Promise<Record<'seal' | 'open' | 'aes' | 'aesAndSha', number>> {
  const piece = nodeRandomBytes(MIB)
  const plain = Array.from({ length: CRYPTO_MIB }, () => piece)
  const secret = {
    dek: generateDek(),
    context: { group: asGroupId(randomBytes(32)), object: asObjectId(randomBytes(16)), generation: 1 },
    suite: 1,
  } as const
  const rates: Record<'seal' | 'open' | 'aes' | 'aesAndSha', number[]> = { seal: [], open: [], aes: [], aesAndSha: [] }
  for (let run = 0; run <= CRYPTO_RUNS; run += 1) {
    const sealing = sealBody(secret, plain)
    const { value: chunks, rate: seal } = await rateOf(CRYPTO_MIB, async () => collect(sealing.chunks))
    const { length, hashes, bodyHash } = sealing.summary()
    const body = checkHashes({ bodyHash, bodyLength: length }, secret.suite, hashes)
    const { rate: open } = await rateOf(CRYPTO_MIB, () => drain(openBodyRange({ secret, body, read: () => chunks })))
    const { rate: aes } = await rateOf(CRYPTO_MIB, async () => plain.map(encrypt))
    const { rate: aesAndSha } = await rateOf(CRYPTO_MIB, async () => plain.map((bytes) => hash(encrypt(bytes))))
    if (run > 0) for (const [name, rate] of Object.entries({ seal, open, aes, aesAndSha })) rates[name as keyof typeof rates].push(rate)
  }
  return { seal: median(rates.seal), open: median(rates.open), aes: median(rates.aes), aesAndSha: median(rates.aesAndSha) }
}

async function collect(source: AsyncIterable<Uint8Array>): Promise<Uint8Array[]> {
  const collected: Uint8Array[] = []
  for await (const piece of source) collected.push(piece)
  return collected
}

function encrypt(bytes: Uint8Array): Uint8Array {
  const cipher = createCipheriv('aes-256-gcm', KEY, nodeRandomBytes(12))
  const sealed = cipher.update(bytes)
  cipher.final()
  cipher.getAuthTag()
  return sealed
}

function hash(bytes: Uint8Array): Uint8Array {
  return createHash('sha256').update(bytes).digest()
}
