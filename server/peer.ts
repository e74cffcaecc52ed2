/** Who is at the other end of an open session: what handlers know of it. */
import type { SigningPublicKey } from '../shared/crypto/keys.ts'
import type { SessionBinding } from '../shared/group/invite-proof.ts'
import type { IdentityId, InviteId } from '../shared/ids.ts'
import type { CloseReason } from '../shared/protocol/close-codes.ts'
import type { Event } from '../shared/protocol/messages.ts'
import type { Frame } from './frame.ts'

/** An identity that has signed this session’s nonce. */
export interface VerifiedIdentity {
  readonly identity: IdentityId
  /** Of its newest card. */
  readonly signingKey: SigningPublicKey
  readonly revision: number
}

export interface Peer extends VerifiedIdentity {
  /** What its signatures in this session are bound to. */
  readonly binding: SessionBinding
  /** Invites this session has proven to hold: invite by `idKey` of the group. */
  readonly inviteByGroup: Map<string, InviteId>
  /** Whether durable events may be sent now. */
  readonly live: boolean
  /** Whether the session has ended: nothing may be kept for it any more. */
  readonly closed: boolean
  /** Sends a durable event. */
  send(frame: Frame): void
  /** Sends an event that a slow session may miss. */
  sendPassing(type: Event['type'], frame: Frame): void
  /** Ends the session. */
  close(reason: CloseReason): void
}
