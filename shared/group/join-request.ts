/**
 * Join requests of approve-mode invites: signed by the invite key and by the joiner, waiting for an admin
 * who has compared safety numbers.
 */
import { z } from 'zod/mini'
import { concat } from '../bytes.ts'
import { HeadSchema, bytesOf, bytesUpTo, codec } from '../codec.ts'
import type { Signature } from '../crypto/keys.ts'
import { asSignature } from '../crypto/keys.ts'
import { labelled } from '../crypto/labels.ts'
import { hashLabelled } from '../crypto/public-crypto.ts'
import type { Signer } from '../crypto/signature.ts'
import { ClavigerError } from '../errors.ts'
import type { GroupId, InviteId } from '../ids.ts'
import * as limits from '../limits.ts'
import type { VerifiedCards } from './card.ts'
import { decodeCards, verifyChecks } from './card.ts'
import type { Roster } from './roster.ts'
import { findInvite } from './roster.ts'

const REQUEST_BYTES_MAX = 16_384

const StatementSchema = z.strictObject({
  v: z.literal(1),
  group: bytesOf<GroupId>(32),
  invite: bytesOf<InviteId>(32),
  cards: z.array(bytesUpTo(limits.CARD_BYTES_MAX)).check(z.minLength(1), z.maxLength(limits.CARDS_PER_CHAIN_MAX)),
  /** The head the joiner folded to. */
  at: HeadSchema,
})
type Statement = z.infer<typeof StatementSchema>

const EnvelopeSchema = z.strictObject({
  statement: bytesUpTo(REQUEST_BYTES_MAX),
  /** By the invite key, then by the joiner. */
  signatures: z.array(bytesOf<Signature>(64)).check(z.minLength(2), z.maxLength(2)),
})
const statementCodec = codec('join request', StatementSchema, REQUEST_BYTES_MAX)
const envelopeCodec = codec('signed join request', EnvelopeSchema, REQUEST_BYTES_MAX)

/** A request whose signatures have been checked. */
export interface JoinRequest {
  /** What `approve` embeds. */
  readonly hash: Uint8Array
  readonly invite: InviteId
  readonly cards: VerifiedCards
  readonly bytes: Uint8Array
}

/** Makes a request. */
export async function signJoinRequest(statement: Omit<Statement, 'v'>, signers: { invite: Signer; joiner: Signer }): Promise<Uint8Array> {
  const bytes = statementCodec.encode({ v: 1, ...statement })
  const toSign = message(bytes)
  const signatures = [asSignature(await signers.invite.sign(toSign)), asSignature(await signers.joiner.sign(toSign))]
  return envelopeCodec.encode({ statement: bytes, signatures })
}

/**
 * Checks a request against the roster: a live approve-mode invite of this group, and both signatures.
 *
 * @throws ClavigerError `malformed`, `invite_invalid`, `invite_spent` or `invalid_signature`.
 */
export async function verifyJoinRequest(group: GroupId, roster: Roster, bytes: Uint8Array): Promise<JoinRequest> {
  const { statement: statementBytes, signatures } = envelopeCodec.decode(bytes)
  const statement = statementCodec.decode(statementBytes)
  const invite = findInvite(roster, statement.invite)
  if (!statement.group.every((byte, index) => byte === group[index]) || invite?.mode !== 'approve')
    throw new ClavigerError('invite_invalid')
  if (invite.state !== 'live') throw new ClavigerError('invite_spent')
  const cards = decodeCards(statement.cards)
  const keys = [invite.signingKey, cards.newest.signingKey]
  const own = keys.flatMap((publicKey, index) => {
    const signature = signatures[index]
    return signature === undefined ? [] : [{ publicKey, message: message(statementBytes), signature }]
  })
  await verifyChecks([...cards.checks, ...own])
  return { hash: hashLabelled('join-request', bytes), invite: statement.invite, cards, bytes }
}

function message(statementBytes: Uint8Array): Uint8Array {
  return concat(labelled('join-request'), statementBytes)
}
