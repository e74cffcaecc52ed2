/**
 * Signed heads: each principal’s word on where the log stands, handed out by the server, so that two clients who were shown
 * different histories find out.
 */
import { z } from 'zod/mini'
import { concat } from '../bytes.ts'
import { HeadSchema, bytesOf, bytesUpTo, codec, uint } from '../codec.ts'
import type { Signature } from '../crypto/keys.ts'
import { asSignature } from '../crypto/keys.ts'
import { labelled } from '../crypto/labels.ts'
import type { Signer } from '../crypto/signature.ts'
import { verifySignature } from '../crypto/signature.ts'
import { ClavigerError } from '../errors.ts'
import type { GroupId, IdentityId } from '../ids.ts'
import { idKey } from '../ids.ts'
import type { Roster } from './roster.ts'
import { findMember } from './roster.ts'

const SIGNED_HEAD_BYTES_MAX = 512

const StatementSchema = z.strictObject({
  v: z.literal(1),
  group: bytesOf<GroupId>(32),
  member: bytesOf<IdentityId>(32),
  at: HeadSchema,
  time: uint(),
})
/** What a principal says: this was my head at this time. */
export type HeadStatement = z.infer<typeof StatementSchema>

const EnvelopeSchema = z.strictObject({ statement: bytesUpTo(SIGNED_HEAD_BYTES_MAX), signature: bytesOf<Signature>(64) })
const statementCodec = codec('head statement', StatementSchema, SIGNED_HEAD_BYTES_MAX)
const envelopeCodec = codec('signed head', EnvelopeSchema, SIGNED_HEAD_BYTES_MAX)

/** A decoded signed head. */
export interface SignedHead extends HeadStatement {
  readonly bytes: Uint8Array
  readonly statementBytes: Uint8Array
  readonly signature: Signature
}

/** Signs one’s own head. */
export async function signHead(signer: Signer, statement: Omit<HeadStatement, 'v'>): Promise<Uint8Array> {
  const bytes = statementCodec.encode({ v: 1, ...statement })
  return envelopeCodec.encode({ statement: bytes, signature: asSignature(await signer.sign(message(bytes))) })
}

/** @throws ClavigerError `malformed`. */
export function decodeSignedHead(bytes: Uint8Array): SignedHead {
  const { statement: statementBytes, signature } = envelopeCodec.decode(bytes)
  return { ...statementCodec.decode(statementBytes), bytes, statementBytes, signature }
}

/**
 * Checks the signature under any key the member has had: which of them is current depends on the history in question.
 *
 * @throws ClavigerError `not_a_member` or `invalid_signature`.
 */
export async function verifySignedHead(group: GroupId, roster: Roster, head: SignedHead): Promise<void> {
  const member = findMember(roster, head.member)
  if (member === null || !sameGroup(group, head.group)) throw new ClavigerError('not_a_member')
  // A role change begins a segment with the same key: each key is asked once, the newest first.
  const keys = new Map(member.segments.toReversed().map(({ signingKey }) => [idKey(signingKey), signingKey]))
  for (const signingKey of keys.values()) {
    if (await verifySignature(signingKey, message(head.statementBytes), head.signature)) return
  }
  throw new ClavigerError('invalid_signature')
}

function message(statementBytes: Uint8Array): Uint8Array {
  return concat(labelled('signed-head'), statementBytes)
}

function sameGroup(left: GroupId, right: GroupId): boolean {
  return left.every((byte, index) => byte === right[index])
}
