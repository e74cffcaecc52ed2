/**
 * Who may ask for what: named rules, judged by the roster at the head.
 *
 * A read is judged again if the head has moved before its result is handed out: a process that is cut off from the others
 * must not go on serving a removed member. Writes need no second look, they assert the head in their own statement.
 */
import type { ErrorCode } from '../shared/errors.ts'
import { ClavigerError } from '../shared/errors.ts'
import type { GroupState } from '../shared/group/fold.ts'
import type { Roster } from '../shared/group/roster.ts'
import { canWrite, findInvite, findMember, holdsKeys } from '../shared/group/roster.ts'
import type { GroupId } from '../shared/ids.ts'
import { idKey } from '../shared/ids.ts'
import type { Clock } from './clock.ts'
import type { Groups } from './groups.ts'
import type { Peer } from './peer.ts'
import type { Database } from './storage/database.ts'
import { readPosition } from './storage/groups.ts'

export type MemberEntry = Roster['members'][number]
export type InviteEntry = Roster['invites'][number]

/** What a session is to a group. */
export type Standing =
  | { readonly kind: 'member'; readonly member: MemberEntry }
  /** Not a member, but has proven to hold a live invite. */
  | { readonly kind: 'guest'; readonly invite: InviteEntry }
  /** Nobody here, and why. */
  | { readonly kind: 'nobody'; readonly code: ErrorCode }

type Admitted = Extract<Standing, { kind: 'member' | 'guest' }>

const RULES = {
  /** Whoever must be able to check the roster: members of any role, and guests, who fold the log before they join. */
  readsLog: () => true,
  /** Roster signatures of others and waiting requests are for members: a guest has not been admitted to anything. */
  isMember: (standing) => standing.kind === 'member',
  /** A depositor writes and reads nothing; an invite’s key is a recipient of epochs. */
  holdsKeys: (standing) => standing.kind === 'guest' || holdsKeys(standing.member.role),
  /** Whoever checks and heals the wraps of others must be able to make them, and be known to everybody. */
  auditsWraps: (standing) => standing.kind === 'member' && holdsKeys(standing.member.role),
  /** Objects are for members who hold keys; a guest gets none before the join is a commit that everybody sees. */
  readsObjects: (standing) => standing.kind === 'member' && holdsKeys(standing.member.role),
  /** A reader holds every DEK and could otherwise write. */
  writesObjects: (standing) => standing.kind === 'member' && canWrite(standing.member.role),
  /** Whoever replaces pages decides which DEKs go on living. */
  administers: (standing) => standing.kind === 'member' && standing.member.role === 'admin',
} as const satisfies Record<string, (standing: Admitted) => boolean>

export type AccessRule = keyof typeof RULES

/** A session that has been let in by one of the rules. */
export interface Admission {
  readonly state: GroupState
  readonly standing: Admitted
}

/** A result, and the head of the moment it was read at. */
export interface ReadAt<T> {
  readonly seq: number
  readonly value: T
}

/** What a session is to a group whose state is known. */
export function standingOf(state: GroupState, peer: Pick<Peer, 'identity' | 'inviteByGroup'>, now: number): Standing {
  const member = findMember(state.roster, peer.identity) ?? null
  if (member?.state === 'active') return { kind: 'member', member }
  // An invite does not bring a removed member back, so it opens nothing for them either.
  if (member?.state === 'removed') return { kind: 'nobody', code: 'not_a_member' }
  const opened = peer.inviteByGroup.get(idKey(state.group))
  const invite = opened === undefined ? null : findInvite(state.roster, opened)
  const guest = invite === null ? null : guestOrNobody(invite, now)
  // Whoever has left is told so, not what became of the invite they once came in through.
  if (guest !== null && (guest.kind === 'guest' || member === null)) return guest
  // A stranger is not told whether the group exists.
  return { kind: 'nobody', code: member === null ? 'unknown_group' : 'not_a_member' }
}

/** An honest server refuses expired invites by its own clock, whatever the log’s time is. */
function guestOrNobody(invite: InviteEntry, now: number): Standing {
  if (invite.state !== 'live') return { kind: 'nobody', code: 'invite_spent' }
  return invite.expiresAt < now ? { kind: 'nobody', code: 'invite_expired' } : { kind: 'guest', invite }
}

/** Judges one rule on a known state. @throws ClavigerError `unknown_group`, `not_a_member`, `invite_spent`, `invite_expired`, `not_authorised`. */
export function admit(state: GroupState, peer: Peer, rule: AccessRule, now: number): Admission {
  const standing = standingOf(state, peer, now)
  if (standing.kind === 'nobody') throw new ClavigerError(standing.code)
  if (!RULES[rule](standing)) throw new ClavigerError('not_authorised')
  return { state, standing }
}

/** Whether a rule lets the session in. */
export function isAdmitted(state: GroupState, peer: Peer, rule: AccessRule, now: number): boolean {
  const standing = standingOf(state, peer, now)
  return standing.kind !== 'nobody' && RULES[rule](standing)
}

export class Access {
  readonly #groups: Groups
  readonly #database: Database
  readonly #clock: Clock

  constructor(groups: Groups, database: Database, clock: Clock) {
    this.#groups = groups
    this.#database = database
    this.#clock = clock
  }

  /** Lets the session in by the state this process has; a refusal is only given at the database’s head. */
  async enter(group: GroupId, peer: Peer, rule: AccessRule): Promise<Admission> {
    const state = await this.#groups.state(group)
    try {
      return this.#admit(state, peer, rule)
    } catch (refusal) {
      const newer = await this.#groups.refresh(group)
      if (newer.head.seq === state.head.seq) throw refusal
      return this.#admit(newer, peer, rule)
    }
  }

  /** Lets the session in at `seq` or later: for requests that say at which head they were made. */
  async enterAt(group: GroupId, peer: Peer, rule: AccessRule, seq: number): Promise<Admission> {
    await this.#groups.atLeast(group, seq)
    return this.enter(group, peer, rule)
  }

  /** A read whose own statement tells the head. */
  async readAt<T>(group: GroupId, peer: Peer, rule: AccessRule, query: (admission: Admission) => Promise<ReadAt<T>>): Promise<T> {
    const admission = await this.enter(group, peer, rule)
    const { seq, value } = await query(admission)
    if (seq !== admission.state.head.seq) this.#admit(await this.#groups.atLeast(group, seq), peer, rule)
    return value
  }

  /** A read that does not: the head is read after it, and what was admitted at a head that still stands was admitted all along. */
  read<T>(group: GroupId, peer: Peer, rule: AccessRule, query: (admission: Admission) => Promise<T>): Promise<T> {
    return this.readAt(group, peer, rule, async (admission) => {
      const value = await query(admission)
      const position = await readPosition(this.#database, group)
      if (position === null) throw new ClavigerError('unknown_group')
      return { seq: position.seq, value }
    })
  }

  #admit(state: GroupState, peer: Peer, rule: AccessRule): Admission {
    return admit(state, peer, rule, this.#clock.now())
  }
}
