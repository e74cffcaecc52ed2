/**
 * The rules of the group log. Every commit must satisfy every rule that applies to it, in this order: commit rules,
 * the rules of each op, result rules. Authority is judged on the roster at the parent.
 *
 * docs/PROTOCOL.md lists the same numbers; each has a test of its own.
 */
import { isSoundX25519Key } from '../crypto/x25519-key.ts'
import type { ErrorCode } from '../errors.ts'
import { ClavigerError } from '../errors.ts'
import type { GroupId, Head } from '../ids.ts'
import * as limits from '../limits.ts'
import type { DecodedCards } from './card.ts'
import type { CommitPayload, OpOf, OpType } from './commit.ts'
import { cardIsNotOlder, cardKeysAreNew, formerOf, keysAreNew, keysAreSound } from './enrolment.ts'
import { principalsOf } from './op-principals.ts'
import type { Recipient, Roster } from './roster.ts'
import { canWrite, findActive, findEpoch, findInvite, findMember, holdsKeys, isActive, sameBytes } from './roster.ts'

type MemberEntry = Roster['members'][number]
type InviteEntry = Roster['invites'][number]

/** Whose key made the first signature, as the roster at the parent knows it. */
export type Author = { readonly kind: 'member'; readonly member: MemberEntry } | { readonly kind: 'invite'; readonly invite: InviteEntry }

/** What the rules of every commit but the genesis look at. */
export interface CommitFacts {
  readonly group: GroupId
  readonly head: Head
  readonly before: Roster
  readonly payload: CommitPayload
  /** Null if the key is nobody’s. */
  readonly author: Author | null
  /** The card chain of each op, decoded; null for ops without one. */
  readonly cards: readonly (DecodedCards | null)[]
}

/** What the rules of one op look at; `draft` is the roster after the ops before it. */
export interface OpFacts<T extends OpType = OpType> {
  readonly commit: CommitFacts
  readonly draft: Roster
  readonly op: OpOf<T>
  /** The chain the op carries, decoded; null if it carries none. */
  readonly cards: DecodedCards | null
}

/** What the result rules look at. */
export interface ResultFacts {
  readonly payload: CommitPayload
  readonly before: Roster | null
  readonly after: Roster
  /** Recipients at the parent that are none any more. */
  readonly lost: readonly Recipient[]
}

/** One numbered rule. */
export interface Rule<Facts> {
  readonly number: string
  readonly code: ErrorCode
  readonly holds: (facts: Facts) => boolean
}

function rule<Facts>(number: string, holds: (facts: Facts) => boolean, code: ErrorCode = 'rule_violated'): Rule<Facts> {
  return { number, code, holds }
}

/** Ops that stand alone in their commit: what they change must not be mixed with anything the same author decides. */
const ALONE = new Set<OpType>(['create', 'join', 'leave', 'retire-epoch'])

