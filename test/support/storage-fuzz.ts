/**
 * The fuzz of the storage layer, without cryptography: writers, rewrap jobs over the same ranges, commits, retires,
 * reseals and reports on one group, while connections are killed; with full checks of every invariant.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { WriteCombiner } from '../../server/storage/combiner.ts'
import type { AcceptedCommit } from '../../server/storage/commits.ts'
import { acceptCommit } from '../../server/storage/commits.ts'
import type { Database } from '../../server/storage/database.ts'
import { openDatabase } from '../../server/storage/database.ts'
import { readFeed } from '../../server/storage/feed.ts'
import { readObjects } from '../../server/storage/objects.ts'
import type { PageRange, StoredPage } from '../../server/storage/page-ranges.ts'
import { readRange } from '../../server/storage/page-ranges.ts'
import type { Replacement } from '../../server/storage/page-replace.ts'
import { replacePages } from '../../server/storage/page-replace.ts'
import { PostgresBodies } from '../../server/storage/postgres-bodies.ts'
import { resealDek } from '../../server/storage/reseals.ts'
import { readRewrapStatus, startRewrap } from '../../server/storage/rewrap-jobs.ts'
import { reportUnopenable } from '../../server/storage/unopenable.ts'
import type { WriteItem } from '../../server/storage/writes.ts'
import { concat, equalBytes } from '../../shared/bytes.ts'
import { ClavigerError, hasCode } from '../../shared/errors.ts'
import type { BodyId, GroupId, IdentityId, ObjectId } from '../../shared/ids.ts'
import { asBodyId, asObjectId, asPageId, idKey } from '../../shared/ids.ts'
import type { Pair } from '../../shared/objects/page.ts'
import { decodeEntries, decodePairs, encodeEntries, encodePairs, findEntry, pairKey } from '../../shared/objects/page.ts'
import { newGroup, nextCommit, positionOf, sha256 } from './storage-group.ts'
import { findViolations, findWrongSeals, looseSeal, markOf, openLoose, openPage, pageSeal, readGroupRows } from './storage-invariants.ts'
import { SeededRandom } from './storage-random.ts'

export interface FuzzOptions {
  readonly url: string
  readonly seed: number
  readonly durationMs: number
  /** Milliseconds between two kills of a random connection. */
  readonly killMs: number
  readonly epochMs: number
}

/** What happened, by name. */
export type FuzzFigures = Readonly<Record<string, number>>

export interface FuzzOutcome {
  readonly figures: FuzzFigures
  readonly violations: readonly string[]
}

/** Runs every actor for the given time, then lets all settle and checks the end state. */
export async function runStorageFuzz(options: FuzzOptions): Promise<FuzzOutcome> {
  const world = await World.open(options)
  try {
    await world.run()
    return { figures: Object.fromEntries([...world.figures].sort()), violations: world.violations }
  } finally {
    await world.close()
  }
}

/** Failures that clients live with; anything else is a violation. */
const EXPECTED = new Set([
  'stale_head',
  'stale_epoch',
  'rekey_owed',
  'version_conflict',
  'page_conflict',
  'not_retirable',
  'server_unavailable',
  'body_incomplete',
  'not_found',
  'body_invalid',
])

/** What the writers know of an object: shared among them, as clients share it through the feed. */
interface Known {
  readonly object: ObjectId
  /** The newest version that was acknowledged, or found in a conflict. */
  version: number
  live: boolean
}

class World {
  readonly figures = new Map<string, number>()
  readonly violations: string[] = []
  readonly #options: FuzzOptions
  readonly #database: Database
  readonly #other: Database
  readonly #checker: Database
  readonly #group: GroupId
  readonly #alice: IdentityId
  readonly #combiners: readonly WriteCombiner[]
  readonly #known = new Map<string, Known>()
  readonly #resealed = new Set<string>()
  readonly #broken = new Set<string>()
  readonly #deadline: number
  #stopped = false

