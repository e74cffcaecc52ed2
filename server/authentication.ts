/**
 * Who is at the other end: a chain of cards that verifies, and a signature by its newest key over this session’s nonce.
 *
 * The signature is bound to the authority that the client dialled, so that another server cannot pass it on to this one.
 * A chain only ever gets longer: whoever holds a replaced key does not get in with it again.
 */
import { z } from 'zod/mini'
import { equalBytes } from '../shared/bytes.ts'
import { bytesUpTo, decodeCanonical, encodeCanonical } from '../shared/codec.ts'
import { verifySignature } from '../shared/crypto/signature.ts'
import type { ErrorCode } from '../shared/errors.ts'
import { ClavigerError } from '../shared/errors.ts'
import type { VerifiedCards } from '../shared/group/card.ts'
import { verifyCards } from '../shared/group/card.ts'
import type { IdentityId } from '../shared/ids.ts'
import { CARD_BYTES_MAX, CARDS_PER_CHAIN_MAX } from '../shared/limits.ts'
import { authenticationMessage } from '../shared/protocol/authentication.ts'
import type { Audit } from './audit.ts'
import type { VerifiedIdentity } from './peer.ts'
import type { AuthenticationAttempt } from './session.ts'
import type { Database } from './storage/database.ts'
import { readIdentity, storeCards } from './storage/identities.ts'
import type { AddressBuckets } from './token-bucket.ts'

export interface AuthenticationParts {
  readonly database: Database
  readonly audit: Audit
  /** Failures of each address. */
  readonly failures: AddressBuckets
  /** A longer chain than before has been stored. */
  readonly renewed: (identity: IdentityId, revision: number) => void
}

/** @throws ClavigerError `authentication_failed`, `rate_limited`, or what is wrong with the cards. */
export async function authenticate(parts: AuthenticationParts, attempt: AuthenticationAttempt): Promise<VerifiedIdentity> {
  if (parts.failures.isEmpty(attempt.address)) throw new ClavigerError('rate_limited')
  const seen: { identity: IdentityId | null } = { identity: null }
  try {
    return await verify(parts, attempt, seen)
  } catch (error) {
    if (error instanceof ClavigerError && !OWN_FAULTS.has(error.code)) {
      parts.failures.take(attempt.address)
      parts.audit.authenticationFailed(seen.identity, attempt.address, error.code)
    }
    throw error
  }
}

/** Failures that say nothing about who asked. */
const OWN_FAULTS: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['server_unavailable', 'storage_full'])

async function verify(
  parts: AuthenticationParts,
  { claim, binding }: AuthenticationAttempt,
  seen: { identity: IdentityId | null },
): Promise<VerifiedIdentity> {
  const chain = await verifyCards(claim.cards)
  const { identity, newest } = chain
  seen.identity = identity
  const message = authenticationMessage({ ...binding, identity })
  if (!(await verifySignature(newest.signingKey, message, claim.signature))) throw new ClavigerError('authentication_failed')
  await keepCards(parts, chain)
  return { identity, signingKey: newest.signingKey, revision: newest.revision }
}

async function keepCards({ database, renewed }: AuthenticationParts, { identity, newest, cards }: VerifiedCards): Promise<void> {
  const known = await readIdentity(database, identity)
  if (known !== null) assertExtends(decodeChain(known.cards), cards)
  const row = { identity, signingKey: newest.signingKey, revision: newest.revision, cards: encodeChain(cards) }
  const outcome = await storeCards(database, row)
  if (outcome === 'stored' && newest.revision > 0) renewed(identity, newest.revision)
  if (outcome === 'stored' || outcome === 'unchanged') return
  throw new ClavigerError('authentication_failed', REFUSALS[outcome])
}

const REFUSALS = {
  older: 'This identity has newer keys; authenticate with its newest card.',
  other: 'This identity has another card of the same revision.',
  'key-taken': 'This signing key belongs to another identity.',
} as const

/** A chain that leaves the known one behind somewhere in the middle was signed by somebody who stole an older key. */
function assertExtends(known: readonly Uint8Array[], offered: readonly Uint8Array[]): void {
  const shared = Math.min(known.length, offered.length)
  for (let index = 0; index < shared; index += 1) {
    const [mine, theirs] = [known[index], offered[index]]
    if (mine === undefined || theirs === undefined || !equalBytes(mine, theirs))
      throw new ClavigerError('authentication_failed', REFUSALS.other)
  }
}

const Chain = z.array(bytesUpTo(CARD_BYTES_MAX)).check(z.maxLength(CARDS_PER_CHAIN_MAX))

/** A chain of cards as one byte string. */
export function encodeChain(cards: readonly Uint8Array[]): Uint8Array {
  return encodeCanonical(cards)
}

/** The cards of a stored chain. */
export function decodeChain(bytes: Uint8Array): Uint8Array[] {
  return Chain.parse(decodeCanonical(bytes))
}
