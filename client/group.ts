/**
 * A group as the app sees it. Keys never appear here; every method checks, retries and heals what the parts below it do.
 */
import { equalBytes } from '../shared/bytes.ts'
import { ClavigerError } from '../shared/errors.ts'
import type { InviteMode, Role } from '../shared/group/commit.ts'
import type { JoinRequest } from '../shared/group/join-request.ts'
import { canWrite, findActive, findMember } from '../shared/group/roster.ts'
import { safetyNumber, safetyParty } from '../shared/group/safety-number.ts'
import type { GroupId, Head, IdentityId, InviteId, ObjectId } from '../shared/ids.ts'
import { PROFILE_OBJECT_ID } from '../shared/ids.ts'
import type { GroupChange } from './changes.ts'
import type { GroupCounters } from './group-context.ts'
import type { GroupParts } from './group-runtime.ts'
import { GroupRuntime } from './group-runtime.ts'
import type { InviteRequest } from './membership.ts'
import { Membership } from './membership.ts'
import { withPatience } from './patience.ts'
import type { BodySource, PutOptions, PutReceipt } from './object-writer.ts'
import type { PutManyItem } from './objects.ts'
import { GroupObject } from './read-object.ts'
import type { RemovalReceipt, RemoveOptions } from './receipt.ts'
import type { RewrapOutcome } from './rewrap-job.ts'
import type { Confirmation } from './upkeep.ts'

/** A member as listed. */
export interface GroupMember {
  readonly id: IdentityId
  readonly role: Role
  readonly state: 'active' | 'left' | 'removed'
  /** The invite they came in through, if any. */
  readonly via: InviteId | null
}

/** A live invite as listed; whoever holds its token can read while it is open. */
export interface GroupInvite {
  readonly id: InviteId
  readonly role: Role
  readonly mode: InviteMode
  /** Milliseconds since 1970. */
  readonly expiresAt: number
  readonly uses: number
  readonly maxUses: number
  readonly creator: IdentityId
}

/** An epoch as listed. */
export interface GroupEpoch {
  readonly epoch: number
  /** The commit that opened it. */
  readonly openedBy: number
  readonly isCurrent: boolean
  /** Whether this client has its secret at hand. */
  readonly isHeld: boolean
}

/** What long operations take. */
export interface Cancellable {
  readonly signal?: AbortSignal
}

/** One group this client follows. */
export class Group {
  readonly #runtime: GroupRuntime
  readonly #membership: Membership

  private constructor(runtime: GroupRuntime) {
    this.#runtime = runtime
    this.#membership = new Membership(runtime)
  }

  /** Opens a group from what the store has of it, and follows it from now on. */
  static async open(parts: GroupParts): Promise<Group> {
    return new Group(await GroupRuntime.open(parts))
  }

  // ——— What it is ———

  get id(): GroupId {
    return this.#runtime.id
  }

  /** The group’s name, if this client has read it. */
  get name(): string | null {
    return this.#runtime.name
  }

  get head(): Head {
    return this.#runtime.log.state.head
  }

  /** Whether the whole log up to the head has been checked; false for a while after a jump by snapshot. */
  get isVerified(): boolean {
    return this.#runtime.log.isVerified
  }