export const COMMIT_RULES = {
  /** A commit prepared for another history, or replayed, must not apply here. */
  parentIsHead: rule(
    'G01',
    ({ head, payload }: CommitFacts) => payload.seq === head.seq + 1 && payload.parent !== null && sameBytes(payload.parent, head.hash),
    'stale_head',
  ),
  /** The suite cannot be lowered by slipping in a commit of another one. */
  suiteIsTheGroups: rule('G02', ({ before, payload }: CommitFacts) => payload.suite === before.suite),
  /** An epoch number names one secret: it moves by one, exactly when a rekey opens it. */
  epochFollows: rule('G03', ({ before, payload }: CommitFacts) => payload.epoch === before.epoch + (payload.rekey === null ? 0 : 1)),
  /** Strangers, former members and dead invites sign nothing. */
  authorIsKnown: rule('G04', ({ author }: CommitFacts) => author !== null, 'not_authorised'),
  /** The key of an invite does one thing. */
  inviteOnlyJoins: rule(
    'G05',
    ({ author, payload }: CommitFacts) => author?.kind !== 'invite' || (payload.ops.length === 1 && payload.ops[0]?.type === 'join'),
    'not_authorised',
  ),
  /** Members join through invites, not by their own word; only the genesis creates. */
  memberDoesNotJoin: rule(
    'G06',
    ({ author, payload }: CommitFacts) =>
      author?.kind !== 'member' || payload.ops.every((op) => op.type !== 'join' && op.type !== 'create'),
    'not_authorised',
  ),
  /** A join that also does something else would carry the invite’s authority into it (role inflation). */
  aloneOpsStandAlone: rule('G07', ({ payload }: CommitFacts) => payload.ops.length === 1 || payload.ops.every((op) => !ALONE.has(op.type))),
  /** A commit that does nothing only moves everybody’s head. */
  doesSomething: rule('G08', ({ payload }: CommitFacts) => payload.ops.length > 0 || payload.rekey !== null),
  /** Whoever may not write cannot decide when a new epoch starts; nobody but an admin does so unasked. */
  rekeyIsAllowed: rule(
    'G10',
    ({ payload, author, before }: CommitFacts) => {
      if (payload.rekey === null) return true
      if (author?.kind !== 'member') return false
      if (author.member.role === 'admin') return true
      const onlyExpired = payload.ops.every(
        (op) => op.type === 'revoke-invite' && isExpired(findInvite(before, op.invite), before, payload),
      )
      return canWrite(author.member.role) && onlyExpired && (before.rekeyOwed || payload.ops.length > 0)
    },
    'not_authorised',
  ),
  /** A link names an older epoch that still exists, so that catching up always goes backwards and ends. */
  linkGoesBack: rule('G11', ({ payload, before }: CommitFacts) => {
    const link = payload.rekey?.link
    return link === null || link === undefined || findEpoch(before, link.to) !== null
  }),
  /** A leaver does not choose the secret of the epoch they are not in; a joiner has no say over it. */
  leaversAndJoinersDoNotRekey: rule(
    'G12',
    ({ payload }: CommitFacts) =>
      payload.rekey === null || payload.ops.every((op) => op.type !== 'leave' && op.type !== 'join' && op.type !== 'retire-epoch'),
  ),
  /** The public deposit key is a key people will encapsulate to. */
  depositKeyIsSound: rule(
    'G13',
    ({ payload }: Pick<CommitFacts, 'payload'>) => payload.rekey === null || isSoundX25519Key(payload.rekey.depositKey),
    'invalid_key',
  ),
  /** Two ops on one principal have no order an author could have meant. Last, because it is the first that needs the cards. */
  onePrincipalOneOp: rule('G09', ({ payload, author, cards }: CommitFacts) => {
    const keys = payload.ops.flatMap((op, index) => principalsOf(op, author, cards[index] ?? null))
    return new Set(keys).size === keys.length
  }),
} as const satisfies Record<string, Rule<CommitFacts>>

const authorIsAdmin = ({ commit: { author } }: Pick<OpFacts, 'commit'>): boolean =>
  author?.kind === 'member' && author.member.role === 'admin'

/** One rule with its own number for each op that only admins may use. */
function byAdmin<T extends OpType>(number: string): Rule<OpFacts<T>> {
  return rule(number, authorIsAdmin, 'not_authorised')
}

