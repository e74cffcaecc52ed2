/** The demo itself: what happens, in order, and what is checked on the way. */
import type { Hash } from 'node:crypto'
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import pg from 'pg'
import { Claviger, FileStore, hasCode, Identity } from '../../client/node/index.ts'
import type { Group, IdentityId, ObjectId } from '../../client/node/index.ts'
import { serverConfig, startServer } from '../../server/index.ts'
import { startEmbeddedPostgres } from '../../server/storage/embedded-postgres/index.ts'
import { Checks } from './checks.ts'
import type { SharedFile } from './files.ts'
import { findFiles, readFileStream } from './files.ts'
import { attackKeys, attackObjects, collectKeys, deksUnder, secretsIn, seedsIn } from './former-member.ts'
import { SecretSearch } from './secret-search.ts'
import { bodyHashes, searchDatabase, tableSizes } from './server-view.ts'
import type { Story } from './story.ts'
import { formatBytes, formatCount } from './story.ts'
import { Timing } from './timing.ts'

const RECORDS = 20_000
const FILES_IN_FLIGHT = 8

export interface DemoOptions {
  readonly story: Story
  /** Whose files are shared. */
  readonly folder: string
  /** For the server’s data and the clients’ stores. */
  readonly directory: string
}

/** A person with a store of their own. */
interface Person {
  readonly identity: Identity
  readonly store: FileStore
}

