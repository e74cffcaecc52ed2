/**
 * Who is in a group: inviting, approving, adding, removing, roles, leaving; each one signed commit.
 */
import { equalBytes } from '../shared/bytes.ts'
import { ClavigerError, hasCode } from '../shared/errors.ts'
import { verifyCards } from '../shared/group/card.ts'
import type { InviteMode, Op, Role } from '../shared/group/commit.ts'
import { isLower } from '../shared/group/effects.ts'
import { encodeToken, generateInviteSecret, inviteKeys, planInvite } from '../shared/group/invite.ts'
import type { JoinRequest } from '../shared/group/join-request.ts'
import { verifyJoinRequest } from '../shared/group/join-request.ts'
import type { Roster } from '../shared/group/roster.ts'
import { findActive, findMember, holdsKeys } from '../shared/group/roster.ts'
import type { IdentityId, InviteId } from '../shared/ids.ts'
import { idKey } from '../shared/ids.ts'
import type { Intent } from './committer.ts'
import { parseDuration } from './duration.ts'
import type { GroupRuntime } from './group-runtime.ts'
import type { RemovalReceipt, RemoveOptions } from './receipt.ts'

/** How to invite. */
export interface InviteRequest {
  readonly role?: Exclude<Role, 'admin'>
  /** `open`: whoever holds the token joins, with nobody online. `approve`: an admin confirms each joiner. */
  readonly mode?: InviteMode
  /** Such as `7d`, `12h`, `30m`, or milliseconds. */
  readonly expiresIn?: string | number
  /** Default 1. */
  readonly maxUses?: number
}

const DEFAULT_INVITE_TTL_MS = 7 * 24 * 60 * 60 * 1000

/** One group’s membership, changed by this client. */
export class Membership {
  readonly #runtime: GroupRuntime

  constructor(runtime: GroupRuntime) {
    this.#runtime = runtime
  }

  /** Makes an invite and returns its token, a secret: whoever holds it can use it. */
  async invite(request: InviteRequest = {}): Promise<string> {
    await this.#runtime.ready()
    const { identity, now } = this.#runtime.context
    const secret = generateInviteSecret()
    const keys = await inviteKeys(secret, this.#runtime.roster.suite)
    const { role = 'member', mode = 'open', maxUses = 1, expiresIn = DEFAULT_INVITE_TTL_MS } = request
    const terms = { role, mode, maxUses, expiresAt: Math.floor(now() + parseDuration(expiresIn)) }
    const op = await planInvite(keys, terms, { group: this.#runtime.id, creator: identity.id })
    const commit = await this.#runtime.committer.commit(({ roster }) =>
      roster.invites.some(({ id }) => equalBytes(id, keys.id)) ? null : { ops: [op], rekey: false },
    )
    if (commit === null) throw new ClavigerError('internal')
    return encodeToken({
      v: 1,
      server: this.#runtime.server,
      group: this.#runtime.id,
      at: { seq: commit.payload.seq, hash: commit.hash },
      secret,
    })
  }

  /** Closes an invite. An open one was a reader: a new epoch comes with it. */
  async revokeInvite(invite: InviteId): Promise<void> {
    await this.#runtime.ready()
    await this.#runtime.committer.commit(({ roster }) => {
      const entry = roster.invites.find(({ id }) => equalBytes(id, invite))
      if (entry === undefined) throw new ClavigerError('invite_invalid')
      if (entry.state !== 'live') return null
      return this.#withRekey(roster, [{ type: 'revoke-invite', invite }], entry.mode === 'open')
    })
  }

