/**
 * Enrolment: what is asked of the keys of whoever comes in. The rules of the ops that enrol use these.
 */
import { assertSigningKey } from '../crypto/signature.ts'
import { isSoundX25519Key } from '../crypto/x25519-key.ts'
import type { DecodedCards } from './card.ts'
import type { Roster } from './roster.ts'
import { findMember, sameBytes } from './roster.ts'

type MemberEntry = Roster['members'][number]

/** The roster so far, and the chain that an op carries. */
export interface EnrolmentFacts {
  readonly draft: Roster
  readonly cards: DecodedCards | null
}

/** The member, former ones included, whose cards these are; null for a newcomer. */
export function formerOf(roster: Roster, cards: DecodedCards | null): MemberEntry | null {
  return cards === null ? null : findMember(roster, cards.identity)
}

/** Whoever returns brings the very card the group has seen last, or one that follows it: replaced keys sign no other branch. */
export function cardIsNotOlder({ cards, draft }: EnrolmentFacts): boolean {
  const former = formerOf(draft, cards)
  if (cards === null || former === null) return cards !== null
  const known = cards.chain[former.cardRevision]
  return known !== undefined && sameBytes(known.signingKey, former.signingKey) && sameBytes(known.kemKey, former.kemKey)
}

/** Whether the newest card’s keys are nobody else’s. */
export function cardKeysAreNew({ cards, draft }: EnrolmentFacts): boolean {
  return cards !== null && keysAreNew(draft, cards.newest, cards.identity)
}

interface Keys {
  readonly signingKey: Uint8Array
  readonly kemKey: Uint8Array
}

/** Signing and KEM keys are unique in the group for ever, but for a returning identity’s own. */
export function keysAreNew(roster: Roster, keys: Keys, owner: Uint8Array | null): boolean {
  const others = roster.members.filter((member) => owner === null || !sameBytes(member.id, owner))
  const taken = others.some((member) => isTakenBy(member, keys))
  return !taken && !roster.invites.some((invite) => sameBytes(invite.signingKey, keys.signingKey) || sameBytes(invite.kemKey, keys.kemKey))
}

function isTakenBy(member: MemberEntry, keys: Keys): boolean {
  return sameBytes(member.kemKey, keys.kemKey) || member.segments.some((segment) => sameBytes(segment.signingKey, keys.signingKey))
}

/** Whether both keys are acceptable: canonical, of prime order, not of small order. */
export function keysAreSound({ signingKey, kemKey }: Keys): boolean {
  try {
    assertSigningKey(signingKey)
  } catch {
    // The rule that asked names the error.
    return false
  }
  return isSoundX25519Key(kemKey)
}