export const OP_RULES = {
  create: {
    /** A second create would start the group over under its author’s rule. */
    onlyInGenesis: rule('G20', () => false, 'not_authorised'),
  },
  invite: {
    /** Only admins decide who may come in. */
    byAdmin: byAdmin('G21'),
    /** An invite is a bearer secret: it never gives the power to remove others. */
    neverAdmin: rule('G22', ({ op }: OpFacts<'invite'>) => op.role !== 'admin'),
    /** Zero uses would be a recipient that can never be spent; absurd lifetimes are mistakes. */
    termsAreBounded: rule(
      'G23',
      ({ op, commit }: OpFacts<'invite'>) => op.maxUses >= 1 && op.expiresAt <= logTimeOf(commit) + limits.INVITE_TTL_MS_MAX,
    ),
    /** Keys of an invite are checked like those of a member. */
    keysAreSound: rule('G24', ({ op }: OpFacts<'invite'>) => keysAreSound(op), 'invalid_key'),
    /** Somebody else’s key, enrolled as an invite, would lock them out or be blamed on them. */
    keysAreNew: rule('G25', ({ op, draft }: OpFacts<'invite'>) => keysAreNew(draft, op, null)),
    /** Each live invite is a recipient of every rekey. */
    notTooMany: rule(
      'G26',
      ({ draft }: OpFacts<'invite'>) =>
        draft.invites.length < limits.INVITES_MAX &&
        draft.invites.filter((invite) => invite.state === 'live').length < limits.LIVE_INVITES_MAX,
      'limit_exceeded',
    ),
  },
  'revoke-invite': {
    /** Revoking what is dead changes nothing and hides a mistake. */
    isLive: rule('G27', ({ op, draft }: OpFacts<'revoke-invite'>) => findInvite(draft, op.invite)?.state === 'live', 'invite_spent'),
    /** Admins, the creator; once it has expired, anybody. */
    mayRevoke: rule(
      'G28',
      ({ op, commit }: OpFacts<'revoke-invite'>) => mayRevoke(commit, findInvite(commit.before, op.invite)),
      'not_authorised',
    ),
  },
  join: {
    /** A spent, revoked or approve-mode invite lets nobody in. */
    inviteIsOpen: rule(
      'G29',
      ({ commit: { author } }: OpFacts<'join'>) => author?.kind === 'invite' && author.invite.mode === 'open',
      'invite_spent',
    ),
    /** Judged by the log’s time and the commit’s own, never by a clock of the judge. */
    inviteHasNotExpired: rule(
      'G30',
      ({ commit }: OpFacts<'join'>) => commit.author?.kind === 'invite' && !isExpired(commit.author.invite, commit.before, commit.payload),
      'invite_expired',
    ),
    /** A token outlives the removal of who used it: the removed do not come back by themselves. */
    notRemoved: rule('G31', ({ cards, commit }: OpFacts<'join'>) => formerOf(commit.before, cards)?.state !== 'removed', 'not_authorised'),
    notYetMember: rule('G32', ({ cards, commit }: OpFacts<'join'>) => formerOf(commit.before, cards)?.state !== 'active', 'already_member'),
    keysAreNew: rule('G33', (facts: OpFacts<'join'>) => cardKeysAreNew(facts)),
    /** An old card, or another chain that starts from it, would bring back replaced keys. */
    cardIsNotOlder: rule('G34', (facts: OpFacts<'join'>) => cardIsNotOlder(facts)),
    roomForMore: rule('G35', ({ draft }: OpFacts<'join'>) => draft.members.length < limits.MEMBERS_MAX, 'limit_exceeded'),
  },
  approve: {
    byAdmin: byAdmin('G36'),
    /** Approval consumes a use of a live approve-mode invite. */
    inviteIsForApproval: rule(
      'G37',
      ({ op, draft }: OpFacts<'approve'>) => {
        const invite = findInvite(draft, op.invite)
        return invite?.state === 'live' && invite.mode === 'approve'
      },
      'invite_spent',
    ),
    inviteHasNotExpired: rule(
      'G38',
      ({ op, commit }: OpFacts<'approve'>) => !isExpired(findInvite(commit.before, op.invite), commit.before, commit.payload),
      'invite_expired',
    ),
    notYetMember: rule('G39', ({ cards, draft }: OpFacts<'approve'>) => formerOf(draft, cards)?.state !== 'active', 'already_member'),
    keysAreNew: rule('G40', (facts: OpFacts<'approve'>) => cardKeysAreNew(facts)),
    cardIsNotOlder: rule('G41', (facts: OpFacts<'approve'>) => cardIsNotOlder(facts)),
    roomForMore: rule('G42', ({ draft }: OpFacts<'approve'>) => draft.members.length < limits.MEMBERS_MAX, 'limit_exceeded'),
  },
  add: {
    byAdmin: byAdmin('G43'),
    notYetMember: rule('G44', ({ cards, draft }: OpFacts<'add'>) => formerOf(draft, cards)?.state !== 'active', 'already_member'),
    keysAreNew: rule('G45', (facts: OpFacts<'add'>) => cardKeysAreNew(facts)),
    cardIsNotOlder: rule('G46', (facts: OpFacts<'add'>) => cardIsNotOlder(facts)),
    roomForMore: rule('G47', ({ draft }: OpFacts<'add'>) => draft.members.length < limits.MEMBERS_MAX, 'limit_exceeded'),
  },
  remove: {
    byAdmin: byAdmin('G48'),
    /** Whoever has left may come back by a token until they are removed; to remove twice is a no-op that costs an epoch. */
    targetIsActiveOrHasLeft: rule(
      'G49',
      ({ op, draft }: OpFacts<'remove'>) => {
        const member = findMember(draft, op.member)
        return member !== null && member.state !== 'removed'
      },
      'not_a_member',
    ),
    /** Whoever goes does not choose the next secret: to go is to `leave`. */
    neverOneself: rule('G50', ({ op, commit }: OpFacts<'remove'>) => !isAuthor(commit, op.member)),
    /** A removal without a new epoch would leave the removed with the key to everything written next. */
    rekeys: rule('G51', ({ commit }: OpFacts<'remove'>) => commit.payload.rekey !== null),
  },
  leave: {
    /** Only for oneself, and only while one is in. */
    authorIsMember: rule('G52', ({ commit: { author } }: OpFacts<'leave'>) => author?.kind === 'member', 'not_authorised'),
  },
  'set-role': {
    byAdmin: byAdmin('G53'),
    targetIsActive: rule('G54', ({ op, draft }: OpFacts<'set-role'>) => findActive(draft, op.member) !== null, 'not_a_member'),
    changesSomething: rule('G55', ({ op, draft }: OpFacts<'set-role'>) => findActive(draft, op.member)?.role !== op.role),
  },
  'retire-epoch': {
    byAdmin: byAdmin('G56'),
    /** The current epoch is never retired, none twice. */
    isOldAndLive: rule(
      'G57',
      ({ op, commit: { before } }: OpFacts<'retire-epoch'>) => op.through > before.retiredThrough && op.through < before.epoch,
    ),
  },
} as const satisfies { readonly [T in OpType]: Readonly<Record<string, Rule<OpFacts<T>>>> }

