/**
 * What each op does to the roster. Effects come after the rules: they assume that what they change is there.
 */
import { ClavigerError } from '../errors.ts'
import type { IdentityId, InviteId } from '../ids.ts'
import type { DecodedCards } from './card.ts'
import type { OpOf, OpType, Role } from './commit.ts'
import { inviteIdOf } from './invite-proof.ts'
import type { Roster } from './roster.ts'
import { canWrite, findMember, holdsKeys, sameBytes } from './roster.ts'
import type { Author, OpFacts } from './rules.ts'

type MemberEntry = Roster['members'][number]
type InviteEntry = Roster['invites'][number]

/** The effect of every op but `create`, which only the genesis has. */
export const EFFECTS = {
  create: ({ draft }) => draft,
  invite: ({ draft, op, commit }) => ({
    ...draft,
    invites: [...draft.invites, inviteFrom(op, creatorOf(commit.author), commit.payload.seq)],
  }),
  'revoke-invite': ({ draft, op }) => withInvite(draft, op.invite, (invite) => ({ ...invite, state: 'revoked' })),
  join: ({ draft, cards, commit: { author, payload } }) => {
    if (author?.kind !== 'invite') throw new ClavigerError('not_authorised')
    const enrolled = enrol(draft, { cards: present(cards), role: author.invite.role, via: author.invite.id, seq: payload.seq })
    return withInvite(enrolled, author.invite.id, used)
  },
  approve: ({ draft, op, cards, commit: { payload } }) => {
    const invite = draft.invites.find(({ id }) => sameBytes(id, op.invite))
    if (invite === undefined) throw new ClavigerError('invite_spent')
    const enrolled = enrol(draft, { cards: present(cards), role: invite.role, via: invite.id, seq: payload.seq })
    return withInvite(enrolled, invite.id, used)
  },
  add: ({ draft, op, cards, commit: { payload } }) => enrol(draft, { cards: present(cards), role: op.role, via: null, seq: payload.seq }),
  remove: ({ draft, op, commit: { payload } }) => end(draft, { member: op.member, state: 'removed', seq: payload.seq }),
  leave: ({ draft, commit: { author, payload } }) => end(draft, { member: creatorOf(author), state: 'left', seq: payload.seq }),
  'set-role': ({ draft, op, commit: { payload } }) => setRole(draft, op, payload.seq),
  'retire-epoch': ({ draft, op }) => ({
    ...draft,
    retiredThrough: op.through,
    epochs: draft.epochs.filter(({ epoch }) => epoch > op.through),
  }),
} as const satisfies { readonly [T in OpType]: (facts: OpFacts<T>) => Roster }

interface Enrolment {
  readonly cards: DecodedCards
  readonly role: Role
  readonly via: InviteId | null
  /** The commit that enrols. */
  readonly seq: number
}

/** The roster with one more active member, or a former one active again. */
export function enrol(roster: Roster, { cards, role, via, seq }: Enrolment): Roster {
  const { identity, newest } = cards
  const former = findMember(roster, identity)
  const segment = { fromSeq: seq, toSeq: null, role, signingKey: newest.signingKey }
  const member: MemberEntry = {
    id: identity,
    state: 'active',
    role,
    signingKey: newest.signingKey,
    kemKey: newest.kemKey,
    cardRevision: newest.revision,
    via,
    segments: [...(former?.segments ?? []), segment],
  }
  if (former === null) return { ...roster, members: [...roster.members, member] }
  return { ...roster, members: roster.members.map((entry) => (entry === former ? member : entry)) }
}

/** Ends a membership and closes every door its holder made or came in through. */
function end(roster: Roster, { member, state, seq }: { member: IdentityId; state: 'left' | 'removed'; seq: number }): Roster {
  const ended = withMember(roster, member, (entry) => ({ ...entry, state, segments: closed(entry, seq) }))
  return withoutInvitesOf(ended, member)
}

function setRole(roster: Roster, { member, role }: OpOf<'set-role'>, seq: number): Roster {
  const before = findMember(roster, member)
  const changed = withMember(roster, member, (entry) => ({
    ...entry,
    role,
    segments: [...closed(entry, seq), { fromSeq: seq, toSeq: null, role, signingKey: entry.signingKey }],
  }))
  return before !== null && isLower(role, before.role) ? withoutInvitesOf(changed, member) : changed
}

/** Whether a role change takes something away. */
export function isLower(next: Role, previous: Role): boolean {
  return rank(next) < rank(previous)
}

function rank(role: Role): number {
  if (role === 'admin') return 3
  return canWrite(role) ? 2 : holdsKeys(role) ? 1 : 0
}

/** Kills the invites that a principal created or came in through: a removed member must not keep a door. */
function withoutInvitesOf(roster: Roster, member: IdentityId): Roster {
  const via = findMember(roster, member)?.via ?? null
  const isOpenDoor = (invite: InviteEntry): boolean =>
    invite.state === 'live' && (sameBytes(invite.creator, member) || (via !== null && sameBytes(invite.id, via)))
  if (!roster.invites.some(isOpenDoor)) return roster
  return { ...roster, invites: roster.invites.map((invite) => (isOpenDoor(invite) ? { ...invite, state: 'revoked' } : invite)) }
}

function closed({ segments }: MemberEntry, seq: number): MemberEntry['segments'] {
  return segments.map((segment) => (segment.toSeq === null ? { ...segment, toSeq: seq } : segment))
}

function inviteFrom(op: OpOf<'invite'>, creator: IdentityId, seq: number): InviteEntry {
  const { signingKey, kemKey, role, mode, expiresAt, maxUses } = op
  return {
    id: inviteIdOf(signingKey),
    state: 'live',
    signingKey,
    kemKey,
    role,
    mode,
    expiresAt,
    maxUses,
    uses: 0,
    creator,
    createdSeq: seq,
  }
}

function used(invite: InviteEntry): InviteEntry {
  const uses = invite.uses + 1
  return { ...invite, uses, state: uses >= invite.maxUses ? 'spent' : invite.state }
}

function withMember(roster: Roster, id: Uint8Array, change: (member: MemberEntry) => MemberEntry): Roster {
  return { ...roster, members: roster.members.map((member) => (sameBytes(member.id, id) ? change(member) : member)) }
}

function withInvite(roster: Roster, id: Uint8Array, change: (invite: InviteEntry) => InviteEntry): Roster {
  return { ...roster, invites: roster.invites.map((invite) => (sameBytes(invite.id, id) ? change(invite) : invite)) }
}

function creatorOf(author: Author | null): IdentityId {
  if (author?.kind !== 'member') throw new ClavigerError('not_authorised')
  return author.member.id
}

function present(cards: DecodedCards | null): DecodedCards {
  if (cards === null) throw new ClavigerError('malformed', 'the op carries no cards')
  return cards
}
