/**
 * Snapshots: a roster instead of the commits that led to it.
 *
 * One at a head the client already trusts is as good as the fold. One ahead of it is worth what its signer is worth: an
 * admin of the trusted roster who still is one, whose history extends the trusted one (RFC 9162 consistency).
 */
import { ClavigerError } from '../errors.ts'
import type { Head } from '../ids.ts'
import type { Commit } from './commit.ts'
import { commitMessage, decodeCommit } from './commit.ts'
import type { GroupState } from './fold.ts'
import { appendCommit, historyRoot, verifyConsistency, verifyInclusion } from './history.ts'
import type { Roster } from './roster.ts'
import { decodeRoster, findMemberBySigningKey, rosterHash, sameBytes } from './roster.ts'
import { verifySignature } from '../crypto/signature.ts'

/** As the server hands it out. */
export interface SnapshotBytes {
  readonly commit: Uint8Array
  readonly roster: Uint8Array
  /** Ahead of a trusted head: from its history to the snapshot’s. */
  readonly consistency: readonly Uint8Array[]
  /** At a trusted head: from commit 0 to the root of the snapshot’s history. */
  readonly genesis: readonly Uint8Array[]
}

/**
 * The group at a head that is already trusted by its hash, such as that of a token. Its history must begin with the commit
 * that `group` is the hash of: a head alone says nothing about the name it is shown under.
 *
 * @throws ClavigerError `malformed` or `roster_mismatch`.
 */
export function openSnapshotAt(trusted: Pick<Head, 'hash'>, snapshot: SnapshotBytes, group: GroupState['group']): GroupState {
  const commit = decodeCommit(snapshot.commit)
  if (!sameBytes(commit.hash, trusted.hash)) throw new ClavigerError('roster_mismatch', 'the snapshot is of another commit')
  const roster = rosterOf(commit, snapshot.roster)
  if (!beginsWith(group, commit, roster, snapshot.genesis)) throw new ClavigerError('roster_mismatch', 'the snapshot is of another group')
  return { group, head: { seq: commit.payload.seq, hash: commit.hash }, roster }
}

/**
 * The group at a head beyond the trusted one. Whoever takes this is `unverified` until the commits between have been folded.
 *
 * @throws ClavigerError `not_authorised`, `invalid_signature`, `roster_mismatch` or `fork`.
 */
export async function openSnapshotAhead(trusted: GroupState, snapshot: SnapshotBytes): Promise<GroupState> {
  const commit = decodeCommit(snapshot.commit)
  const roster = rosterOf(commit, snapshot.roster)
  assertSignerIsAdminOfBoth(trusted.roster, roster, commit)
  const [signature] = commit.signatures
  const isSigned = signature !== undefined && commit.signatures.length === 1
  if (!isSigned || !(await verifySignature(commit.payload.author, commitMessage(commit.payloadBytes), signature))) {
    throw new ClavigerError('invalid_signature')
  }
  assertExtends(trusted, roster, snapshot.consistency)
  return { group: trusted.group, head: { seq: commit.payload.seq, hash: commit.hash }, roster }
}

function rosterOf(commit: Commit, bytes: Uint8Array): Roster {
  const roster = decodeRoster(bytes)
  const matches =
    sameBytes(rosterHash(roster), commit.payload.roster) && roster.seq === commit.payload.seq && roster.history.size === roster.seq
  if (!matches) throw new ClavigerError('roster_mismatch')
  return roster
}

function beginsWith(group: GroupState['group'], commit: Commit, { history }: Roster, path: readonly Uint8Array[]): boolean {
  // The genesis is not in its own history.
  if (history.size === 0) return path.length === 0 && sameBytes(commit.hash, group)
  return verifyInclusion({ commitHash: group, index: 0, size: history.size, root: historyRoot(history) }, path)
}

/** An invented roster can name any admins; only one whom the client already trusted counts, and only while still an admin. */
function assertSignerIsAdminOfBoth(trusted: Roster, roster: Roster, commit: Commit): void {
  const before = findMemberBySigningKey(trusted, commit.payload.author)
  const after = findMemberBySigningKey(roster, commit.payload.author)
  const isAdmin = before?.role === 'admin' && after?.role === 'admin' && sameBytes(before.id, after.id)
  if (!isAdmin) throw new ClavigerError('not_authorised', 'the snapshot is not signed by an admin this client trusts')
}

function assertExtends(trusted: GroupState, roster: Roster, consistency: readonly Uint8Array[]): void {
  const from = appendCommit(trusted.roster.history, trusted.head.hash)
  const claim = { fromSize: from.size, fromRoot: historyRoot(from), toSize: roster.history.size, toRoot: historyRoot(roster.history) }
  if (!verifyConsistency(claim, consistency)) throw new ClavigerError('fork', 'the snapshot’s history does not extend the trusted one')
}
