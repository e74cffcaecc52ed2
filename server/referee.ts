/**
 * The referee: judges commits by the same fold as every client, and puts them in order by compare-and-set on the head.
 *
 * Beyond the fold it checks what only travels beside a commit (wraps, link) and what only an honest clock can: clients
 * re-check all that matters, the referee keeps honest groups from ever seeing it.
 */
import type { Commit } from '../shared/group/commit.ts'
import { decodeCommit } from '../shared/group/commit.ts'
import { verifyChecks } from '../shared/group/card.ts'
import type { Fold, GroupState } from '../shared/group/fold.ts'
import { foldCommit } from '../shared/group/fold.ts'
import { linkHash } from '../shared/group/link-hash.ts'
import type { Recipient, Roster } from '../shared/group/roster.ts'
import { findMember, recipients } from '../shared/group/roster.ts'
import { equalBytes } from '../shared/bytes.ts'
import { SUITES } from '../shared/crypto/suites.ts'
import { ClavigerError, hasCode } from '../shared/errors.ts'
import type { GroupId, Head } from '../shared/ids.ts'
import { CLOCK_SKEW_MS_MAX } from '../shared/limits.ts'
import type { Params } from '../shared/protocol/messages.ts'
import { randomBytes } from '../shared/crypto/public-crypto.ts'
import type { Access } from './access.ts'
import type { Clock } from './clock.ts'
import type { Groups } from './groups.ts'
import type { Peer } from './peer.ts'
import type { ServerLimits } from './server-limits.ts'
import type { AcceptedCommit } from './storage/commits.ts'
import { acceptCommit } from './storage/commits.ts'
import type { CommitRow, EpochOpening, MemberChange, NewWrap } from './storage/commit-rows.ts'
import type { Database } from './storage/database.ts'
import { countCreatedGroups, createGroup, readPosition } from './storage/groups.ts'

/** A commit that is now part of the log. */
export interface Acceptance {
  readonly before: GroupState | null
  readonly after: GroupState
  readonly commit: Commit
  /** Its place in the feed. */
  readonly change: number
}

/** What travels beside a commit. */
type Beside = Pick<Params<'commit.submit'>, 'enc' | 'wraps' | 'link'>

export interface RefereeParts {
  readonly groups: Groups
  readonly access: Access
  readonly database: Database
  readonly clock: Clock
  readonly limits: Pick<ServerLimits, 'groupsPerIdentity'>
}

export class Referee {
  readonly #groups: Groups
  readonly #access: Access
  readonly #database: Database
  readonly #clock: Clock
  readonly #groupsPerIdentity: number

  constructor(parts: RefereeParts) {
    this.#groups = parts.groups
    this.#access = parts.access
    this.#database = parts.database
    this.#clock = parts.clock
    this.#groupsPerIdentity = parts.limits.groupsPerIdentity
  }

  /** Starts a group. Sending the same genesis again is no error. */
  async create(peer: Peer, { commit: bytes, enc, wraps }: Params<'group.create'>): Promise<Acceptance> {
    const commit = decodeCommit(bytes)
    this.#assertTime(commit)
    const fold = await judge(null, commit)
    if (findMember(fold.state.roster, peer.identity) === null)
      throw new ClavigerError('not_authorised', 'A group is created by its own first admin.')
    const { opening, newWraps } = besideOf(fold, { enc, wraps, link: null })
    if (opening === null) throw new ClavigerError('malformed', 'a genesis opens an epoch')
    const { group } = fold.state
    await this.#assertQuota(peer, group)
    const genesis = { group, suite: commit.payload.suite, createdBy: peer.identity, commit: rowOf(commit), opening, wraps: newWraps }
    const change = await this.#store(group, () =>
      createGroup(this.#database, { ...genesis, members: memberChanges(null, fold.state.roster), pageId: randomBytes(16) }),
    )
    await this.#groups.accepted(null, commit, fold.state)
    return { before: null, after: fold.state, commit, change }
  }

  /** Adds a commit to the log. @throws ClavigerError `stale_head` with the head if another was first, or of the rule it breaks. */
  async submit(peer: Peer, { group, commit: bytes, ...beside }: Params<'commit.submit'>): Promise<Acceptance> {
    const commit = decodeCommit(bytes)
    const { state, standing } = await this.#access.enterAt(group, peer, 'readsLog', commit.payload.seq - 1)
    const before = await this.#atParent(state, commit)
    const author = standing.kind === 'member' ? standing.member.signingKey : standing.invite.signingKey
    if (!equalBytes(author, commit.payload.author)) throw new ClavigerError('not_authorised', 'A session submits its own commits only.')
    this.#assertTime(commit)
    const fold = await judge(before, commit)
    if (standing.kind === 'guest' && findMember(fold.state.roster, peer.identity)?.state !== 'active') {
      throw new ClavigerError('not_authorised', 'Only the joining identity itself may join.')
    }
    const accepted = acceptedCommit(before, fold, besideOf(fold, beside))
    const { change } = await acceptCommit(this.#database, accepted)
    await this.#groups.accepted(before, commit, fold.state)
    return { before, after: fold.state, commit, change }
  }

  async #atParent(state: GroupState, { payload }: Commit): Promise<GroupState> {
    if (isParent(state.head, payload.parent)) return state
    const newest = await this.#groups.refresh(state.group)
    if (isParent(newest.head, payload.parent)) return newest
    throw new ClavigerError('stale_head', undefined, { data: { ...newest.head, epoch: newest.roster.epoch } })
  }