  /** One’s own role, null if one is no longer a member. */
  get role(): Role | null {
    return findActive(this.#runtime.roster, this.#runtime.context.identity.id)?.role ?? null
  }

  /** Whether this client may write here now. */
  get mayWrite(): boolean {
    const { role } = this
    return role !== null && canWrite(role)
  }

  /** Why this client no longer follows the group, or null. */
  get ended(): ClavigerError | null {
    return this.#runtime.ended
  }

  /** What this client did since it started. */
  get counters(): Readonly<GroupCounters> {
    return { ...this.#runtime.context.counters }
  }

  get epoch(): number {
    return this.#runtime.roster.epoch
  }

  /** The newest retired epoch, −1 if none is. */
  get retiredThrough(): number {
    return this.#runtime.roster.retiredThrough
  }

  /** Whether a new epoch has to be opened before the next write. */
  get isRekeyOwed(): boolean {
    return this.#runtime.roster.rekeyOwed
  }

  /** Everybody who is or was a member. */
  members(): GroupMember[] {
    return this.#runtime.roster.members.map(({ id, role, state, via }) => ({ id, role, state, via }))
  }

  /** Live invites. An open one is a reader: whoever holds its token can open the current epoch. */
  invites(): GroupInvite[] {
    const live = this.#runtime.roster.invites.filter(({ state }) => state === 'live')
    return live.map(({ id, role, mode, expiresAt, uses, maxUses, creator }) => ({ id, role, mode, expiresAt, uses, maxUses, creator }))
  }

  /** Epochs that are not retired, oldest first. */
  epochs(): GroupEpoch[] {
    const { roster, keyring } = this.#runtime
    return roster.epochs.map(({ epoch, seq }) => ({
      epoch,
      openedBy: seq,
      isCurrent: epoch === roster.epoch,
      isHeld: keyring.holds(epoch),
    }))
  }

  /** The latest signed head of each other member that agrees with this client’s history. */
  lastConfirmed(): readonly Confirmation[] {
    return this.#runtime.upkeep.confirmations()
  }

  /** Sixty digits to compare, over a channel you trust, with another member or with somebody whose request waits. */
  async safetyNumber(other: IdentityId | JoinRequest): Promise<string> {
    await this.ready()
    const { roster, context } = this.#runtime
    const me = findMember(roster, context.identity.id)
    const party = other instanceof Uint8Array ? findMember(roster, other) : safetyParty(other.cards)
    if (me === null || party === null) throw new ClavigerError('not_a_member')
    return safetyNumber(this.id, me, party)
  }

  // ——— Keeping up ———

  /** Resolves when this client has caught up in the current session, or the next. @throws ClavigerError why it cannot. */
  ready(options: Cancellable = {}): Promise<void> {
    return this.#runtime.ready(options)
  }

  /** Fetches and applies whatever is new. */
  async sync(options: Cancellable = {}): Promise<void> {
    const { log, feed, context } = this.#runtime
    const catchUp = async (): Promise<void> => {
      await this.ready(options)
      await log.sync()
      await feed.catchUp(options)
    }
    await withPatience(context, catchUp, options.signal)
  }

  /** Resolves when the commits a snapshot had skipped have been checked. */
  async verified(options: Cancellable = {}): Promise<void> {
    await this.ready(options)
    await this.#runtime.log.verifySkipped()
  }

  /** Calls `listener` for each change. @returns stops that. */
  on(listener: (change: GroupChange) => void): () => void {
    return this.#runtime.on(listener)
  }

  /** Changes from now on. */
  changes(options: Cancellable = {}): AsyncIterableIterator<GroupChange> {
    return this.#runtime.changes(options)
  }

  /** Stops following the group; what is in the store stays. */
  close(): void {
    this.#runtime.close()
  }

  /** Stops following the group and erases what the store has of it: see `Claviger.forget`. */
  async forget(): Promise<void> {
    this.#runtime.close()
    await this.#runtime.context.store.erase()
  }

  // ——— People ———

  /** Makes an invite and returns its token, a secret: whoever holds it can use it. */
  invite(request: InviteRequest = {}): Promise<string> {
    return this.#membership.invite(request)
  }

  /** Closes an invite. An open one was a reader: a new epoch comes with it. */
  revokeInvite(invite: InviteId): Promise<void> {
    return this.#membership.revokeInvite(invite)
  }

  /** Requests that wait for an admin, their signatures checked. Compare safety numbers before approving. */
  joinRequests(): Promise<JoinRequest[]> {
    return this.#membership.joinRequests()
  }

  /** Lets a waiting joiner in. */
  approve(request: JoinRequest): Promise<void> {
    return this.#membership.approve(request)
  }

  /** Adds somebody whose cards you have; also brings back a removed member. */
  add(cards: readonly Uint8Array[], role: Role = 'member'): Promise<void> {
    return this.#membership.add(cards, role)
  }

  /**
   * Removes members in one commit with a new epoch, closes the doors they may know of, and starts the rewrap.
   *
   * Resolves when they are locked out of everything new; `receipt.finished` when the old epochs are retired too.
   */
  remove(who: IdentityId | readonly IdentityId[], options: RemoveOptions = {}): Promise<RemovalReceipt> {
    return this.#membership.remove(who, options)
  }

  /**
   * Changes a role; taking something away opens a new epoch and closes the invites of whoever loses it, taking the keys
   * away also closes the other open ones, as a removal does.
   */
  setRole(member: IdentityId, role: Role, options: RemoveOptions = {}): Promise<void> {
    return this.#membership.setRole(member, role, options)
  }

  /** Leaves the group; the others open a new epoch. */
  leave(): Promise<void> {
    return this.#membership.leave()
  }

  /** Opens a new epoch without changing who is in it; also over an epoch that cannot be opened. */
  rekey(): Promise<void> {
    return this.#membership.rekey()
  }

  /** Rewraps whatever is under old epochs and retires them; joins a job under way. */
  async rewrap(): Promise<RewrapOutcome> {
    await this.ready()
    return this.#runtime.rewrap.run()
  }

  /** Takes loose DEKs into pages and drops dead ones. @returns how many DEKs the new pages hold. */
  async compact(): Promise<number> {
    await this.ready()
    return this.#runtime.rewrap.compact()
  }

  // ——— Objects ———

  /** Writes a new object, or a new version of `options.id`. */
  async put(body: BodySource, options: PutOptions = {}): Promise<PutReceipt> {
    await this.ready(options.signal === undefined ? {} : { signal: options.signal })
    return this.#runtime.objects.put(body, options)
  }

  /** Writes many small objects, a thousand in one transaction. */
  async putMany(items: readonly PutManyItem[], options: Cancellable = {}): Promise<PutReceipt[]> {
    await this.ready(options)
    return this.#runtime.objects.putMany(items, options.signal)
  }

  async get(id: ObjectId, options: Cancellable = {}): Promise<GroupObject> {
    await this.ready(options)
    return new GroupObject(await this.#runtime.objects.get(id))
  }

  /** Reads many objects, a thousand in one request. */
  async getMany(ids: readonly ObjectId[], options: Cancellable = {}): Promise<GroupObject[]> {
    await this.ready(options)
    return (await this.#runtime.objects.getMany(ids)).map((read) => new GroupObject(read))
  }

  /** Ids of all live objects but the group’s own profile; names are sealed and come with `getMany`. */
  async list(options: Cancellable = {}): Promise<ObjectId[]> {
    await this.sync(options)
    return [...this.#runtime.index.live()].map(({ id }) => id).filter((id) => !equalBytes(id, PROFILE_OBJECT_ID))
  }

  /** Deletes an object: a signed tombstone stays. */
  async delete(id: ObjectId, options: Cancellable = {}): Promise<PutReceipt> {
    await this.ready(options)
    return this.#runtime.objects.delete(id, options.signal)
  }

  /** Renames the group; admins only. */
  async rename(name: string): Promise<void> {
    await this.ready()
    await this.#runtime.objects.put(new Uint8Array(0), { id: PROFILE_OBJECT_ID, name })
    this.#runtime.name = name
  }
}