  /** Requests that wait for an admin, their signatures checked. Compare safety numbers before approving. */
  async joinRequests(): Promise<JoinRequest[]> {
    await this.#runtime.ready()
    const { requests } = await this.#runtime.context.connection.request('join.requests', { group: this.#runtime.id })
    const valid: JoinRequest[] = []
    for (const bytes of requests) {
      const request = await verifyJoinRequest(this.#runtime.id, this.#runtime.roster, bytes).catch((error: unknown) => {
        if (error instanceof ClavigerError) return null
        throw error
      })
      if (request !== null) valid.push(request)
    }
    return valid
  }

  /** Lets a waiting joiner in. */
  async approve(request: JoinRequest): Promise<void> {
    await this.#runtime.ready()
    const { identity: joiner } = request.cards
    await this.#runtime.committer.commit(({ roster }) => {
      if (findActive(roster, joiner) !== null) return null
      return { ops: [{ type: 'approve', invite: request.invite, request: request.hash, cards: [...request.cards.cards] }], rekey: false }
    })
  }

  /** Adds somebody whose cards you have; also brings back a removed member. */
  async add(cards: readonly Uint8Array[], role: Role = 'member'): Promise<void> {
    await this.#runtime.ready()
    const { identity } = await verifyCards(cards)
    await this.#runtime.committer.commit(({ roster }) =>
      findActive(roster, identity) === null ? { ops: [{ type: 'add', role, cards: [...cards] }], rekey: false } : null,
    )
  }

  /**
   * Removes members in one commit with a new epoch, closes the doors they may know of, and starts the rewrap. Also those who
   * have left, so that no token brings them back; to remove whom is removed already is done without a commit.
   *
   * Resolves when they are locked out of everything new; `receipt.finished` when the old epochs are retired too.
   */
  async remove(who: IdentityId | readonly IdentityId[], options: RemoveOptions = {}): Promise<RemovalReceipt> {
    await this.#runtime.ready()
    const members = who instanceof Uint8Array ? [who] : who
    const before = this.#runtime.roster
    const readableObjects = [...this.#runtime.index.live()].length
    await this.#runtime.committer.commit(({ roster }) => {
      // Also of somebody who is out already: the work that follows is an admin’s.
      if (findActive(roster, this.#runtime.context.identity.id)?.role !== 'admin') throw new ClavigerError('not_authorised')
      const ops: Op[] = members
        .filter((member) => findMember(roster, member)?.state !== 'removed')
        .map((member) => ({ type: 'remove', member }))
      if (ops.length === 0) return null
      return this.#withRekey(roster, [...ops, ...closedDoors(roster, members, options.keepInvites ?? [])], true)
    })
    return this.#receipt(members, { before, readableObjects })
  }

  /** Changes a role; taking key access away, or closing invites with it, opens a new epoch. */
  async setRole(member: IdentityId, role: Role, options: RemoveOptions = {}): Promise<void> {
    await this.#runtime.ready()
    await this.#runtime.committer.commit(({ roster }) => {
      const current = findActive(roster, member)?.role
      if (current === undefined) throw new ClavigerError('not_a_member')
      if (current === role) return null
      // Whoever loses the keys may have seen tokens that would go on giving them.
      const doors = holdsKeys(current) && !holdsKeys(role) ? closedDoors(roster, [member], options.keepInvites ?? []) : []
      return this.#withRekey(roster, [{ type: 'set-role', member, role }, ...doors], isLower(role, current))
    })
  }

  /** Leaves the group; the others open a new epoch. */
  async leave(): Promise<void> {
    await this.#runtime.ready()
    const { id } = this.#runtime.context.identity
    try {
      await this.#runtime.committer.commit(({ roster }) =>
        findActive(roster, id) === null ? null : { ops: [{ type: 'leave' }], rekey: false },
      )
    } catch (error) {
      // The answer to an earlier try was lost: we are out.
      if (!hasCode(error, 'not_a_member')) throw error
    }
    this.#runtime.end(new ClavigerError('not_a_member'))
  }

  /** Opens a new epoch without changing who is in it; also over an epoch that cannot be opened. */
  async rekey(): Promise<void> {
    await this.#runtime.ready()
    const from = this.#runtime.roster.epoch
    await this.#runtime.committer.commit(({ roster }) => (roster.epoch > from ? null : this.#withRekey(roster, [], true)))
  }

  #withRekey(roster: Roster, ops: Op[], rekey: boolean): Intent {
    const intent = { ops, rekey }
    return rekey ? this.#runtime.upkeep.withExpired(roster, intent) : intent
  }

  #receipt(members: readonly IdentityId[], { before, readableObjects }: { before: Roster; readableObjects: number }): RemovalReceipt {
    const isTheirs = (id: InviteId): boolean =>
      before.invites.some((invite) => equalBytes(invite.id, id) && members.some((member) => equalBytes(member, invite.creator)))
    const wasLive = before.invites.filter(({ state }) => state === 'live').map(({ id }) => id)
    const after = this.#runtime.roster
    const isLive = (id: InviteId): boolean => after.invites.some((invite) => equalBytes(invite.id, id) && invite.state === 'live')
    const progress = { done: 0, total: 0 }
    const stop = this.#runtime.on((change) => {
      if (change.type === 'rewrap-progress') [progress.done, progress.total] = [change.done, change.total]
    })
    const finished = this.#runtime.rewrap.run().finally(stop)
    // Whoever does not wait for it learns of a failure through `bad-item`.
    const { state } = this.#runtime.log
    finished.catch((error: unknown) => void this.#runtime.upkeep.tell(error, state))
    return {
      members,
      epoch: after.epoch,
      readableObjects,
      revokedInvites: wasLive.filter((id) => !isLive(id)),
      keptInvites: wasLive.filter(isLive),
      cameInThroughTheirInvites: after.members
        .filter(({ via, state }) => state === 'active' && via !== null && isTheirs(via))
        .map(({ id }) => id),
      rewrap: progress,
      finished,
    }
  }
}

/** The open invites that those who lose the keys may know of and that the fold does not close by itself. */
function closedDoors(roster: Roster, members: readonly IdentityId[], keep: readonly InviteId[]): Op[] {
  const kept = new Set(keep.map(idKey))
  const doors = new Set(members.flatMap((member) => findMember(roster, member)?.via ?? []).map(idKey))
  const isTheirs = (creator: IdentityId): boolean => members.some((member) => equalBytes(member, creator))
  return roster.invites
    .filter(
      ({ id, state, mode, creator }) =>
        state === 'live' && mode === 'open' && !kept.has(idKey(id)) && !doors.has(idKey(id)) && !isTheirs(creator),
    )
    .map(({ id }) => ({ type: 'revoke-invite', invite: id }))
}
