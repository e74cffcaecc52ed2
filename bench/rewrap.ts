/** Rewrapping after a removal, end to end, against bare SQL that inserts the same page rows and against a row per DEK. */
import { Claviger, Identity } from '../client/node/index.ts'
import type { Group } from '../client/node/index.ts'
import type { Database } from '../server/storage/database.ts'
import { median } from './measure.ts'
import { insertPagesSeconds, PAGES_PER_STATEMENT, rewrapRowsSeconds, ROWS_PER_UPDATE } from './rewrap-rivals.ts'
import { figure, reportSection } from './section.ts'
import type { Target } from './section.ts'
import { withStage } from './stage.ts'

const SIZES = [10_000, 100_000] as const
const PAGED_RUNS = 5
const BATCH = 1000

/** DEKs a second. */
interface Rates {
  readonly deks: number
  /** The first removal, all DEKs loose: until every DEK is moved, and until the old epoch is retired. */
  readonly loose: number
  readonly looseRetired: number
  readonly paged: number
  readonly pagedRetired: number
  readonly bare: number
  readonly perRow: number
}

const measured: Rates[] = []
for (const deks of SIZES) measured.push(await withStage(({ server, database }) => measureSize(deks, server.url, database)))
reportSection({
  title: 'Rewrap after a removal',
  method: `A real client, a real server in its own process, and a real PostgreSQL with fsync, over WebSocket. \`group.remove()\`, then the rewrap job by itself: the rate until the last DEK is under the new epoch (*moved*) and until everything has been read back and the old epoch is retired (*retired*). The first removal finds every DEK loose; *paged* is the median of ${PAGED_RUNS} later ones. *Bare insert*: the very rows of \`key_pages\` into a table like it, ${PAGES_PER_STATEMENT} a statement, median of ${PAGED_RUNS}. *A row per DEK*: each seal read, opened, sealed again and updated by \`unnest\`, ${ROWS_PER_UPDATE} at a time, fillfactor 50, with the same crypto backend and without any server between.`,
  columns: [
    'DEKs',
    'first removal, moved/s',
    'first, retired/s',
    'paged, moved/s',
    'paged, retired/s',
    'bare insert/s',
    'a row per DEK/s',
    'paged ÷ bare',
    'paged ÷ row',
  ],
  rows: measured.map(({ deks, loose, looseRetired, paged, pagedRetired, bare, perRow }) => [
    String(deks),
    ...[loose, looseRetired, paged, pagedRetired, bare, perRow, paged / bare, paged / perRow].map(figure),
  ]),
  targets: measured.flatMap(targetsOf),
  notes: [],
})
process.exit(0)

function targetsOf({ deks, loose, paged, bare, perRow }: Rates): Target[] {
  if (deks < 100_000) return []
  return [
    { what: `${deks} paged: of the bare insert of the same rows`, bound: 30, good: 'at least', measured: (100 * paged) / bare, unit: '%' },
    { what: `${deks} paged: against a row per DEK`, bound: 20, good: 'at least', measured: paged / perRow, unit: '×' },
    { what: `${deks} loose: the first removal`, bound: 15_000, good: 'at least', measured: loose, unit: 'DEK/s' },
  ]
}

async function measureSize(deks: number, url: string, database: Database): Promise<Rates> {
  const alice = await Claviger.connect(url, { identity: await Identity.generate(), background: false })
  const group = await alice.createGroup()
  const leavers: Identity[] = []
  while (leavers.length < PAGED_RUNS + 1) leavers.push(await Identity.generate())
  for (const { cards } of leavers) await group.add(cards)
  await fill(group, deks)
  const [first, ...later] = leavers
  if (first === undefined) throw new Error('nobody leaves')
  const loose = await removeAndTime(group, first, deks)
  const paged: Moved[] = []
  for (const leaver of later) paged.push(await removeAndTime(group, leaver, deks))
  alice.close()
  return {
    deks,
    loose: deks / loose.movedSeconds,
    looseRetired: deks / loose.retiredSeconds,
    paged: deks / median(paged.map(({ movedSeconds }) => movedSeconds)),
    pagedRetired: deks / median(paged.map(({ retiredSeconds }) => retiredSeconds)),
    bare: deks / (await insertPagesSeconds(database, PAGED_RUNS)),
    perRow: deks / (await rewrapRowsSeconds(database, deks)),
  }
}

async function fill(group: Group, deks: number): Promise<void> {
  for (let from = 0; from < deks; from += BATCH) {
    await group.putMany(
      Array.from({ length: Math.min(BATCH, deks - from) }, (_, index) => ({ body: `object ${from + index}`, name: `${from + index}` })),
    )
  }
}

interface Moved {
  readonly movedSeconds: number
  readonly retiredSeconds: number
}

async function removeAndTime(group: Group, leaver: Identity, deks: number): Promise<Moved> {
  let movedAt = 0
  const stop = group.on((change) => {
    if (change.type === 'rewrap-progress' && change.done === change.total) movedAt ||= performance.now()
  })
  const { finished } = await group.remove(leaver.id)
  const started = performance.now()
  const { rewrapped, unopenable } = await finished
  const retiredAt = performance.now()
  stop()
  if (rewrapped < deks || unopenable > 0 || movedAt === 0) throw new Error(`rewrapped ${rewrapped} of ${deks}, ${unopenable} unopenable`)
  return { movedSeconds: (movedAt - started) / 1000, retiredSeconds: (retiredAt - started) / 1000 }
}
