/** Small writes one by one, and many at once, against bare SQL that inserts the same rows. */
import { Connection } from '../client/connection.ts'
import type { Group } from '../client/node/index.ts'
import { Claviger, Identity } from '../client/node/index.ts'
import { WriteCombiner } from '../server/storage/combiner.ts'
import type { WriteItem } from '../server/storage/writes.ts'
import { writeObjects } from '../server/storage/writes.ts'
import type { PutItem } from '../shared/protocol/messages.ts'
import { median } from './measure.ts'
import { figure, reportSection } from './section.ts'
import type { Target } from './section.ts'
import type { Stage } from './stage.ts'
import { withStage } from './stage.ts'
import type { WrittenAt } from './written-rows.ts'
import { BODY_BYTES, createBareTables, insertBare, makeItems, toWriteItem, writtenAt } from './written-rows.ts'

const CONNECTIONS = 10
const ROUNDS = 9
/** Writes of one connection in one round. */
const WRITES = 150
/** The same for the SDK, whose ten clients share one process. */
const CLIENT_WRITES = 20
const BATCH = 1000
/** Batches in one round. */
const BATCHES = 3

const CONTENDERS = ['bare', 'storage', 'server', 'client'] as const
type Contender = (typeof CONTENDERS)[number]

interface Measured {
  /** Objects a second: the median of the rounds. */
  readonly rates: Readonly<Record<Contender, number>>
  /** To bare SQL in the same round: the median of the rounds. */
  readonly ratios: Readonly<Record<Contender, number>>
}

interface Parties {
  readonly stage: Stage
  readonly alice: Identity
  readonly connections: readonly Connection[]
  readonly clients: readonly Claviger[]
}

/** A group with the position that headers are written at. */
interface Place extends WrittenAt {
  readonly groups: readonly Group[]
}

const [one, ten, many] = await withStage(async (stage) => {
  const alice = await Identity.generate()
  const connections = Array.from(
    { length: CONNECTIONS },
    () => new Connection(stage.server.url, { identity: alice.id, cards: alice.cards, signer: alice.signer }),
  )
  const clients: Claviger[] = []
  while (clients.length < CONNECTIONS)
    clients.push(await Claviger.connect(stage.server.url, { identity: await Identity.generate(), background: false }))
  await createBareTables(stage.database)
  const parties = { stage, alice, connections, clients }
  return [await oneByOne(parties, 1), await oneByOne(parties, CONNECTIONS), await atOnce(parties)] as const
})
reportSection({
  title: 'Small writes',
  method: `Objects of ${BODY_BYTES} bytes, a second, on a real PostgreSQL with fsync; medians of ${ROUNDS} rounds in which the contenders take turns; ratios are medians too, each of one round. *Bare SQL* inserts the same rows (object and loose DEK, one trip, numbers from a sequence) without any fence; *storage* is our transaction with its combiner in this process; *server* adds the server in a process of its own and real WebSockets, with objects signed in advance; *client* is \`put()\` of the SDK, all ten clients in this one process. One by one: ${CONNECTIONS} connections, each waiting for its answer. At once: batches of ${BATCH}, one after the other.`,
  columns: ['objects a second', 'bare SQL', 'storage', 'server', 'client', 'storage ÷ bare', 'server ÷ bare', 'client ÷ bare'],
  rows: [rowOf('one by one, one group', one), rowOf('one by one, ten groups', ten), rowOf(`at once (putMany)`, many)],
  targets: [
    ...targetsOf('one group, one by one', one, ['storage', 'server']),
    ...targetsOf('ten groups, one by one', ten, ['storage', 'server']),
    ...targetsOf('many at once', many, ['storage', 'server', 'client']),
  ],
  notes: [
    'All contenders share the cores of one machine with PostgreSQL. The server checks hashes and signatures, the client makes hashes, seals and signatures, bare SQL does neither.',
    'One by one in one group, each of the ten clients also verifies what the nine others write, all in one process: that number says what one core does for ten people, and is no measure of a client alone.',
  ],
})
process.exit(0)

function rowOf(what: string, { rates, ratios }: Measured): string[] {
  return [what, ...CONTENDERS.map((contender) => figure(rates[contender])), ...[ratios.storage, ratios.server, ratios.client].map(figure)]
}

function targetsOf(what: string, { ratios }: Measured, layers: readonly Contender[]): Target[] {
  return layers.map((layer) => ({
    what: `${what}: ${layer}`,
    bound: 60,
    good: 'at least',
    measured: 100 * ratios[layer],
    unit: '% of bare SQL',
  }))
}

/** Groups of `alice`, with every client a member of one of them. */
async function makePlaces({ stage, alice, clients }: Parties, count: number): Promise<Place[]> {
  const owner = await Claviger.connect(stage.server.url, { identity: alice, background: false })
  const places: Place[] = []
  while (places.length < count) {
    const group = await owner.createGroup()
    const groups: Group[] = []
    for (const client of clients.filter((_, index) => index % count === places.length)) groups.push(await client.join(await group.invite()))
    await group.rekey()
    await Promise.all(groups.map((joined) => joined.sync()))
    places.push({ groups, ...(await writtenAt(owner.connection, group.id)) })
  }
  owner.close()
  return places
}