  /** An answer that got lost must not make a group that exists look like a failure. */
  async #store(group: GroupId, create: () => Promise<{ readonly change: number }>): Promise<number> {
    try {
      return (await create()).change
    } catch (error) {
      if (!hasCode(error, 'group_exists')) throw error
      const position = await readPosition(this.#database, group)
      if (position === null) throw error
      return position.change
    }
  }

  /** Those who create at the same instant may exceed it by a few. */
  async #assertQuota(peer: Peer, group: GroupId): Promise<void> {
    const count = await countCreatedGroups(this.#database, peer.identity)
    if (count < this.#groupsPerIdentity) return
    // The last one may have been created by this very request, whose answer got lost.
    if ((await readPosition(this.#database, group)) === null)
      throw new ClavigerError('limit_exceeded', `an identity may create ${this.#groupsPerIdentity} groups`)
  }

  #assertTime({ payload }: Commit): void {
    const now = this.#clock.now()
    if (Math.abs(payload.time - now) > CLOCK_SKEW_MS_MAX) throw new ClavigerError('clock_skew', undefined, { data: { time: now } })
  }
}

function isParent(head: Head, parent: Uint8Array | null): boolean {
  return parent !== null && equalBytes(head.hash, parent)
}

async function judge(before: GroupState | null, commit: Commit): Promise<Fold> {
  const fold = foldCommit(before, commit)
  await verifyChecks(fold.checks)
  return fold
}

/** The wraps are exactly those of the recipients, in their order, and the link is the one the commit names. */
function besideOf(
  { state, commit, newRecipients }: Fold,
  { enc, wraps, link }: Beside,
): { opening: EpochOpening | null; newWraps: NewWrap[] } {
  const { rekey } = commit.payload
  const newWraps = pairWraps(state.roster, rekey === null ? newRecipients : recipients(state.roster), wraps)
  const { nEnc } = SUITES[state.roster.suite]
  if (enc.length !== (rekey === null ? 0 : nEnc))
    throw new ClavigerError('malformed', `enc must be ${rekey === null ? 0 : nEnc} bytes, got ${enc.length}`)
  const named = rekey?.link ?? null
  if (named === null || link === null) {
    if (named !== null || link !== null) throw new ClavigerError('malformed', 'a link travels exactly beside a commit that names it')
    return { opening: rekey === null ? null : { enc, link: null }, newWraps }
  }
  if (!equalBytes(linkHash(link), named.hash)) throw new ClavigerError('malformed', 'the link is not the one the commit names')
  return { opening: { enc, link: { to: named.to, bytes: link } }, newWraps }
}

/** A wrap uses the epoch’s shared encapsulation, or brings its own in front. */
function pairWraps(roster: Roster, expected: readonly Recipient[], wraps: readonly Uint8Array[]): NewWrap[] {
  const { nEnc, wrapBytes } = SUITES[roster.suite]
  const fits = wraps.length === expected.length && wraps.every(({ length }) => length === wrapBytes || length === nEnc + wrapBytes)
  if (!fits) throw new ClavigerError('wraps_incomplete', undefined, { data: { expected: expected.length, got: wraps.length } })
  return expected.flatMap(({ kemKeyId }, index) => {
    const wrap = wraps[index]
    return wrap === undefined ? [] : [{ recipient: kemKeyId, wrap }]
  })
}

function acceptedCommit(
  before: GroupState,
  { state, commit }: Fold,
  beside: { opening: EpochOpening | null; newWraps: NewWrap[] },
): AcceptedCommit {
  const retire = commit.payload.ops.find((op) => op.type === 'retire-epoch')
  return {
    group: before.group,
    parent: before.head.hash,
    commit: rowOf(commit),
    suite: commit.payload.suite,
    rekeyOwed: state.roster.rekeyOwed,
    opening: beside.opening,
    wraps: beside.newWraps,
    members: memberChanges(before.roster, state.roster),
    retireThrough: retire?.through ?? null,
  }
}

function rowOf({ payload, hash, bytes }: Commit): CommitRow {
  return { seq: payload.seq, hash, bytes, epoch: payload.epoch }
}

/** Entries are never mutated: what is the same object has not changed. */
function memberChanges(before: Roster | null, after: Roster): MemberChange[] {
  const unchanged = new Set(before?.members)
  return after.members
    .filter((member) => !unchanged.has(member))
    .map(({ id, role, signingKey, state }) => ({ principal: id, role, signingKey, active: state === 'active' }))
}
