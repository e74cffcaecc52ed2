/**
 * Who may write which header, and what may follow what: the numbered rules O5–O14, pure.
 *
 * Rules O1–O4 need nothing but the envelope and are applied by decoding it (`header.ts`).
 */
import { equalBytes } from '../bytes.ts'
import type { SigningPublicKey } from '../crypto/keys.ts'
import type { ErrorCode } from '../errors.ts'
import { ClavigerError } from '../errors.ts'
import type { Roster, Segment } from '../group/roster.ts'
import { canWrite, epochAt, findMember, segmentAt } from '../group/roster.ts'
import type { GroupId } from '../ids.ts'
import { PROFILE_OBJECT_ID } from '../ids.ts'
import type { Header, SignedHeader } from './header.ts'
import { isSameHeader, isTombstone, verifyHeader } from './header.ts'

/** What a header is judged by. */
interface Judgement {
  readonly group: GroupId
  readonly roster: Roster
  readonly header: Header
  /** The author’s role and key when the header was written, if the roster knows one. */
  readonly segment: Segment | null
}

interface Rule<Facts> {
  readonly code: ErrorCode
  readonly holds: (facts: Facts) => boolean
}

/** Rules that need the roster. The key is the rule’s number and name. */
const AUTHORITY_RULES = {
  /** A header copied from another group would be content nobody here has written. */
  O5_groupMatches: { code: 'rule_violated', holds: ({ group, header }) => equalBytes(header.group, group) },
  /** A head from the future would shut everybody else out: no later version could name an earlier one. */
  O6_headIsKnown: { code: 'bad_head', holds: ({ roster, header }) => header.at.seq <= roster.seq },
  /** The server, or somebody removed or not yet admitted, would write with a key the roster does not have at that time. */
  O7_authorIsMemberThen: { code: 'not_authorised', holds: ({ segment }) => segment !== null },
  /** A reader holds every DEK and could otherwise write; so could a writer who was demoted. */
  O8_authorMayWriteThen: { code: 'not_authorised', holds: ({ segment }) => segment !== null && canWrite(segment.role) },
  /** Any member could rename the group for everybody. */
  O9_profileIsWrittenByAdmins: {
    code: 'not_authorised',
    holds: ({ header, segment }) => !equalBytes(header.object, PROFILE_OBJECT_ID) || segment?.role === 'admin',
  },
  /** A header that names one epoch and another’s head could be dated before a removal and sealed after it, or skip the page that must vouch for it. */
  O10_epochIsThatOfTheHead: { code: 'rule_violated', holds: ({ roster, header }) => epochFits(roster, header) },
} as const satisfies Record<string, Rule<Judgement>>

/** Rules between the version a client holds and one it is offered. */
const SUCCESSION_RULES = {
  /** One object’s history would be continued with another’s. */
  O11_sameObject: ({ held, next }) =>
    equalBytes(held.header.object, next.header.object) && equalBytes(held.header.group, next.header.group),
  /** The server would show an older version as the latest, or a second one of the same number. */
  O12_versionGrows: ({ held, next }) => next.header.version > held.header.version || isSameHeader(held, next),
  /** Two members would be shown two histories of one object. */
  O13_previousIsTheOneHeld: ({ held, next }) =>
    next.header.version !== held.header.version + 1 || (next.header.previous !== null && equalBytes(next.header.previous, held.hash)),
  /** A later version could be dated before the removal of its author. */
  O14_headNeverGoesBack: ({ held, next }) => next.header.at.seq >= held.header.at.seq,
} as const satisfies Record<string, (pair: { readonly held: SignedHeader; readonly next: SignedHeader }) => boolean>

/**
 * Judges a header by the roster: group, author’s role at `at.seq`, epoch at `at.seq`. It does not check that `at.hash` is
 * in the history, nor the signature: see {@link acceptHeader}.
 *
 * @returns the key under which the signature must verify.
 * @param roster - of a head not older than `at.seq`: whoever is behind catches up first.
 * @throws ClavigerError `rule_violated`, `not_authorised` or `bad_head` with `data.rule`.
 */
export function judgeHeader(group: GroupId, roster: Roster, signed: SignedHeader): SigningPublicKey {
  const { header } = signed
  const member = findMember(roster, header.author)
  const segment = member === null ? null : segmentAt(member, header.at.seq)
  for (const [rule, { code, holds }] of Object.entries(AUTHORITY_RULES)) {
    if (!holds({ group, roster, header, segment })) {
      throw new ClavigerError(code, `the header breaks ${rule}`, { data: { rule, object: header.object, version: header.version } })
    }
  }
  if (segment === null) throw new ClavigerError('not_authorised')
  return segment.signingKey
}

/** {@link judgeHeader}, then the signature under the key it gives. */
export async function acceptHeader(group: GroupId, roster: Roster, signed: SignedHeader): Promise<void> {
  await verifyHeader(signed, judgeHeader(group, roster, signed))
}

/** How an accepted version stands to the one held: `later` means that versions between them were not seen. */
export type Succession = 'first' | 'same' | 'next' | 'later'

/**
 * Judges whether `next` may replace the version this client holds.
 *
 * @param held - null if this client holds none.
 * @throws ClavigerError `object_fork` with `data.rule` and both envelopes as evidence.
 */
export function judgeSuccessor(held: SignedHeader | null, next: SignedHeader): Succession {
  if (held === null) return 'first'
  for (const [rule, holds] of Object.entries(SUCCESSION_RULES)) {
    if (!holds({ held, next }))
      throw new ClavigerError('object_fork', `the version breaks ${rule}`, { data: { rule, held: held.bytes, offered: next.bytes } })
  }
  if (next.header.version === held.header.version) return 'same'
  return next.header.version === held.header.version + 1 ? 'next' : 'later'
}

/**
 * Whether a header counts only if a page of a live epoch vouches for it: its own epoch is retired, so an ex-member who kept
 * that epoch’s secret could have made it since. Tombstones have no DEK and so no page.
 */
export function needsVouching(roster: Roster, header: Header): boolean {
  return header.epoch <= roster.retiredThrough && !isTombstone(header)
}

/** An epoch the roster no longer lists can only be a retired one. */
function epochFits(roster: Roster, header: Header): boolean {
  const epoch = epochAt(roster, header.at.seq)
  return epoch === null ? header.epoch <= roster.retiredThrough : header.epoch === epoch
}