/** What each connection writes in one round. */
type Load = readonly { readonly place: Place; readonly items: readonly PutItem[]; readonly rows: readonly WriteItem[] }[]

async function oneByOne(parties: Parties, groupCount: number): Promise<Measured> {
  const { stage, alice, connections } = parties
  const places = await makePlaces(parties, groupCount)
  const combiner = new WriteCombiner(stage.database)
  const write: Readonly<Record<Contender, (load: Load) => Promise<unknown>>> = {
    bare: (load) => onAll(load, ({ place, rows }) => each(rows, (row) => insertBare(stage.database, { group: place.group, items: [row] }))),
    storage: (load) => onAll(load, ({ place, rows }) => each(rows, (row) => combiner.write({ ...fenceOf(place), items: [row] }))),
    server: (load) =>
      onAll(load, ({ place, items }, index) =>
        each(items, (item) => at(connections, index).request('object.put', { ...fenceOf(place), items: [item] })),
      ),
    client: (load) =>
      onAll(load, ({ place, items }, index) =>
        each(items, () => at(place.groups, Math.floor(index / groupCount)).put(new Uint8Array(BODY_BYTES), { name: 'note' })),
      ),
  }
  return inTurns(write, async (contender) => {
    const writes = contender === 'client' ? CLIENT_WRITES : WRITES
    const load = []
    for (let index = 0; index < CONNECTIONS; index += 1) {
      const place = at(places, index % groupCount)
      const items = await makeItems(alice, place, { count: writes, batch: false })
      load.push({ place, items, rows: items.map((item) => toWriteItem(alice, item)) })
    }
    return { load, count: CONNECTIONS * writes }
  })
}

async function atOnce(parties: Parties): Promise<Measured> {
  const { stage, alice, connections } = parties
  const place = at(await makePlaces({ ...parties, clients: parties.clients.slice(0, 1) }, 1), 0)
  const write: Readonly<Record<Contender, (load: Load) => Promise<unknown>>> = {
    bare: (load) => each(load, ({ rows }) => insertBare(stage.database, { group: place.group, items: rows })),
    storage: (load) => each(load, ({ rows }) => writeObjects(stage.database, { ...fenceOf(place), items: rows })),
    server: (load) => each(load, ({ items }) => at(connections, 0).request('object.put', { ...fenceOf(place), items: [...items] })),
    client: (load) =>
      at(place.groups, 0).putMany(load.flatMap(({ items }) => items.map(() => ({ body: new Uint8Array(BODY_BYTES), name: 'note' })))),
  }
  return inTurns(write, async () => {
    const load = []
    for (let batch = 0; batch < BATCHES; batch += 1) {
      const items = await makeItems(alice, place, { count: BATCH, batch: true })
      load.push({ place, items, rows: items.map((item) => toWriteItem(alice, item)) })
    }
    return { load, count: BATCHES * BATCH }
  })
}

/** Rounds with a fresh load for each contender; the first round warms up and does not count. */
async function inTurns(
  write: Readonly<Record<Contender, (load: Load) => Promise<unknown>>>,
  makeLoad: (contender: Contender) => Promise<{ load: Load; count: number }>,
): Promise<Measured> {
  const rates: Record<Contender, number[]> = { bare: [], storage: [], server: [], client: [] }
  for (let round = 0; round <= ROUNDS; round += 1) {
    for (const contender of CONTENDERS) {
      const { load, count } = await makeLoad(contender)
      const started = performance.now()
      await write[contender](load)
      if (round > 0) rates[contender].push(count / ((performance.now() - started) / 1000))
    }
  }
  const byContender = (of: (contender: Contender) => number): Record<Contender, number> => ({
    bare: of('bare'),
    storage: of('storage'),
    server: of('server'),
    client: of('client'),
  })
  return {
    rates: byContender((contender) => median(rates[contender])),
    ratios: byContender((contender) => median(rates[contender].map((rate, round) => rate / at(rates.bare, round)))),
  }
}

function fenceOf({ group, head, epoch }: WrittenAt): { group: WrittenAt['group']; epoch: number; seq: number } {
  return { group, epoch, seq: head.seq }
}

function onAll<T>(parts: readonly T[], work: (part: T, index: number) => Promise<unknown>): Promise<unknown> {
  return Promise.all(parts.map(work))
}

async function each<T>(parts: readonly T[], work: (part: T) => Promise<unknown>): Promise<void> {
  for (const part of parts) await work(part)
}

function at<T>(parts: readonly T[], index: number): T {
  const part = parts[index]
  if (part === undefined) throw new RangeError(`there is no ${index}`)
  return part
}
