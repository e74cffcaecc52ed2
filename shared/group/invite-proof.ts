/**
 * What an invite’s key signs: its own enrolment, and its session with a server.
 */
import { concat } from '../bytes.ts'
import { encodeCanonical } from '../codec.ts'
import type { SigningPublicKey } from '../crypto/keys.ts'
import { labelled } from '../crypto/labels.ts'
import { hashLabelled } from '../crypto/public-crypto.ts'
import type { GroupId, IdentityId, InviteId } from '../ids.ts'
import { asInviteId } from '../ids.ts'
import type { OpOf } from './commit.ts'

/** The id of the invite with this signing key. */
export function inviteIdOf(signingKey: SigningPublicKey): InviteId {
  return asInviteId(hashLabelled('invite-id', signingKey))
}

/** The terms of an invite that its own key vouches for. */
export type InviteTerms = Omit<OpOf<'invite'>, 'type' | 'proof'>

/** What an invite’s key signs at enrolment: so nobody can enrol the key of somebody else. */
export function inviteProofMessage(group: GroupId, creator: IdentityId, terms: InviteTerms): Uint8Array {
  const { signingKey, kemKey, role, mode, expiresAt, maxUses } = terms
  return concat(labelled('invite-proof'), encodeCanonical([group, creator, signingKey, kemKey, role, mode, expiresAt, maxUses]))
}

/** One session: the server’s nonce and the host the client dialled, so that a server in the middle cannot pass it on. */
export interface SessionBinding {
  readonly nonce: Uint8Array
  readonly host: string
}

/** What an invite’s key signs to read the log and its wrap. */
export function inviteSessionMessage({ nonce, host }: SessionBinding, group: GroupId, invite: InviteId): Uint8Array {
  return concat(labelled('authenticate-invite'), encodeCanonical([nonce, host, group, invite]))
}
