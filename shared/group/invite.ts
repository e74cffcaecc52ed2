/**
 * Invite tokens: 32 secret bytes from which the invite’s keys are derived, with what binds them to one history. Secret side.
 *
 * The server never sees a token; in web links it stands behind `#`.
 */
import { z } from 'zod/mini'
import { fromBase64Url, toBase64Url } from '../bytes.ts'
import { HeadSchema, bytesOf, codec, context } from '../codec.ts'
import { derive } from '../crypto/kdf.ts'
import type { KemPrivateKey } from '../crypto/kem.ts'
import { KEMS, kemPrivateKeyFromSeed } from '../crypto/kem.ts'
import { asSignature } from '../crypto/keys.ts'
import { randomBytes } from '../crypto/public-crypto.ts'
import { signerFromSeed } from '../crypto/sign.ts'
import type { Signer } from '../crypto/signature.ts'
import type { SuiteId } from '../crypto/suites.ts'
import { SUITES } from '../crypto/suites.ts'
import { ClavigerError } from '../errors.ts'
import type { GroupId, IdentityId, InviteId } from '../ids.ts'
import type { InviteMode, OpOf, Role } from './commit.ts'
import { inviteIdOf, inviteProofMessage } from './invite-proof.ts'

const TOKEN_PREFIX = 'clv1.'
/** A token fits in a URL with room to spare. */
const TOKEN_CHARACTERS_MAX = 1024
const SERVER_HINT_CHARACTERS_MAX = 256
const SECRET_BYTES = 32

const TokenSchema = z.strictObject({
  v: z.literal(1),
  /** WebSocket URL of the server that the inviter used. */
  server: z.string().check(z.maxLength(SERVER_HINT_CHARACTERS_MAX)),
  group: bytesOf<GroupId>(32),
  /** The commit that holds the `invite`: a token exists only after its acknowledgement. */
  at: HeadSchema,
  secret: bytesOf(SECRET_BYTES),
})
/** What a token says. */
export type InviteToken = z.infer<typeof TokenSchema>

const tokenCodec = codec('invite token', TokenSchema, TOKEN_CHARACTERS_MAX)

/** URL-fragment-safe text. @throws RangeError if the server’s URL is too long for a token. */
export function encodeToken(token: InviteToken): string {
  const text = TOKEN_PREFIX + toBase64Url(tokenCodec.encode(token))
  if (token.server.length > SERVER_HINT_CHARACTERS_MAX || text.length > TOKEN_CHARACTERS_MAX) {
    throw new RangeError(`server must be at most ${SERVER_HINT_CHARACTERS_MAX} characters, got ${token.server.length}`)
  }
  return text
}

/** @throws ClavigerError `invite_invalid`, without repeating the token. */
export function parseToken(text: string): InviteToken {
  if (!text.startsWith(TOKEN_PREFIX) || text.length > TOKEN_CHARACTERS_MAX) throw new ClavigerError('invite_invalid')
  try {
    return tokenCodec.decode(fromBase64Url(text.slice(TOKEN_PREFIX.length)))
  } catch {
    // Whatever is wrong with it: the text is a secret and must not stand in an error.
    throw new ClavigerError('invite_invalid')
  }
}

/** A fresh invite secret. */
export function generateInviteSecret(): Uint8Array {
  return randomBytes(SECRET_BYTES)
}

/** The keys behind a token. */
export interface InviteKeys {
  readonly id: InviteId
  readonly signer: Signer
  readonly kem: KemPrivateKey
}

/** Derives an invite’s keys from its secret. */
export async function inviteKeys(secret: Uint8Array, suite: SuiteId): Promise<InviteKeys> {
  const signer = await signerFromSeed(derive(secret, 'invite-signing', context()))
  const kem = await kemPrivateKeyFromSeed(KEMS[SUITES[suite].kem], derive(secret, 'invite-kem', context(suite)))
  return { id: inviteIdOf(signer.publicKey), signer, kem }
}

/** What an admin decides about an invite. */
export interface InviteOptions {
  readonly role: Role
  readonly mode: InviteMode
  /** Milliseconds since 1970. */
  readonly expiresAt: number
  readonly maxUses: number
}

/** The op that enrols an invite, with its key’s own proof. */
export async function planInvite(
  keys: InviteKeys,
  options: InviteOptions,
  at: { group: GroupId; creator: IdentityId },
): Promise<OpOf<'invite'>> {
  const terms = { signingKey: keys.signer.publicKey, kemKey: keys.kem.publicKey, ...options }
  const proof = asSignature(await keys.signer.sign(inviteProofMessage(at.group, at.creator, terms)))
  return { type: 'invite', ...terms, proof }
}
