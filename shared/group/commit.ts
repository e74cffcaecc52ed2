/**
 * Commits: the entries of a group’s log, as the bytes that were signed.
 *
 * A commit’s hash covers its payload and its signatures; its parent hash chains it to the genesis, whose hash is the
 * group’s id. Nothing here needs a group id, and no commit holds ciphertext that must outlive its epoch.
 */
import { z } from 'zod/mini'
import { concat } from '../bytes.ts'
import { bytesOf, bytesUpTo, codec, uint } from '../codec.ts'
import type { KemPublicKey, Signature, SigningPublicKey } from '../crypto/keys.ts'
import { labelled } from '../crypto/labels.ts'
import { hashLabelled } from '../crypto/public-crypto.ts'
import type { CommitHash, IdentityId, InviteId } from '../ids.ts'
import { asCommitHash } from '../ids.ts'
import * as limits from '../limits.ts'

/** What a principal may do; see `ROLE_RIGHTS` in roster.ts. */
export const RoleSchema = z.enum(['admin', 'member', 'reader', 'depositor'])
export type Role = z.infer<typeof RoleSchema>

const identityId = bytesOf<IdentityId>(32)
const inviteId = bytesOf<InviteId>(32)
const cards = z.array(bytesUpTo(limits.CARD_BYTES_MAX)).check(z.minLength(1), z.maxLength(limits.CARDS_PER_CHAIN_MAX))

export const InviteModeSchema = z.enum(['open', 'approve'])
export type InviteMode = z.infer<typeof InviteModeSchema>

const OP_SCHEMAS = {
  create: z.strictObject({ type: z.literal('create'), cards }),
  invite: z.strictObject({
    type: z.literal('invite'),
    signingKey: bytesOf<SigningPublicKey>(32),
    kemKey: bytesOf<KemPublicKey>(32),
    role: RoleSchema,
    mode: InviteModeSchema,
    /** Milliseconds since 1970; judged against the log’s time. */
    expiresAt: uint(),
    maxUses: uint(limits.INVITE_USES_MAX),
    /** By the invite’s own key: nobody can enrol somebody else’s. */
    proof: bytesOf<Signature>(64),
  }),
  'revoke-invite': z.strictObject({ type: z.literal('revoke-invite'), invite: inviteId }),
  join: z.strictObject({ type: z.literal('join'), cards }),
  approve: z.strictObject({ type: z.literal('approve'), invite: inviteId, request: bytesOf(32), cards }),
  add: z.strictObject({ type: z.literal('add'), role: RoleSchema, cards }),
  remove: z.strictObject({ type: z.literal('remove'), member: identityId }),
  leave: z.strictObject({ type: z.literal('leave') }),
  'set-role': z.strictObject({ type: z.literal('set-role'), member: identityId, role: RoleSchema }),
  'retire-epoch': z.strictObject({ type: z.literal('retire-epoch'), through: uint(0x7fffffff) }),
} as const

export const OpSchema = z.discriminatedUnion('type', [
  OP_SCHEMAS.create,
  OP_SCHEMAS.invite,
  OP_SCHEMAS['revoke-invite'],
  OP_SCHEMAS.join,
  OP_SCHEMAS.approve,
  OP_SCHEMAS.add,
  OP_SCHEMAS.remove,
  OP_SCHEMAS.leave,
  OP_SCHEMAS['set-role'],
  OP_SCHEMAS['retire-epoch'],
])
export type Op = z.infer<typeof OpSchema>
export type OpType = Op['type']
export type OpOf<T extends OpType> = Extract<Op, { type: T }>

const RekeySchema = z.strictObject({
  /** Commits to the epoch secret: `derive(E, 'epoch-commitment', [epoch])`. */
  commitment: bytesOf(32),
  /** The newest older epoch the author could open, sealed under this one; the bytes travel beside the commit. */
  link: z.nullable(z.strictObject({ to: uint(0x7fffffff), hash: bytesOf(32) })),
  /** Public KEM key of deposits, derived from the epoch secret. */
  depositKey: bytesOf<KemPublicKey>(32),
})
export type Rekey = z.infer<typeof RekeySchema>

const PayloadSchema = z.strictObject({
  v: z.literal(1),
  suite: uint(0xffff),
  seq: uint(),
  parent: z.nullable(bytesOf<CommitHash>(32)),
  /** The epoch after this commit. */
  epoch: uint(0x7fffffff),
  /** The key that made the first signature: a member’s, or the invite’s in a `join`. */
  author: bytesOf<SigningPublicKey>(32),
  /** Milliseconds since 1970: a claim, never a right. */
  time: uint(),
  ops: z.array(OpSchema).check(z.maxLength(limits.OPS_PER_COMMIT_MAX)),
  /** Hash of the roster after this commit. */
  roster: bytesOf(32),
  rekey: z.nullable(RekeySchema),
})
export type CommitPayload = z.infer<typeof PayloadSchema>

const EnvelopeSchema = z.strictObject({
  payload: bytesUpTo(limits.COMMIT_BYTES_MAX),
  signatures: z.array(bytesOf<Signature>(64)).check(z.minLength(1), z.maxLength(2)),
})

const payloadCodec = codec('commit payload', PayloadSchema, limits.COMMIT_BYTES_MAX)
const envelopeCodec = codec('commit', EnvelopeSchema, limits.COMMIT_BYTES_MAX)

/** A decoded commit; nothing about it has been judged. */
export interface Commit {
  /** What travels and is stored. */
  readonly bytes: Uint8Array
  readonly hash: CommitHash
  readonly payload: CommitPayload
  readonly payloadBytes: Uint8Array
  /** In fixed order: author, then the joiner in a `join`. */
  readonly signatures: readonly Signature[]
}

/** @throws ClavigerError `malformed` or `limit_exceeded`. */
export function decodeCommit(bytes: Uint8Array): Commit {
  const { payload: payloadBytes, signatures } = envelopeCodec.decode(bytes)
  const payload = payloadCodec.decode(payloadBytes)
  const hash = asCommitHash(hashLabelled('commit-hash', payloadBytes, ...signatures))
  return { bytes, hash, payload, payloadBytes, signatures }
}

/** The bytes of a payload, and what each signer signs. */
export function encodePayload(payload: CommitPayload): { payloadBytes: Uint8Array; message: Uint8Array } {
  const payloadBytes = payloadCodec.encode(payload)
  return { payloadBytes, message: commitMessage(payloadBytes) }
}

/** What a commit’s signatures sign. */
export function commitMessage(payloadBytes: Uint8Array): Uint8Array {
  return concat(labelled('commit'), payloadBytes)
}

/** A commit from its signed parts. */
export function assembleCommit(payloadBytes: Uint8Array, signatures: readonly Signature[]): Commit {
  return decodeCommit(envelopeCodec.encode({ payload: payloadBytes, signatures: [...signatures] }))
}