/** Runs the story. @returns what was counted, and how many steps were not as told. */
export async function runDemo({ story, folder, directory }: DemoOptions): Promise<{ report: Record<string, unknown>; failures: number }> {
  const checks = new Checks(story)
  const report: Record<string, unknown> = {}
  const timing = new Timing(report)

  story.chapter('A server starts, with a PostgreSQL of its own')
  const dataDirectory = join(directory, 'claviger-data')
  const quiet = { info: () => undefined, warn: () => undefined, error: () => undefined }
  const postgres = await startEmbeddedPostgres({ directory: dataDirectory, log: quiet })
  const server = await startServer(serverConfig({ port: 0, database: { kind: 'url', url: postgres.url }, logLevel: 'silent' }))
  const database = new pg.Pool({ connectionString: postgres.url, max: 2 })
  timing.lap('serverStartedMs')
  story.fact(`listening on ${server.url}, database in ${dataDirectory}`)
  const open = (person: Person): Promise<Claviger> => Claviger.connect(server.url, { identity: person.identity, store: person.store })

  try {
    const [alice, bob, carol] = await Promise.all(['alice', 'bob', 'carol'].map((name) => newPerson(directory, name)))
    if (alice === undefined || bob === undefined || carol === undefined) throw new TypeError('three people are needed')
    const search = new SecretSearch()

    story.chapter('alice creates a group, makes two single-use tokens, and goes offline')
    let aliceClient = await open(alice)
    const created = await aliceClient.createGroup({ name: 'The demonstration group' })
    const groupId = created.id
    const tokens = [await created.invite({ role: 'member', expiresIn: '7d' }), await created.invite({ role: 'member', expiresIn: '7d' })]
    aliceClient.close()
    timing.lap('createdMs')
    story.fact('two tokens, and nobody online')

    story.chapter('bob and carol join with nobody online')
    const bobClient = await open(bob)
    const carolClient = await open(carol)
    const bobGroup = await bobClient.join(tokens[0] ?? '')
    const carolGroup = await carolClient.join(tokens[1] ?? '')
    await bobGroup.sync()
    const joined = bobGroup.members().filter(({ via, state }) => via !== null && state === 'active').length
    report['joinedWhileOffline'] = checks.count(joined, 2, 'members joined while alice was offline')
    timing.lap('joinedMs')

    story.chapter('alice returns and shares a folder and 20 000 small records')
    aliceClient = await open(alice)
    const group = await aliceClient.group(groupId)
    await group.ready()
    const files = await findFiles(folder)
    const shared = await shareFiles(group, files, story)
    const recordIds = await shareRecords(group, story)
    report['files'] = files.length
    report['records'] = recordIds.length
    timing.lap('sharedMs')

    story.chapter('bob goes offline; carol reads, and remembers every key she sees')
    bobClient.close()
    await carolGroup.sync()
    const seen = await carolGroup.getMany(recordIds.slice(0, 100))
    checks.count(seen.length, 100, 'records read by carol')
    const held = await collectKeys(carol.store, groupId, { tokens, database })
    await collectSecrets(search, { people: [alice, bob, carol], groupId, database })
    story.fact(
      `she keeps ${held.kemKeys.length} private keys, ${held.secrets.size} epoch secrets and ${formatCount(held.deks.length)} DEKs`,
    )
    const bodiesBefore = await bodyHashes(database)
    timing.lap('carolReadMs')

    story.chapter('alice removes carol')
    const bar = story.progress('rewrap')
    const stop = group.on((change) => {
      if (change.type === 'rewrap-progress') bar.update(change.done, change.total)
    })
    const receipt = await group.remove(carolClient.id)
    timing.lap('removedMs')
    story.fact(`one commit opened epoch ${receipt.epoch}; carol could have read ${formatCount(receipt.readableObjects)} objects`)
    const outcome = await receipt.finished
    stop()
    bar.end()
    timing.lap('rewrappedMs')
    report['rewrapped'] = checks.atLeast(outcome.rewrapped, RECORDS, 'DEKs moved under the new epoch')
    report['retiredEpochs'] = checks.atLeast(outcome.retiredThrough + 1, 1, 'old epochs retired: their wraps, links and seals are deleted')
    const bodiesAfter = await bodyHashes(database)
    const changed = [...bodiesBefore].filter(([object, hash]) => bodiesAfter.get(object) !== hash).length
    report['bodiesChanged'] = checks.count(changed, 0, `of ${formatCount(bodiesBefore.size)} bodies changed in the database, byte for byte`)

    story.chapter('carol is locked out, with all her old keys and a copy of the database')
    const fresh = await writeAfterRemoval(group, recordIds)
    checks.holds(await lockedOut(carolGroup, fresh), 'her own client is refused')
    const [onKeys, onObjects] = [
      await attackKeys(database, groupId, held),
      await attackObjects(database, groupId, { held, objects: fresh }),
    ]
    report['removedMemberTried'] = checks.atLeast(
      onKeys.tried + onObjects.tried,
      held.deks.length,
      'openings tried: every key against every wrap, link, seal, page and new object',
    )
    report['removedMemberOpened'] = checks.count(onKeys.opened + onObjects.opened, 0, 'of them succeeded')
    carolClient.close()
    timing.lap('attackedMs')

    story.chapter('two epochs later bob returns')
    for (let round = 0; round < 2; round += 1) {
      await collectSecrets(search, { people: [alice], groupId, database })
      await group.rekey()
      await group.rewrap()
    }
    await collectSecrets(search, { people: [alice], groupId, database })
    timing.lap('rekeyedMs')
    const bobAgain = await open(bob)
    const bobReturned = await bobAgain.group(groupId)
    await bobReturned.ready()
    timing.lap('caughtUpMs')
    report['catchUpWraps'] = checks.count(bobReturned.counters.wrapsOpened, 1, `wrap opened to catch up with ${bobReturned.epoch} epochs`)
    await readEverything(bobReturned, { files: shared, recordIds, changed: new Set(fresh.map(textOf)) }, checks)
    const safetyNumber = await group.safetyNumber(bobAgain.id)
    checks.holds((await bobReturned.safetyNumber(aliceClient.id)) === safetyNumber, 'both see the same safety number')
    story.note(safetyNumber)
    timing.lap('readMs')

    story.chapter('What the server stores')
    await tellSizes(story, database, report)
    await collectPlaintext(search, files)
    search.addText('group name', Buffer.from('The demonstration group'))
    for (const token of tokens) search.addText('invite token', Buffer.from(token))
    await database.query('checkpoint')
    const raw = join(dataDirectory, 'pg18')
    await checkSearch(checks, { database, raw, id: recordIds[1] })
    const inRows = await searchDatabase(database, search)
    const onDisk = search.searchDirectory(raw)
    const finds = [...inRows.finds, ...onDisk.finds]
    for (const { label, where } of finds.slice(0, 5)) story.failure(`${label} found in ${where}`)
    story.fact(
      `${formatCount(search.size)} keys, names and plaintexts sought in ${formatBytes(inRows.bytes)} of rows and ${formatBytes(onDisk.bytes)} of raw files`,
    )
    report['secretsSought'] = search.size
    report['secretsFoundInDump'] = checks.count(finds.length, 0, 'of them found in the database, its files or its WAL')
    timing.lap('searchedMs')

    bobAgain.close()
    aliceClient.close()
    await Promise.all([alice, bob, carol].map(({ store }) => store.close()))
  } finally {
    await database.end()
    await server.close()
    await postgres.stop()
  }
  timing.total()
  story.chapter(checks.failures === 0 ? 'Everything was as told' : `${checks.failures} steps were not as told`)
  return { report, failures: checks.failures }
}

