/** Catching up after missed epochs: by folding every commit, and by a snapshot ahead. */
import { join } from 'node:path'
import type { CatchUpCost } from './catch-up-once.ts'
import { withDirectory } from './directory.ts'
import { inFreshProcess, median } from './measure.ts'
import { figure, reportSection } from './section.ts'
import type { Target } from './section.ts'

const MISSED = [1, 10, 100, 1000] as const
const VARIANTS = ['live', 'retired'] as const
const RUNS = 7

interface Measured {
  readonly missed: number
  readonly variant: (typeof VARIANTS)[number]
  readonly byCommits: CatchUpCost
  readonly bySnapshot: CatchUpCost
}

const measured = await withDirectory(async (directory) => {
  const points: Measured[] = []
  for (const variant of VARIANTS) {
    const fixture = join(directory, variant)
    await inFreshProcess('catch-up-fixture.js', [variant, fixture])
    for (const missed of MISSED) points.push({ missed, variant, ...(await measurePoint(missed, fixture)) })
  }
  return points
})

reportSection({
  title: 'Catch up after missed epochs, ten members',
  method: `Processor time in ms (it counts compilation and garbage collection on other threads) and wall time, each number the median of ${RUNS} fresh processes that start from a stored state. By commits: decode, fold and verify every missed commit, then open one wrap. By snapshot: open a roster ahead (signature, roster hash, consistency proof), then open one wrap. *Retired*: each epoch is retired before the next is opened, which doubles the commits; *live*: none is, so the roster lists all of them.`,
  columns: [
    'missed epochs',
    'epochs are',
    'commits',
    'by commits, ms',
    'wall, ms',
    'bytes a commit',
    'by snapshot, ms',
    'wall, ms',
    'snapshot, bytes',
  ],
  rows: measured.map(({ missed, variant, byCommits, bySnapshot }) => [
    String(missed),
    variant,
    String(byCommits.commits),
    figure(byCommits.cpuMs),
    figure(byCommits.wallMs),
    figure(byCommits.bytes / byCommits.commits),
    figure(bySnapshot.cpuMs),
    figure(bySnapshot.wallMs),
    figure(bySnapshot.bytes),
  ]),
  targets: measured.flatMap(targetsOf),
  notes: [
    'The snapshot leaves the client `unverified` until the commits between have been folded in the background, at the cost of the other column.',
  ],
})

async function measurePoint(missed: number, fixture: string): Promise<Pick<Measured, 'byCommits' | 'bySnapshot'>> {
  const runs = []
  for (let run = 0; run < RUNS; run += 1) {
    const once = (way: string): Promise<CatchUpCost> => inFreshProcess('catch-up-once.js', [way, String(missed), fixture])
    runs.push({ byCommits: await once('commits'), bySnapshot: await once('snapshot') })
  }
  return { byCommits: medianOf(runs.map((run) => run.byCommits)), bySnapshot: medianOf(runs.map((run) => run.bySnapshot)) }
}

function medianOf(costs: readonly CatchUpCost[]): CatchUpCost {
  const of = (field: keyof CatchUpCost): number => median(costs.map((cost) => cost[field]))
  return { cpuMs: of('cpuMs'), wallMs: of('wallMs'), bytes: of('bytes'), commits: of('commits') }
}

function targetsOf({ missed, variant, byCommits, bySnapshot }: Measured): Target[] {
  if (missed < 100) return []
  const what = `${missed} epochs, ${variant}`
  const snapshot: Target = { what: `${what}: by snapshot`, bound: 20, good: 'at most', measured: bySnapshot.cpuMs, unit: 'ms' }
  if (variant === 'retired') return [snapshot]
  return [
    { what: `${what}: by commits`, bound: missed === 100 ? 20 : 200, good: 'at most', measured: byCommits.cpuMs, unit: 'ms' },
    snapshot,
    { what: `${what}: bytes a commit`, bound: 1000, good: 'at most', measured: byCommits.bytes / byCommits.commits, unit: 'bytes' },
  ]
}
