/** Removing one member of N: the commit with all its wraps, its bytes, and what each member does with it. */
import { join } from 'node:path'
import type { CommitCost, Contender, ReceiveCost } from './removal-once.ts'
import type { Cost } from './measure.ts'
import { inFreshProcess, median, peerInFreshProcess } from './measure.ts'
import { withDirectory } from './directory.ts'
import { figure, reportSection } from './section.ts'
import type { Target } from './section.ts'

const SIZES = [10, 100, 1000] as const
const RUNS = 7

interface Measured {
  readonly members: number
  readonly commit: Cost
  readonly warm: Cost
  readonly bare: Cost
  readonly bareImport: Cost
  readonly peer: Cost
  readonly bytes: number
  readonly commitBytes: number
  readonly peerBytes: number
  readonly first: Cost
  readonly second: Cost
}

const measured = await withDirectory(async (directory) => {
  const sizes: Measured[] = []
  for (const members of SIZES) sizes.push(await measureSize(members, directory))
  return sizes
})
reportSection({
  title: 'Remove one of N members',
  method: `The commit and all wraps (\`sealCommit\`: plan, seal, sign), as processor time in ms: each number the median of ${RUNS} fresh processes, taken in turns, that start from a stored state. *Bare* is one X25519 (node:crypto) and one ChaCha20-Poly1305 for each remaining member, with the public keys imported beforehand or as part of it. *ts-mls* 1.6.4 does the same on RFC 9420 with its default (WebCrypto) provider and the suite X25519 / AES-128-GCM / Ed25519, in a group that its creator has just filled (cold tree).`,
  columns: [
    'members',
    'ours',
    'ours, warm',
    'bare',
    'bare with import',
    'ts-mls',
    'ours ÷ bare',
    'ours ÷ bare with import',
    'ts-mls ÷ ours',
    'bytes each',
    'ts-mls bytes each',
  ],
  rows: measured.map(commitRow),
  targets: measured.flatMap(commitTargets),
  notes: [
    markdownReceive(),
    'A warm MLS tree sends less than we do: its commit grows with the logarithm of N. *Ours, warm* is the fourth such commit in one process. Processor time includes compilation and garbage collection on other threads.',
  ],
})

async function measureSize(members: number, directory: string): Promise<Measured> {
  const fixture = join(directory, `ours-${members}`)
  const peerFixture = join(directory, `ts-mls-${members}`)
  await inFreshProcess('removal-fixture.js', [String(members), fixture])
  await peerInFreshProcess('ts-mls.js', ['make', String(members), peerFixture])
  const once = <T>(what: Contender): Promise<T> => inFreshProcess<T>('removal-once.js', [what, fixture])
  const runs = []
  for (let run = 0; run < RUNS; run += 1) {
    runs.push({
      commit: await once<CommitCost>('commit'),
      bare: await once<Cost>('bare'),
      peer: await peerInFreshProcess<Cost & { readonly bytes: number }>('ts-mls.js', ['remove', peerFixture]),
      bareImport: await once<Cost>('bare-import'),
      warm: await once<Cost>('warm-commit'),
      receive: await once<ReceiveCost>('receive'),
    })
  }
  const [
    {
      commit: { bytes, commitBytes },
      peer: { bytes: peerBytes },
    },
  ] = runs as [(typeof runs)[number]]
  return {
    members,
    bytes,
    commitBytes,
    peerBytes,
    commit: medianCost(runs.map((run) => run.commit)),
    warm: medianCost(runs.map((run) => run.warm)),
    bare: medianCost(runs.map((run) => run.bare)),
    bareImport: medianCost(runs.map((run) => run.bareImport)),
    peer: medianCost(runs.map((run) => run.peer)),
    first: medianCost(runs.map((run) => run.receive.first)),
    second: medianCost(runs.map((run) => run.receive.second)),
  }
}

function medianCost(costs: readonly Cost[]): Cost {
  return { cpuMs: median(costs.map(({ cpuMs }) => cpuMs)), wallMs: median(costs.map(({ wallMs }) => wallMs)) }
}

function commitRow({ members, commit, warm, bare, bareImport, peer, bytes, peerBytes }: Measured): string[] {
  const times = [commit, warm, bare, bareImport, peer].map(({ cpuMs }) => figure(cpuMs))
  const ratios = [commit.cpuMs / bare.cpuMs, commit.cpuMs / bareImport.cpuMs, peer.cpuMs / commit.cpuMs].map(figure)
  return [String(members), ...times, ...ratios, figure(bytes / (members - 1)), figure(peerBytes / (members - 1))]
}

function commitTargets({ members, commit, warm, bare, bareImport, bytes, commitBytes, second }: Measured): Target[] {
  if (members < 100) return []
  const what = `N = ${members}`
  const time: Target = {
    what: `${what}: commit and wraps, cold`,
    bound: members === 100 ? 45 : 400,
    good: 'at most',
    measured: commit.cpuMs,
    unit: 'ms',
  }
  const targets: Target[] = [
    time,
    { what: `${what}: against the bare DHs and AEADs, cold`, bound: 1.5, good: 'at most', measured: commit.cpuMs / bare.cpuMs, unit: '×' },
    {
      what: `${what}: the same with key import in both`,
      bound: 1.5,
      good: 'at most',
      measured: commit.cpuMs / bareImport.cpuMs,
      unit: '×',
    },
    {
      what: `${what}: the same, our code compiled and keys imported`,
      bound: 1.5,
      good: 'at most',
      measured: warm.cpuMs / bare.cpuMs,
      unit: '×',
    },
    {
      what: `${what}: bytes for each recipient beside the commit`,
      bound: 64,
      good: 'at most',
      measured: (bytes - commitBytes) / (members - 1),
      unit: 'bytes',
    },
  ]
  if (members === 1000)
    targets.push({ what: `${what}: a member processes it`, bound: 4, good: 'at most', measured: second.cpuMs, unit: 'ms' })
  return targets
}

function markdownReceive(): string {
  const rows = measured.map(
    ({ members, first, second }) => `| ${members} | ${figure(second.cpuMs)} | ${figure(second.wallMs)} | ${figure(first.cpuMs)} |`,
  )
  return [
    'A member processes the removal (decode, fold, verify, unwrap, compare the commitment and the deposit key), ms:\n',
    '| members | processor | wall | processor, first commit after the state was read from a store |',
    '| --- | ---: | ---: | ---: |',
    ...rows,
  ].join('\n')
}
