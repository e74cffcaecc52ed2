/** One catch-up in a fresh process: `catch-up-once.js <commits|snapshot> <missed> <fixture>`. */
import { verifyChecks } from '../shared/group/card.ts'
import { decodeCommit } from '../shared/group/commit.ts'
import { depositKeyPair, unwrapEpochSecret } from '../shared/group/epoch.ts'
import type { Fold, GroupState } from '../shared/group/fold.ts'
import { foldCommit } from '../shared/group/fold.ts'
import { currentEpoch } from '../shared/group/roster.ts'
import { openSnapshotAhead } from '../shared/group/snapshot.ts'
import type { CatchUpFixture, CatchUpPoint } from './catch-up-fixture.ts'
import { loadState, personKeys, readFixture, useNodeCrypto } from './crowd.ts'
import type { Cost } from './measure.ts'
import { answer, costOf } from './measure.ts'

export interface CatchUpCost extends Cost {
  /** Of everything the member fetches. */
  readonly bytes: number
  readonly commits: number
}

const [way = '', missed = '1', path = ''] = process.argv.slice(2)
useNodeCrypto()
const fixture = await readFixture<CatchUpFixture>(path)
const point = fixture.points.get(Number(missed))
if (point === undefined) throw new RangeError(`the fixture has no point after ${missed} epochs`)
const { kem } = await personKeys(fixture.receiverSeed)
const stored = loadState(fixture.state)
const fetched = way === 'commits' ? fixture.commits.slice(0, point.commits) : snapshotParts(point)
const { cpuMs, wallMs } = await costOf(async () =>
  unwrap(way === 'commits' ? await foldAll(stored, fetched) : await openSnapshotAhead(stored, point.snapshot), point),
)
const bytes = [...fetched, point.current.enc, point.current.wrap].reduce((sum, part) => sum + part.length, 0)
const cost: CatchUpCost = { cpuMs, wallMs, bytes, commits: point.commits }
answer(cost)

/** As the client’s log does: fold in a row, check all signatures together. */
async function foldAll(state: GroupState, commits: readonly Uint8Array[]): Promise<GroupState> {
  const folds: Fold[] = []
  for (const commit of commits) folds.push(foldCommit(folds.at(-1)?.state ?? state, decodeCommit(commit)))
  await verifyChecks(folds.flatMap(({ checks }) => checks))
  return folds.at(-1)?.state ?? state
}

async function unwrap({ group, roster }: GroupState, { current }: CatchUpPoint): Promise<void> {
  const { epoch, seq, parent, commitment } = currentEpoch(roster)
  const at = { suite: roster.suite, group, epoch, seq, parent, commitment }
  await depositKeyPair(await unwrapEpochSecret(kem, at, current), at)
}

function snapshotParts({ snapshot }: CatchUpPoint): readonly Uint8Array[] {
  return [snapshot.commit, snapshot.roster, ...snapshot.consistency]
}
