/**
 * The fold: a roster and a commit in, the next roster out. One pure function, run by the server as referee
 * and by every client as judge.
 *
 * Folding says which signatures must verify; {@link applyCommit} checks them too. A fold whose signatures have not
 * been checked counts for nothing.
 */
import { isSuiteId } from '../crypto/suites.ts'
import type { GroupId, Head } from '../ids.ts'
import { asGroupId } from '../ids.ts'
import type { DecodedCards, SignatureCheck } from './card.ts'
import { decodeCards, verifyChecks } from './card.ts'
import type { Commit, CommitPayload, Op, OpOf, OpType } from './commit.ts'
import { commitMessage, decodeCommit } from './commit.ts'
import { EFFECTS, enrol } from './effects.ts'
import { EMPTY_HISTORY, appendCommit } from './history.ts'
import { inviteProofMessage } from './invite-proof.ts'
import type { Recipient, Roster } from './roster.ts'
import { findInviteBySigningKey, findMemberBySigningKey, recipients, rosterHash, sameBytes } from './roster.ts'
import type { Author, CommitFacts, OpFacts, Rule } from './rules.ts'
import { COMMIT_RULES, FOLD_RULES, OP_RULES, RESULT_RULES, assertRules, logTimeOf, violation } from './rules.ts'

/** A group as its log stands at one commit. */
export interface GroupState {
  readonly group: GroupId
  readonly head: Head
  readonly roster: Roster
}

/** What one commit does. */
export interface Fold {
  readonly state: GroupState
  readonly commit: Commit
  /** Signatures that must verify before the fold counts. */
  readonly checks: readonly SignatureCheck[]
  /** Principals that need a wrap of the current epoch beside the commit; empty if it opens a new one. */
  readonly newRecipients: readonly Recipient[]
  /** The card chain of each op, decoded; null for ops without one. */
  readonly cards: readonly (DecodedCards | null)[]
}

/** What a payload would do, before anybody has signed it. */
export interface Transition {
  readonly roster: Roster
  readonly newRecipients: readonly Recipient[]
  readonly cards: readonly (DecodedCards | null)[]
  /** By cards and invites inside the ops. */
  readonly checks: readonly SignatureCheck[]
  /** Keys that must sign the payload, in order. */
  readonly signers: readonly SignatureCheck['publicKey'][]
}

/**
 * Decodes, folds and verifies one commit.
 *
 * @param state - the group at the parent; null for the genesis.
 * @throws ClavigerError with the code and number of the first rule that does not hold.
 */
export async function applyCommit(state: GroupState | null, bytes: Uint8Array): Promise<Fold> {
  const fold = foldCommit(state, decodeCommit(bytes))
  await verifyChecks(fold.checks)
  return fold
}

/** Folds one commit without checking signatures: for a chain whose checks are made together, or that is already trusted. */
export function foldCommit(state: GroupState | null, commit: Commit): Fold {
  const { payload, signatures, hash } = commit
  const { roster, newRecipients, cards, checks, signers } = transition(state, payload)
  if (!sameBytes(rosterHash(roster), payload.roster)) throw violation(FOLD_RULES.rosterIsTheFold, 'rosterIsTheFold')
  if (signatures.length !== signers.length) throw violation(FOLD_RULES.signaturesAreComplete, 'signaturesAreComplete')
  const message = commitMessage(commit.payloadBytes)
  const own = signers.flatMap((publicKey, index) => {
    const signature = signatures[index]
    return signature === undefined ? [] : [{ publicKey, message, signature }]
  })
  const group = state === null ? asGroupId(hash) : state.group
  return { state: { group, head: { seq: payload.seq, hash }, roster }, commit, checks: [...checks, ...own], newRecipients, cards }
}

/**
 * The roster after `payload`, whose own roster hash is not looked at: planners call this to learn it.
 *
 * @throws ClavigerError with the code and number of the first rule that does not hold.
 */
export function transition(state: GroupState | null, payload: CommitPayload): Transition {
  return state === null ? genesis(payload) : next(state, payload)
}

function genesis(payload: CommitPayload): Transition {
  const [op, ...others] = payload.ops
  const isGenesis = payload.seq === 0 && payload.parent === null && payload.epoch === 0 && others.length === 0
  if (!isGenesis || op?.type !== 'create' || payload.rekey === null || payload.rekey.link !== null || !isSuiteId(payload.suite)) {
    throw violation(FOLD_RULES.genesisIsAlone, 'genesisIsAlone')
  }
  assertRules({ depositKeyIsSound: COMMIT_RULES.depositKeyIsSound }, { payload })
  const cards = decodeCards(op.cards)
  if (!sameBytes(cards.newest.signingKey, payload.author)) throw violation(FOLD_RULES.genesisIsAlone, 'genesisIsAlone')
  const empty: Roster = {
    v: 1,
    suite: payload.suite,
    seq: 0,
    epoch: -1,
    rekeyOwed: false,
    retiredThrough: -1,
    logTime: 0,
    members: [],
    invites: [],
    epochs: [],
    history: EMPTY_HISTORY,
  }
  const created = enrol(empty, { cards, role: 'admin', via: null, seq: 0 })
  const roster = withRekey({ ...created, logTime: payload.time }, payload)
  return { roster, newRecipients: [], cards: [cards], checks: cards.checks, signers: [payload.author] }
}

