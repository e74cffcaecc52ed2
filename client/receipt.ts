/** What a removal did, and how far the work that follows it has come. */
import type { IdentityId, InviteId } from '../shared/ids.ts'
import type { RewrapOutcome } from './rewrap-job.ts'

export interface RemovalReceipt {
  readonly members: readonly IdentityId[]
  /** The epoch that the removal opened: nothing sealed under it or later opens for the removed. */
  readonly epoch: number
  /** Objects the removed could have read, by this client’s index at the time. */
  readonly readableObjects: number
  /** Invites that the removal closed: those the removed created or came in through, and the other open ones. */
  readonly revokedInvites: readonly InviteId[]
  /** Open invites kept because the caller said so. */
  readonly keptInvites: readonly InviteId[]
  /** Members who came in through invites of the removed: look at them. */
  readonly cameInThroughTheirInvites: readonly IdentityId[]
  /** Live progress of the rewrap. */
  readonly rewrap: { readonly done: number; readonly total: number }
  /** Resolves when nothing is sealed under an epoch the removed had and those epochs are retired. */
  readonly finished: Promise<RewrapOutcome>
}

/** How to remove, or to take the keys away. */
export interface RemoveOptions {
  /** Open invites that stay open: by default all are closed, as whoever goes may have seen their tokens. */
  readonly keepInvites?: readonly InviteId[]
}
