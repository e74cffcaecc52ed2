/** The group log: reading it, and proofs about it. */
import { ClavigerError } from '../../shared/errors.ts'
import type { GroupState } from '../../shared/group/fold.ts'
import { encodeRoster, findMember, segmentAt } from '../../shared/group/roster.ts'
import type { Result } from '../../shared/protocol/messages.ts'
import { readPosition } from '../storage/groups.ts'
import { readCommit, readLog } from '../storage/log.ts'
import { listSnapshots, readSnapshot } from '../storage/snapshots.ts'
import type { Call, Handlers } from './handler.ts'

type LogMethod = 'log.head' | 'log.read' | 'log.snapshot' | 'log.inclusion'

/** Snapshots looked at for one whose author still counts. */
const SNAPSHOTS_LOOKED_AT = 64

export const logHandlers: Handlers<LogMethod> = {
  'log.head': async ({ services: { access, database, relay }, peer }, { group }) => {
    const told = await access.readAt(group, peer, 'readsLog', async () => {
      const position = await readPosition(database, group)
      if (position === null) throw new ClavigerError('unknown_group')
      const { seq, hash, epoch, change } = position
      return { seq, value: { head: { seq, hash }, epoch, change } }
    })
    // Whoever asks waits for the feed to get there; refused writes use up numbers that nobody else is told of.
    relay.reached(group, told.change)
    return told
  },

  'log.read': ({ services: { access, database }, peer }, { group, from }) =>
    access.readAt(group, peer, 'readsLog', async () => {
      const page = await readLog(database, group, { from })
      if (page === null) throw new ClavigerError('unknown_group')
      return { seq: page.head.seq, value: { commits: page.commits.map(({ bytes }) => bytes), head: page.head } }
    }),

  'log.snapshot': async (call, params) => {
    const { services, peer } = call
    return services.access.read(params.group, peer, 'readsLog', async ({ state }) => {
      if (params.kind === 'at') return { snapshot: await snapshotAt(call, state, params.seq) }
      return { snapshot: await snapshotAhead(call, state, params.after) }
    })
  },

  'log.inclusion': ({ services: { access, hashes, trees }, peer }, { group, seq, size }) =>
    access.read(group, peer, 'readsLog', async ({ state }) => {
      const hash = await hashes.find(state, seq)
      if (hash === null || seq >= size || size > state.head.seq + 1)
        throw new ClavigerError('not_found', 'The log does not reach that commit.')
      return { hash, path: (await trees.treeOf(group, size)).inclusionPath(seq, size) }
    }),
}

type Snapshot = Result<'log.snapshot'>['snapshot']

/** The roster exactly at `seq`. Whoever asks knows the commit’s hash; that the group is the one they mean is told by the path of its genesis. */
async function snapshotAt({ services: { database, groups, trees } }: Call, { group }: GroupState, seq: number): Promise<Snapshot> {
  const commit = await readCommit(database, group, seq)
  if (commit === null) throw new ClavigerError('not_found', 'The log does not reach that commit.')
  const stored = await readSnapshot(database, group, seq)
  const roster = stored ?? encodeRoster((await groups.at(group, seq)).roster)
  const genesis = seq === 0 ? [] : (await trees.treeOf(group, seq)).inclusionPath(0, seq)
  return { commit: commit.bytes, roster, consistency: [], genesis }
}

/** The newest stored one whose author the client, at `after`, trusts already. */
async function snapshotAhead({ services: { database, trees } }: Call, state: GroupState, after: number): Promise<Snapshot> {
  const { group } = state
  const candidates = await listSnapshots(database, group, { after, limit: SNAPSHOTS_LOOKED_AT })
  const found = candidates.find((candidate) => isByLastingAdmin(state, { ...candidate, after }))
  if (found === undefined) return null
  const [commit, roster] = [await readCommit(database, group, found.seq), await readSnapshot(database, group, found.seq)]
  if (commit === null || roster === null) return null
  const tree = await trees.treeOf(group, found.seq)
  return { commit: commit.bytes, roster, consistency: tree.consistencyPath(after + 1, found.seq), genesis: [] }
}

/** Whether the author was an admin at `after` and, under the same key, at the snapshot. */
function isByLastingAdmin(
  { roster }: GroupState,
  { author, seq, after }: { readonly author: Uint8Array; readonly seq: number; readonly after: number },
): boolean {
  const member = findMember(roster, author)
  const [before, then] = member === null ? [null, null] : [segmentAt(member, after), segmentAt(member, seq)]
  if (before?.role !== 'admin' || then?.role !== 'admin') return false
  return before.signingKey.every((byte, index) => byte === then.signingKey[index])
}