export const RESULT_RULES = {
  /** Nobody loses access to keys silently: a new epoch comes with it, or is owed after a leave or a spent invite. */
  lostAccessNeedsRekey: rule(
    'G60',
    ({ payload, lost }: ResultFacts) =>
      lost.length === 0 || payload.rekey !== null || payload.ops.some((op) => op.type === 'leave' || op.type === 'join'),
  ),
  /** A group without an admin can neither remove nor invite. */
  anAdminRemains: rule(
    'G61',
    ({ after }: ResultFacts) => after.members.some((member) => isActive(member) && member.role === 'admin'),
    'last_admin',
  ),
  /** Nobody opens an epoch that they cannot open themselves. */
  rekeyAuthorIsRecipient: rule('G62', ({ payload, after }: ResultFacts) => {
    if (payload.rekey === null) return true
    return after.members.some((member) => isActive(member) && holdsKeys(member.role) && sameBytes(member.signingKey, payload.author))
  }),
  /** Every epoch that is kept is a link that somebody may have to follow. */
  epochsAreBounded: rule('G63', ({ after }: ResultFacts) => after.epochs.length <= limits.LIVE_EPOCHS_MAX, 'limit_exceeded'),
  /** Coming and going, and changes of role, must not make a roster that nobody can decode. To remove and to leave adds nothing. */
  segmentsAreBounded: rule(
    'G64',
    ({ after: { members } }: ResultFacts) =>
      members.every(({ segments }) => segments.length <= limits.SEGMENTS_PER_MEMBER_MAX) &&
      members.reduce((sum, { segments }) => sum + segments.length, 0) <= limits.SEGMENTS_MAX,
    'limit_exceeded',
  ),
} as const satisfies Record<string, Rule<ResultFacts>>

/** Rules judged in fold.ts itself, because they compare bytes or signatures. */
export const FOLD_RULES = {
  /** The genesis creates one admin with a sound card, opens epoch 0 and does nothing else. */
  genesisIsAlone: { number: 'G70', code: 'rule_violated' },
  /** A roster that differs from the fold would be an authority of its own. */
  rosterIsTheFold: { number: 'G71', code: 'roster_mismatch' },
  /** One signature each, by exactly the keys the op names. */
  signaturesAreComplete: { number: 'G72', code: 'invalid_signature' },
} as const satisfies Record<string, Omit<Rule<never>, 'holds'>>

/** @throws ClavigerError with the rule’s code and its number in `data.rule`, for the first rule that does not hold. */
export function assertRules<Facts>(rules: Readonly<Record<string, Rule<Facts>>>, facts: Facts): void {
  for (const [name, { number, code, holds }] of Object.entries(rules)) if (!holds(facts)) throw violation({ number, code }, name)
}

/** The error of a broken rule. */
export function violation({ number, code }: Omit<Rule<never>, 'holds'>, name: string): ClavigerError {
  return new ClavigerError(code, `the commit breaks rule ${number} (${name})`, { data: { rule: number } })
}

/** The greatest time any commit has claimed, this one included. */
export function logTimeOf({ before, payload }: Pick<CommitFacts, 'before' | 'payload'>): number {
  return Math.max(before.logTime, payload.time)
}

function isExpired(invite: InviteEntry | null, before: Roster, payload: CommitPayload): boolean {
  return invite !== null && logTimeOf({ before, payload }) > invite.expiresAt
}

function mayRevoke(commit: CommitFacts, invite: InviteEntry | null): boolean {
  const { author, before, payload } = commit
  if (author?.kind !== 'member' || invite === null) return false
  return author.member.role === 'admin' || sameBytes(invite.creator, author.member.id) || isExpired(invite, before, payload)
}

function isAuthor({ author }: CommitFacts, member: Uint8Array): boolean {
  return author?.kind === 'member' && sameBytes(author.member.id, member)
}
