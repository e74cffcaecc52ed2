/**
 * The accepted log as a client keeps it: a snapshot of the roster, and the commits since as they came.
 *
 * The roster of a thousand members is a quarter of a megabyte; a commit is a few hundred bytes. So the roster is kept anew
 * only now and then, and read back by folding.
 */
import { ClavigerError } from '../shared/errors.ts'
import type { Commit } from '../shared/group/commit.ts'
import { decodeCommit } from '../shared/group/commit.ts'
import type { GroupState } from '../shared/group/fold.ts'
import { foldCommit } from '../shared/group/fold.ts'
import { sameBytes } from '../shared/group/roster.ts'
import type { Head } from '../shared/ids.ts'
import { SNAPSHOT_COMMITS } from '../shared/limits.ts'

/** Bytes of a commit past which the roster is kept instead: reading back checks each key on each card. */
const TAIL_COMMIT_BYTES_MAX = 8 * 1024

/** Where a log stands. */
export interface LogPlace {
  /** Sequence number of the kept roster. */
  readonly base: number
  /** The accepted head, to which the kept commits lead. */
  readonly head: Head
}

/** Commits that were accepted in a row. */
export interface AcceptedCommits {
  readonly before: Head
  readonly commits: readonly Commit[]
  readonly state: GroupState
}

/**
 * Which roster to keep with commits: the one that is kept, if they follow it and leave little to fold, or the new one.
 *
 * @returns its sequence number.
 */
export function baseAfter(place: LogPlace | null, { before, commits, state }: AcceptedCommits): number {
  const follow = place !== null && isSameHead(place.head, before) && state.head.seq - place.base <= SNAPSHOT_COMMITS
  return follow && commits.every(({ bytes }) => bytes.length <= TAIL_COMMIT_BYTES_MAX) ? place.base : state.head.seq
}

/**
 * The state after the kept commits. Their signatures were checked when they were accepted, and the store is our own.
 *
 * @throws ClavigerError `store_invalid` unless they lead from the snapshot to exactly `head`.
 */
export function foldTail(snapshot: GroupState, tail: Iterable<Uint8Array>, head: Head): GroupState {
  let state = snapshot
  try {
    for (const bytes of tail) state = foldCommit(state, decodeCommit(bytes)).state
  } catch (cause) {
    throw new ClavigerError('store_invalid', undefined, { cause })
  }
  if (!isSameHead(state.head, head)) throw new ClavigerError('store_invalid')
  return state
}

function isSameHead(left: Head, right: Head): boolean {
  return left.seq === right.seq && sameBytes(left.hash, right.hash)
}