  private constructor(options: FuzzOptions, databases: readonly [Database, Database, Database], group: GroupId, alice: IdentityId) {
    this.#options = options
    ;[this.#database, this.#other, this.#checker] = databases
    this.#group = group
    this.#alice = alice
    this.#combiners = [new WriteCombiner(this.#database), new WriteCombiner(this.#other)]
    this.#deadline = Date.now() + options.durationMs
  }

  static async open(options: FuzzOptions): Promise<World> {
    const databases = [
      openDatabase({ url: options.url, poolSize: 8 }),
      openDatabase({ url: options.url, poolSize: 8 }),
      openDatabase({ url: options.url, poolSize: 1 }),
    ] as const
    // The one connection that is never killed.
    await databases[2].pool.query(`set application_name = 'fuzz-checker'`)
    const { group, alice } = await newGroup(databases[0])
    return new World(options, databases, group, alice)
  }

  async close(): Promise<void> {
    await Promise.all([this.#database.close(), this.#other.close(), this.#checker.close()])
  }

  async run(): Promise<void> {
    const killing = this.#repeat('killer', 1, (random) => this.#kill(random))
    const checking = this.#repeat('checker', 2, () => this.#check())
    const reader = new FeedReader(this.#other, this.#group)
    const reading = this.#repeat('feed', 3, (random) => this.#readFeed(reader, random))
    const collecting = this.#repeat('collector', 4, () => this.#collect())
    const actors = [
      ...[10, 11, 12, 13].map((salt) => this.#repeat('writer', salt, (random) => this.#write(random))),
      ...[20, 21].map((salt) => this.#repeat('job', salt, (random) => this.#rewrap(random))),
      ...[30, 31].map((salt) => this.#repeat('committer', salt, (random) => this.#commit(random))),
      this.#repeat('retirer', 40, (random) => this.#retire(random)),
      this.#repeat('resealer', 50, (random) => this.#reseal(random)),
      this.#repeat('mallory', 60, (random) => this.#cheat(random)),
      this.#repeat('reader', 70, (random) => this.#readObjects(random)),
    ]
    await Promise.all(actors)
    this.#stopped = true
    await Promise.all([killing, checking, reading, collecting])
    await this.#settle(reader)
  }

  #count(name: string, by = 1): void {
    this.figures.set(name, (this.figures.get(name) ?? 0) + by)
  }

  #violate(sentence: string): void {
    this.violations.push(sentence)
    this.#stopped = true
  }

  /** Acts until the time is over. Each actor has its own random choices. */
  async #repeat(name: string, salt: number, act: (random: SeededRandom) => Promise<void>): Promise<void> {
    const random = new SeededRandom(this.#options.seed * 1000 + salt)
    while (!this.#stopped && (Date.now() < this.#deadline || name === 'feed')) {
      try {
        await act(random)
      } catch (error) {
        if (!(error instanceof ClavigerError) || !EXPECTED.has(error.code))
          this.#violate(`${name}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`)
        else this.#count(`${name} ${error.code}`)
      }
    }
  }

  // — Writers —

  async #write(random: SeededRandom): Promise<void> {
    const position = await positionOf(this.#database, this.#group)
    const items = await this.#planItems(random, position.epoch)
    const combiner = random.chance(0.5) ? this.#combiners[0] : this.#combiners[1]
    const results = (await combiner?.write({ group: this.#group, seq: position.seq, epoch: position.epoch, items })) ?? []
    for (const [index, result] of results.entries()) {
      const item = items[index]
      if (item === undefined) continue
      if (result.state === 'accepted') this.#acknowledge(item)
      else if (EXPECTED.has(result.error.code)) this.#count(result.error.code)
      else this.#violate(`writer: ${result.error.code}`)
    }
    await delay(random.below(4))
  }

  #acknowledge(item: WriteItem): void {
    this.#count(item.seal === null ? 'deletes' : item.expected === 0 ? 'puts' : 'replaces')
    const known = this.#known.get(idKey(item.object))
    const version = item.expected + 1
    if (known === undefined || known.version < version)
      this.#known.set(idKey(item.object), { object: item.object, version, live: item.seal !== null })
  }

  async #planItems(random: SeededRandom, epoch: number): Promise<WriteItem[]> {
    const items = new Map<string, WriteItem>()
    const count = random.chance(0.1) ? random.between(5, 40) : 1
    const all = [...this.#known.values()]
    for (let index = 0; index < count; index += 1) {
      const known = random.chance(this.#known.size < 150 ? 0.5 : 0.93) ? random.pick(all) : undefined
      const item = await this.#planItem(random, epoch, known)
      items.set(idKey(item.object), item)
    }
    return [...items.values()]
  }

  async #planItem(random: SeededRandom, epoch: number, known: Known | undefined): Promise<WriteItem> {
    const object = known?.object ?? asObjectId(random.bytes(16))
    // Sometimes a version that is not the newest: a client that is behind.
    const expected = Math.max(0, (known?.version ?? 0) - (random.chance(0.03) ? 1 : 0))
    const header = concat(object, Uint8Array.of(expected & 0xff, expected >> 8), random.bytes(40))
    const tombstone = known !== undefined && random.chance(this.#known.size > 600 ? 0.4 : 0.15)
    const bodyId = !tombstone && random.chance(0.05) ? await this.#upload(random) : null
    const pair = { object, generation: expected + 1 }
    return {
      object,
      expected,
      header,
      headerHash: sha256(header),
      author: this.#alice,
      seal: tombstone ? null : looseSeal(pair, epoch),
      body: tombstone || bodyId !== null ? null : random.bytes(20),
      bodyId,
      bodyBytes: bodyId === null ? 20 : 100,
    }
  }

  async #upload(random: SeededRandom): Promise<BodyId> {
    const bodies = new PostgresBodies(this.#database)
    const name = { group: this.#group, bodyId: asBodyId(random.bytes(16)) }
    await bodies.begin(name, { owner: this.#alice })
    await bodies.writePart(name, { part: 0, data: random.bytes(100), owner: this.#alice })
    if (random.chance(0.95)) await bodies.complete(name, { hashes: random.bytes(32), owner: this.#alice })
    return name.bodyId
  }

  async #collect(): Promise<void> {
    while (await new PostgresBodies(this.#other, { orphanMs: 200, uploadMs: 5000 }).collect()) this.#count('collected bodies')
    await delay(100)
  }

  // — Rewrap jobs —

  async #rewrap(random: SeededRandom): Promise<void> {
    const owner = random.bytes(16)
    const position = await positionOf(this.#database, this.#group)
    await startRewrap(this.#database, { group: this.#group, epoch: position.epoch, seq: position.seq, owner })
    let lo: Uint8Array | null = new Uint8Array(0)
    while (lo !== null && Date.now() < this.#deadline) lo = await this.#rewrapRange(random, lo, owner)
    this.#count('jobs')
  }

  async #rewrapRange(random: SeededRandom, lo: Uint8Array, owner: Uint8Array): Promise<Uint8Array | null> {
    const range = await readRange(this.#database, this.#group, {
      lo,
      pagesMax: random.between(1, 8),
      looseMax: random.between(5, 200),
      dead: random.chance(0.7),
    })
    if (range === null) throw new Error('the group is gone')
    await delay(random.below(6))
    try {
      const progress = await replacePages(this.#database, await this.#planReplacement(random, range, owner))
      if (progress.done > progress.total) this.#violate('a job has done more than there was')
      this.#count('replacements')
      return range.next
    } catch (error) {
      if (!hasCode(error, 'page_conflict')) throw error
      this.#count('page_conflict')
      return lo
    }
  }

  async #planReplacement(random: SeededRandom, range: PageRange, owner: Uint8Array): Promise<Replacement> {
    const opened = this.#openRange(range)
    await this.#report(range, opened.unopenable)
    if (opened.live.size > 0 && random.chance(0.01)) this.#breakOne(random, opened.live)
    return {
      group: this.#group,
      epoch: range.epoch,
      seq: range.seq,
      replaced: range.pages.map(({ lo, pageId }) => ({ lo, pageId })),
      absorbed: encodePairs(opened.absorbed),
      pages: buildPages(random, range, [...opened.live.values()]),
      leaseOwner: owner,
    }
  }

  /** A seal that is wrong from now on, as a faulty client would make it. */
  #breakOne(random: SeededRandom, live: Map<string, Opened>): void {
    const [key, entry] = random.pick([...live]) ?? []
    if (key === undefined || entry === undefined) return
    this.#broken.add(key)
    live.set(key, { ...entry, mark: new Uint8Array(32).fill(0xee) })
    this.#count('broken seals')
  }

  #openRange(range: PageRange): { live: Map<string, Opened>; absorbed: Pair[]; unopenable: Pair[] } {
    const dead = new Set(decodePairs(range.dead).map(pairKey))
    const live = new Map<string, Opened>()
    const unopenable: Pair[] = []
    for (const page of range.pages) {
      const marks = openPage(page.sealed)
      for (const [index, entry] of decodeEntries(page.entries).entries())
        live.set(pairKey(entry), { ...entry, mark: marks[index] ?? new Uint8Array(0) })
    }
    // A loose seal takes the place of a page's.
    for (const loose of range.loose) live.set(pairKey(loose), { ...loose, mark: openLoose(loose.seal) })
    for (const [key, entry] of live) {
      const opens = equalBytes(entry.mark, markOf(entry))
      if (!opens && !this.#broken.has(key)) this.#violate(`job: a seal holds another DEK: ${key}`)
      if (!opens && !dead.has(key)) unopenable.push(entry)
      if (!opens || dead.has(key)) live.delete(key)
    }
    const listed = new Set(unopenable.map(pairKey))
    return { live, unopenable, absorbed: range.loose.filter((loose) => !listed.has(pairKey(loose))) }
  }

  async #report({ epoch, seq }: PageRange, deks: readonly Pair[]): Promise<void> {
    if (deks.length === 0) return
    await reportUnopenable(this.#database, { group: this.#group, epoch, seq, reportedBy: this.#alice, deks })
    this.#count('reports')
  }

  // — Commits —

  async #commit(random: SeededRandom): Promise<void> {
    await delay(random.between(this.#options.epochMs / 2, this.#options.epochMs * 2))
    await this.#commitOnce(random)
    if ((await positionOf(this.#database, this.#group)).rekeyOwed) await this.#commitOnce(random)
  }

  async #commitOnce(random: SeededRandom): Promise<void> {
    const position = await positionOf(this.#database, this.#group)
    // Two of them plan on the same head now and then: the loser is told.
    await delay(random.below(20))
    const settles = position.rekeyOwed
    const opens = settles || random.chance(0.7)
    await this.#accept(nextCommit(this.#group, position, { opens, rekeyOwed: !settles && random.chance(0.1) }))
    this.#count(opens ? 'epochs' : 'other commits')
  }

  async #accept(accepted: AcceptedCommit): Promise<void> {
    await acceptCommit(this.#database, accepted)
  }

  async #retire(random: SeededRandom): Promise<void> {
    await delay(random.between(50, this.#options.epochMs))
    const status = await readRewrapStatus(this.#database, this.#group)
    const position = await positionOf(this.#database, this.#group)
    if (status === null) throw new Error('the group is gone')
    // Sometimes too early: the server refuses.
    const through = random.chance(0.2) ? position.epoch - 1 : status.oldestSealed - 1
    if (through <= position.retiredThrough) return
    await this.#accept(nextCommit(this.#group, position, { retireThrough: through, rekeyOwed: position.rekeyOwed }))
    this.#count('retired epochs', through - position.retiredThrough)
  }

  // — Reseals, reads —

  async #reseal(random: SeededRandom): Promise<void> {
    await delay(random.between(5, 40))
    const known = random.pick([...this.#known.values()])
    if (known === undefined || !known.live) return
    const position = await positionOf(this.#database, this.#group)
    const pair = { object: known.object, generation: known.version }
    this.#resealed.add(pairKey(pair))
    const seal = looseSeal(pair, position.epoch)
    await resealDek(this.#database, { group: this.#group, ...pair, epoch: position.epoch, seq: position.seq, seal })
    this.#count('reseals')
  }

  async #readObjects(random: SeededRandom): Promise<void> {
    await delay(random.below(10))
    const asked = Array.from({ length: random.between(1, 30) }, () => random.pick([...this.#known.values()])).filter(
      (known) => known !== undefined,
    )
    const before = asked.map(({ version }) => version)
    const read = await readObjects(this.#other, this.#group, { objects: asked.map(({ object }) => object) })
    const pages = new Map<string, { readonly entries: Uint8Array; readonly sealed: Uint8Array }>()
    for (const [index, found] of (read?.objects ?? []).entries()) {
      const object = asked[index]?.object
      if (object === undefined) continue
      if (found === null || found.version < (before[index] ?? 0)) return this.#violate('reader: an acknowledged write is not there')
      if (!found.live) continue
      if (found.dek === null) this.#count('reads without DEK')
      if (found.dek?.kind === 'page') pages.set(idKey(found.dek.pageId), found.dek)
      const page = found.dek === null || found.dek.kind === 'loose' ? undefined : pages.get(idKey(found.dek.pageId))
      const mark =
        found.dek?.kind === 'loose'
          ? openLoose(found.dek.seal)
          : page === undefined
            ? undefined
            : markIn(page, { object, generation: found.generation })
      const pair = { object, generation: found.generation }
      if (found.dek?.kind === 'known' && page === undefined) this.#violate('reader: a page is named that was not sent')
      if (found.dek !== null && (mark === undefined || !equalBytes(mark, markOf(pair))) && !this.#broken.has(pairKey(pair)))
        this.#violate(`reader: no DEK that opens: ${pairKey(pair)}`)
      this.#count('reads')
    }
  }

  // — Mallory: a client that loses or doubles live DEKs —

  async #cheat(random: SeededRandom): Promise<void> {
    await delay(random.between(10, 60))
    const lo = random.bytes(16)
    const range = await readRange(this.#database, this.#group, { lo, pagesMax: random.between(1, 4), looseMax: 100, dead: true })
    if (range === null) return
    const { live, absorbed } = this.#openRange(range)
    const dead = new Set(decodePairs(range.dead).map(pairKey))
    const victims = [...live].filter(([key]) => !this.#resealed.has(key) && !this.#broken.has(key) && !dead.has(key))
    const [key, victim] = random.pick(victims) ?? []
    if (key === undefined || victim === undefined) return
    const kind = random.pick(['drop', 'double', 'invent', 'other header'] as const) ?? 'drop'
    const isLoose = range.loose.some((loose) => pairKey(loose) === key)
    const stays = absorbed.filter((loose) => kind !== 'double' || pairKey(loose) !== key)
    if (kind === 'double' && !isLoose) return
    if (kind === 'drop') live.delete(key)
    if (kind === 'other header') live.set(key, { ...victim, headerHash: random.bytes(32) })
    const invented = { object: asObjectId(random.bytes(16)), generation: 1 }
    if (kind === 'invent') Object.assign(invented, { object: victim.object, generation: victim.generation + 1 })
    if (kind === 'invent') live.set(pairKey(invented), { ...invented, headerHash: random.bytes(32), mark: markOf(invented) })
    await this.#attempt(kind, victim, {
      group: this.#group,
      epoch: range.epoch,
      seq: range.seq,
      replaced: range.pages.map(({ lo: from, pageId }) => ({ lo: from, pageId })),
      absorbed: encodePairs(stays),
      pages: buildPages(random, range, [...live.values()]),
      leaseOwner: null,
    })
  }

  async #attempt(kind: string, victim: Pair, replacement: Replacement): Promise<void> {
    try {
      await replacePages(this.#database, replacement)
    } catch (error) {
      if (!hasCode(error, 'set_rule')) throw error
      return this.#count('cheats refused')
    }
    // Only if a write made it dead in between is it no loss.
    const [now] = (await readObjects(this.#checker, this.#group, { objects: [victim.object] }))?.objects ?? []
    const limit = kind === 'invent' ? victim.generation + 1 : victim.generation
    if (now === null || now === undefined || (now.live && now.generation <= limit)) this.#violate(`mallory: “${kind}” was accepted`)
    else this.#count('cheats overtaken')
  }

  // — Faults and checks —

  async #kill(random: SeededRandom): Promise<void> {
    await delay(this.#options.killMs * (0.5 + random.below(1000) / 1000))
    const killed = await this.#checker.pool.query(
      `select pg_terminate_backend(pid) from (
         select pid from pg_stat_activity where datname = current_database() and application_name = 'claviger' and pid <> pg_backend_pid()
           and (state = 'idle in transaction' or state = 'active') order by random() limit 1) victim`,
    )
    this.#count('kills', killed.rowCount ?? 0)
  }

  async #check(): Promise<void> {
    await delay(150)
    const acknowledged = [...this.#known.values()].map(({ object, version }) => ({ object, version }))
    const rows = await readGroupRows(this.#checker, this.#group)
    for (const sentence of findViolations(rows, (pair) => this.#resealed.has(pairKey(pair)))) this.#violate(sentence)
    for (const sentence of findWrongSeals(rows, (pair) => this.#broken.has(pairKey(pair)))) this.#violate(sentence)
    const versions = new Map(rows.objects.map((row) => [idKey(row.object_id), row.version]))
    for (const { object, version } of acknowledged)
      if ((versions.get(idKey(object)) ?? 0) < version) this.#violate('an acknowledged write is lost')
    this.#count('checks')
  }

  async #readFeed(reader: FeedReader, random: SeededRandom): Promise<void> {
    const wrong = await reader.read(random.between(1, 50), random.between(200, 5000))
    if (wrong !== null) this.#violate(`feed: ${wrong}`)
    this.#count('feed pages')
    await delay(random.below(5))
  }

  async #settle(reader: FeedReader): Promise<void> {
    await Promise.all(this.#combiners.map((combiner) => combiner.settle()))
    await this.#check()
    const wrong = await reader.finish()
    if (wrong !== null) this.#violate(`feed: ${wrong}`)
    const rows = await readGroupRows(this.#checker, this.#group)
    for (const row of rows.objects) {
      if (!equalBytes(sha256(reader.headers.get(idKey(row.object_id)) ?? new Uint8Array(0)), row.header_hash))
        this.#violate('feed: an object’s newest header never came')
    }
    if (reader.seq !== rows.group.head_seq) this.#violate('feed: a commit never came')
    this.#count('objects at the end', rows.objects.length)
    this.#count('pages at the end', rows.pages.length)
    this.#count('loose at the end', rows.loose.length)
  }
}

interface Opened extends Pair {
  readonly headerHash: Uint8Array
  readonly mark: Uint8Array
}

/** Pages of a random size, so that there are many. */
function buildPages(random: SeededRandom, range: PageRange, live: readonly Opened[]): StoredPage[] {
  const sorted = [...live].sort((left, right) => (pairKey(left) < pairKey(right) ? -1 : 1))
  const pages: StoredPage[] = []
  let lo = range.pages[0]?.lo ?? new Uint8Array(0)
  const end = range.pages.at(-1)?.hi ?? null
  for (let from = 0; ;) {
    let to = Math.min(sorted.length, from + random.between(1, 25))
    while (to > from && to < sorted.length && idKey(sorted[to]?.object ?? lo) === idKey(sorted[to - 1]?.object ?? lo)) to += 1
    const hi = to >= sorted.length ? end : (sorted[to]?.object ?? end)
    const taken = sorted.slice(from, to)
    pages.push({
      lo,
      hi,
      pageId: asPageId(newBytes(random)),
      epoch: range.epoch,
      entries: encodeEntries(taken),
      sealed: pageSeal(
        taken.map(({ mark }) => mark),
        range.epoch,
      ),
    })
    if (to >= sorted.length || hi === null) return pages
    lo = hi
    from = to
  }
}

/** Two actors must not choose one page id. */
let pageCount = 0
function newBytes(random: SeededRandom): Uint8Array {
  const bytes = random.bytes(16)
  new DataView(bytes.buffer).setUint32(0, (pageCount += 1))
  return bytes
}

function markIn({ entries, sealed }: { readonly entries: Uint8Array; readonly sealed: Uint8Array }, pair: Pair): Uint8Array | undefined {
  const index = findEntry(entries, pair.object, pair.generation)
  return index === null ? undefined : openPage(sealed)[index]
}

/** A client that follows the feed from the beginning. */
class FeedReader {
  readonly headers = new Map<string, Uint8Array>()
  readonly #database: Database
  readonly #group: GroupId
  #cursor = 0
  seq = -1

  constructor(database: Database, group: GroupId) {
    this.#database = database
    this.#group = group
  }

  /** Reads one page. @returns what is wrong with it. */
  async read(itemsMax: number, bytesMax: number): Promise<string | null> {
    const page = await readFeed(this.#database, this.#group, { cursor: this.#cursor, seq: this.seq, itemsMax, bytesMax })
    if (page === null) return 'the group is gone'
    if (page.from !== this.#cursor || page.to < page.from || page.to > page.change) return 'a page does not join the one before'
    if (page.items.length > itemsMax) return 'a page is too long'
    let last = page.from
    for (const item of page.items) {
      if (item.change <= last || item.change > page.to) return 'changes are out of order'
      last = item.change
      if (item.kind === 'header') this.headers.set(idKey(item.object), item.header)
      else if (item.seq === this.seq + 1) this.seq = item.seq
      else return `commit ${item.seq} came after ${this.seq}`
    }
    this.#cursor = page.to
    return null
  }

  /** Reads to the end. */
  async finish(): Promise<string | null> {
    for (;;) {
      const before = this.#cursor
      const wrong = await this.read(100, 100_000)
      if (wrong !== null || this.#cursor === before) return wrong
    }
  }
}
