/** Makes a log that somebody has missed: `catch-up-fixture.js <live|retired> <file>`. */
import type { Op } from '../shared/group/commit.ts'
import { consistencyPath } from '../shared/group/history.ts'
import { encodeRoster, recipients } from '../shared/group/roster.ts'
import type { SnapshotBytes } from '../shared/group/snapshot.ts'
import type { Crowd, SavedState } from './crowd.ts'
import { commitTo, makeCrowd, saveState, useNodeCrypto, writeFixture } from './crowd.ts'
import { answer } from './measure.ts'
import type { SentRemoval } from './removal-fixture.ts'

/** Missed epochs of the measurements. */
export const MISSED = [1, 10, 100, 1000] as const
const MEMBERS = 10

/** Where the group stands after some missed epochs. */
export interface CatchUpPoint {
  /** How many of the fixture’s commits lead there. */
  readonly commits: number
  readonly current: Omit<SentRemoval, 'commit'>
  readonly snapshot: SnapshotBytes
}

export interface CatchUpFixture {
  /** What the member knew. */
  readonly state: SavedState
  readonly receiverSeed: Uint8Array
  readonly commits: readonly Uint8Array[]
  readonly points: ReadonlyMap<number, CatchUpPoint>
}

const [variant = '', path = ''] = process.argv.slice(2)
useNodeCrypto()
const { crowd, people, hashes: before } = await makeCrowd(MEMBERS)
const [receiver] = people
if (receiver === undefined) throw new RangeError('a group has at least two members')

const commits: Uint8Array[] = []
const hashes: Uint8Array[] = [...before]
const points = new Map<number, CatchUpPoint>()
let current: Crowd = crowd
for (let missed = 1; missed <= Math.max(...MISSED); missed += 1) {
  if (variant === 'retired' && missed > 1) await take([{ type: 'retire-epoch', through: current.state.roster.epoch - 1 }], false)
  const sealed = await take([], true)
  if (MISSED.some((some) => some === missed)) points.set(missed, pointAfter(sealed))
}
const fixture: CatchUpFixture = { state: saveState(crowd.state), receiverSeed: receiver.seed, commits, points }
await writeFixture(path, fixture)
answer(path)

async function take(ops: readonly Op[], rekey: boolean) {
  const { crowd: next, sealed } = await commitTo(current, { ops, rekey })
  current = next
  commits.push(sealed.commit.bytes)
  hashes.push(sealed.commit.hash)
  return sealed
}

function pointAfter({ commit, params }: Awaited<ReturnType<typeof take>>): CatchUpPoint {
  const { roster } = current.state
  const place = recipients(roster).findIndex(({ kemKey }) => Buffer.compare(kemKey, receiver?.kem.publicKey ?? kemKey) === 0)
  const wrap = params.wraps[place]
  if (wrap === undefined) throw new Error('the receiver has no wrap')
  const consistency = consistencyPath(hashes.slice(0, roster.history.size), crowd.state.head.seq + 1)
  return {
    commits: commits.length,
    current: { enc: params.enc, wrap },
    snapshot: { commit: commit.bytes, roster: encodeRoster(roster), consistency, genesis: [] },
  }
}