function next(state: GroupState, payload: CommitPayload): Transition {
  const { head, roster: before } = state
  const commit = factsOf(state, payload)
  assertRules(COMMIT_RULES, commit)
  const { cards } = commit
  const advanced: Roster = { ...before, seq: payload.seq, logTime: logTimeOf(commit), history: appendCommit(before.history, head.hash) }
  const changed = payload.ops.reduce((draft, op, index) => applyOp(commit, draft, op, cards[index] ?? null), advanced)
  const { gained, lost } = compareRecipients(before, changed)
  const owed = { ...changed, rekeyOwed: before.rekeyOwed || lost.length > 0 }
  const after = withRekey(owed, payload)
  assertRules(RESULT_RULES, { payload, before, after, lost })
  return {
    roster: after,
    newRecipients: payload.rekey === null ? gained : [],
    cards,
    checks: [...cards.flatMap((chain) => chain?.checks ?? []), ...inviteChecks(commit)],
    signers: signersOf(commit),
  }
}

/** What the rules look at. Cards are decoded when a rule first asks: checking their keys costs most, and authority comes first. */
function factsOf({ group, head, roster: before }: GroupState, payload: CommitPayload): CommitFacts {
  const facts = { group, head, before, payload, author: findAuthor(before, payload) }
  let decoded: readonly (DecodedCards | null)[] | undefined
  return {
    ...facts,
    get cards() {
      if (decoded === undefined) assertMayEnrol(facts)
      decoded ??= payload.ops.map(cardsOf)
      return decoded
    },
  }
}

/** Whoever may not enrol anybody must not make others check a thousand keys. */
function assertMayEnrol({ payload, author }: Pick<CommitFacts, 'payload' | 'author'>): void {
  const isAdmin = author?.kind === 'member' && author.member.role === 'admin'
  for (const { type } of payload.ops)
    if ((type === 'add' || type === 'approve') && !isAdmin) throw violation(OP_RULES[type].byAdmin, 'byAdmin')
}

function applyOp(commit: CommitFacts, draft: Roster, op: Op, cards: DecodedCards | null): Roster {
  // The tables are complete by type; only the correlation of key and op is lost on the way.
  const rules = OP_RULES[op.type] as Readonly<Record<string, Rule<OpFacts>>>
  const effect = EFFECTS[op.type] as (facts: OpFacts) => Roster
  const facts: OpFacts = { commit, draft, op, cards }
  assertRules(rules, facts)
  return effect(facts)
}

function cardsOf(op: OpOf<OpType>): DecodedCards | null {
  return 'cards' in op ? decodeCards(op.cards) : null
}

function findAuthor(before: Roster, { author, ops }: CommitPayload): Author | null {
  if (ops[0]?.type === 'join') {
    const invite = findInviteBySigningKey(before, author)
    if (invite !== null) return { kind: 'invite', invite }
  }
  const member = findMemberBySigningKey(before, author)
  if (member !== null) return { kind: 'member', member }
  const invite = findInviteBySigningKey(before, author)
  return invite === null ? null : { kind: 'invite', invite }
}

/** A `join` is co-signed by the joiner, so that nobody is enrolled by whoever else holds the token. */
function signersOf({ payload, cards }: CommitFacts): SignatureCheck['publicKey'][] {
  const joiner = payload.ops[0]?.type === 'join' ? cards[0] : null
  return joiner === null || joiner === undefined ? [payload.author] : [payload.author, joiner.newest.signingKey]
}

function inviteChecks({ group, author, payload }: CommitFacts): SignatureCheck[] {
  if (author?.kind !== 'member') return []
  return payload.ops.flatMap((op) => {
    if (op.type !== 'invite') return []
    return [{ publicKey: op.signingKey, message: inviteProofMessage(group, author.member.id, op), signature: op.proof }]
  })
}

/** The roster with the epoch that the commit opens, if any. */
function withRekey(roster: Roster, { rekey, epoch, seq, parent }: CommitPayload): Roster {
  if (rekey === null) return roster
  const opened = { epoch, seq, parent, commitment: rekey.commitment, link: rekey.link, depositKey: rekey.depositKey }
  return { ...roster, epoch, rekeyOwed: false, epochs: [...roster.epochs, opened] }
}

function compareRecipients(before: Roster, after: Roster): { gained: readonly Recipient[]; lost: readonly Recipient[] } {
  const [old, current] = [recipients(before), recipients(after)]
  const { start, end } = commonEnds(old, current)
  return { gained: missing(current.slice(start, current.length - end), old), lost: missing(old.slice(start, old.length - end), current) }
}

/** How many recipients two lists have in common at their start and at their end: entries that did not change give the same object. */
function commonEnds(left: readonly Recipient[], right: readonly Recipient[]): { start: number; end: number } {
  const shorter = Math.min(left.length, right.length)
  let start = 0
  while (start < shorter && left[start] === right[start]) start += 1
  let end = 0
  while (end < shorter - start && left[left.length - 1 - end] === right[right.length - 1 - end]) end += 1
  return { start, end }
}

/** Those whose key is nobody’s in `list`. */
function missing(candidates: readonly Recipient[], list: readonly Recipient[]): readonly Recipient[] {
  if (candidates.length === 0) return []
  const keys = new Set(list.map(({ key }) => key))
  return candidates.filter(({ key }) => !keys.has(key))
}