async function newPerson(directory: string, name: string): Promise<Person> {
  const store = await FileStore.open(join(directory, name))
  return { store, identity: await Identity.open(store) }
}

/** A file as it was when it was shared: somebody may be editing it meanwhile. */
interface SentFile extends SharedFile {
  readonly id: ObjectId
  readonly hash: string
}

async function shareFiles(group: Group, files: readonly SharedFile[], story: Story): Promise<SentFile[]> {
  const bar = story.progress('files  ')
  const sent: SentFile[] = []
  let [next, done] = [0, 0]
  const worker = async (): Promise<void> => {
    for (let index = next++; index < files.length; index = next++) {
      const file = files[index]
      if (file === undefined) return
      const hash = createHash('sha256')
      const { id } = await group.put(hashed(readFileStream(file), hash), { name: file.name })
      sent[index] = { ...file, id, hash: hash.digest('hex') }
      bar.update(++done, files.length)
    }
  }
  await Promise.all(Array.from({ length: FILES_IN_FLIGHT }, worker))
  bar.end()
  return sent
}

async function* hashed(pieces: AsyncIterable<Uint8Array>, hash: Hash): AsyncGenerator<Uint8Array> {
  for await (const piece of pieces) {
    hash.update(piece)
    yield piece
  }
}

async function shareRecords(group: Group, story: Story): Promise<ObjectId[]> {
  const bar = story.progress('records')
  const ids: ObjectId[] = []
  const batch = 1000
  for (let from = 0; from < RECORDS; from += batch) {
    const items = Array.from({ length: batch }, (_, index) => ({ body: recordText(from + index), name: `record ${from + index}` }))
    for (const { id } of await group.putMany(items)) ids.push(id)
    bar.update(ids.length, RECORDS)
  }
  bar.end()
  return ids
}

function recordText(index: number): string {
  return JSON.stringify({ index, reading: Math.sin(index).toFixed(6), note: `what only members of the group may read, number ${index}` })
}

/** New objects and a new version of an old one: what the removed member must not open. */
async function writeAfterRemoval(group: Group, recordIds: readonly ObjectId[]): Promise<ObjectId[]> {
  const written: ObjectId[] = []
  for (let index = 0; index < 4; index += 1)
    written.push((await group.put(`written after the removal, number ${index}`, { name: `after ${index}` })).id)
  const [old] = recordIds
  if (old !== undefined) written.push((await group.put('an old record, written anew after the removal', { id: old, name: 'record 0' })).id)
  return written
}

