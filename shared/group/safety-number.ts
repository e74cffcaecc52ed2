/**
 * Safety numbers: 60 digits that two people compare to know that no one stands between them.
 */
import { compareBytes } from '../bytes.ts'
import { encodeCanonical } from '../codec.ts'
import { hkdfExpand } from '../crypto/kdf.ts'
import { labelled } from '../crypto/labels.ts'
import { hashLabelled } from '../crypto/public-crypto.ts'
import type { GroupId } from '../ids.ts'
import type { VerifiedCards } from './card.ts'
import type { Member } from './roster.ts'

const GROUPS = 12
const BYTES_PER_GROUP = 5

/** What of a member stands in a safety number. */
export type SafetyParty = Pick<Member, 'id' | 'signingKey' | 'kemKey' | 'cardRevision'>

/** Somebody who is no member yet, by their cards. */
export function safetyParty({ identity, newest }: Pick<VerifiedCards, 'identity' | 'newest'>): SafetyParty {
  return { id: identity, signingKey: newest.signingKey, kemKey: newest.kemKey, cardRevision: newest.revision }
}

/** Twelve groups of five digits over the group, both identities and their current keys; the same for both sides. */
export function safetyNumber(group: GroupId, one: SafetyParty, other: SafetyParty): string {
  const parties = [one, other].toSorted((left, right) => compareBytes(left.id, right.id))
  const facts = parties.map(({ id, signingKey, kemKey, cardRevision }) => [id, signingKey, kemKey, cardRevision])
  const hash = hashLabelled('safety-number', encodeCanonical([group, facts]))
  const bytes = hkdfExpand(hash, labelled('safety-number'), GROUPS * BYTES_PER_GROUP)
  return Array.from({ length: GROUPS }, (_, index) => digits(bytes.subarray(index * BYTES_PER_GROUP, (index + 1) * BYTES_PER_GROUP))).join(
    ' ',
  )
}

function digits(bytes: Uint8Array): string {
  const value = bytes.reduce((sum, byte) => sum * 256 + byte, 0)
  return String(value % 100_000).padStart(5, '0')
}