async function lockedOut(group: Group, objects: readonly ObjectId[]): Promise<boolean> {
  for (const object of objects) {
    try {
      await group.get(object)
      return false
    } catch (error) {
      if (!hasCode(error, 'not_a_member', 'unknown_group')) throw error
    }
  }
  return true
}

/** What bob must find: every file and record as it was shared, and the record that was written anew. */
interface Shared {
  readonly files: readonly SentFile[]
  readonly recordIds: readonly ObjectId[]
  readonly changed: ReadonlySet<string>
}

async function readEverything(group: Group, { files, recordIds, changed }: Shared, checks: Checks): Promise<void> {
  let [sameFiles, sameRecords] = [0, 0]
  for (const file of files) {
    const object = await group.get(file.id)
    if (object.name === file.name && (await hashOf(object.stream())) === file.hash) sameFiles += 1
  }
  for (const [index, object] of (await group.getMany(recordIds)).entries()) {
    const expected = changed.has(textOf(object.id)) ? 'an old record, written anew after the removal' : recordText(index)
    if ((await object.text()) === expected) sameRecords += 1
  }
  checks.count(sameFiles, files.length, 'files read back by bob, byte for byte')
  checks.count(sameRecords, recordIds.length, 'records read back by bob')
}

async function hashOf(pieces: AsyncIterable<Uint8Array>): Promise<string> {
  const hash = createHash('sha256')
  for await (const piece of pieces) hash.update(piece)
  return hash.digest('hex')
}

async function tellSizes(story: Story, database: pg.Pool, report: Record<string, unknown>): Promise<void> {
  const sizes = await tableSizes(database)
  story.table([['table', 'rows', 'bytes'], ...sizes.map(({ table, rows, bytes }) => [table, formatCount(rows), formatBytes(bytes)])])
  report['rowsStored'] = sizes.reduce((sum, { rows }) => sum + rows, 0)
  report['bytesStored'] = sizes.reduce((sum, { bytes }) => sum + bytes, 0)
}

/** A search that finds nothing must be able to find something: the id of an object is no secret and has to be there. */
async function checkSearch(
  checks: Checks,
  { database, raw, id }: { database: pg.Pool; raw: string; id: ObjectId | undefined },
): Promise<void> {
  const control = new SecretSearch()
  if (id !== undefined) control.addText('object id', id)
  const [inRows, onDisk] = [await searchDatabase(database, control), control.searchDirectory(raw)]
  checks.holds(inRows.finds.length > 0 && onDisk.finds.length > 0, 'the search finds what is not secret: an object’s id')
}

/** Adds every key that exists right now: later some of them will have been erased. */
async function collectSecrets(
  search: SecretSearch,
  { people, groupId, database }: { people: readonly Person[]; groupId: Group['id']; database: pg.Pool },
): Promise<void> {
  for (const { store } of people) {
    for (const seed of await seedsIn(store)) search.addKey('private key', seed)
    const secrets = await secretsIn(store, groupId)
    for (const secret of secrets.values()) search.addKey('epoch secret', secret)
  }
  const [first] = people
  if (first === undefined) return
  for (const dek of await deksUnder(database, groupId, await secretsIn(first.store, groupId))) search.addKey('DEK', dek)
}

/** Pieces of what was shared, long enough not to occur by chance. */
async function collectPlaintext(search: SecretSearch, files: readonly SharedFile[]): Promise<void> {
  for (let index = 0; index < RECORDS; index += 97) search.addText('record', Buffer.from(recordText(index)))
  for (const file of files) {
    search.addText('file name', Buffer.from(file.name))
    for await (const piece of readFileStream(file)) {
      const from = Math.floor(piece.length / 2)
      if (isTelling(piece.subarray(from, from + 32))) search.addText('file content', piece.subarray(from, from + 32))
      break
    }
  }
}

/** Runs of one byte occur everywhere. */
function isTelling(bytes: Uint8Array): boolean {
  return new Set(bytes).size >= 8
}

function textOf(id: IdentityId | ObjectId): string {
  return Buffer.from(id).toString('hex')
}
