/**
 * A group as the app sees it. Keys never appear here; every method checks, retries and heals what the parts below it do.
 */
import { equalBytes } from '../shared/bytes.ts'
import { ClavigerError, hasCode } from '../shared/errors.ts'
import type { InviteMode, Op, Role } from '../shared/group/commit.ts'
import { isLower } from '../shared/group/effects.ts'
import { encodeToken, generateInviteSecret, inviteKeys, planInvite } from '../shared/group/invite.ts'
import type { JoinRequest } from '../shared/group/join-request.ts'
import { verifyJoinRequest } from '../shared/group/join-request.ts'
import type { Roster } from '../shared/group/roster.ts'
import { canWrite, findActive, findMember } from '../shared/group/roster.ts'
import { safetyNumber } from '../shared/group/safety-number.ts'
import { verifyCards } from '../shared/group/card.ts'
import type { GroupId, Head, IdentityId, InviteId, ObjectId } from '../shared/ids.ts'
import { idKey, PROFILE_OBJECT_ID } from '../shared/ids.ts'
import type { Event } from '../shared/protocol/messages.ts'
import { ChangeQueue } from './change-queue.ts'
import type { GroupChange } from './changes.ts'
import { changesOf } from './changes.ts'
import { Committer } from './committer.ts'
import type { Intent } from './committer.ts'
import { Feed } from './feed.ts'
import type { GroupContext, GroupCounters } from './group-context.ts'
import type { Advance, OpenedLog } from './group-log.ts'
import { GroupLog } from './group-log.ts'
import { Keyring } from './keyring.ts'
import { ObjectIndex } from './object-index.ts'
import type { BodySource, PutManyItem, PutOptions, PutReceipt } from './objects.ts'
import { Objects } from './objects.ts'
import { parseDuration } from './duration.ts'
import { GroupObject } from './read-object.ts'
import type { RemovalReceipt, RemoveOptions } from './receipt.ts'
import { RewrapJob } from './rewrap-job.ts'
import type { RewrapOutcome } from './rewrap-job.ts'
import type { Confirmation } from './upkeep.ts'
import { Upkeep } from './upkeep.ts'

/** A member as listed. */
export interface GroupMember {
  readonly id: IdentityId
  readonly role: Role
  readonly state: 'active' | 'left' | 'removed'
  readonly via: InviteId | null
}

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

/** A live invite as listed; whoever holds its token can read while it is open. */
export interface GroupInvite {
  readonly id: InviteId
  readonly role: Role
  readonly mode: InviteMode
  readonly expiresAt: number
  readonly uses: number
  readonly maxUses: number
  readonly creator: IdentityId
}

/** An epoch as listed. */
export interface GroupEpoch {
  readonly epoch: number
  readonly openedBy: number
  readonly isCurrent: boolean
  readonly isHeld: boolean
}

/** All that a group is opened with. */
export interface GroupParts {
  readonly context: Omit<GroupContext, 'emit'>
  readonly opened: OpenedLog
  readonly isAutomatic: boolean
  /** The URL put into tokens. */
  readonly server: string
}

const DEFAULT_INVITE_TTL_MS = 7 * 24 * 60 * 60 * 1000

/** One group this client follows. */
export class Group {
  readonly #context: GroupContext
  readonly #server: string
  readonly #log: GroupLog
  readonly #keyring: Keyring
  readonly #index: ObjectIndex
  readonly #committer: Committer
  readonly #objects: Objects
  readonly #feed: Feed
  readonly #rewrap: RewrapJob
  readonly #upkeep: Upkeep
  readonly #queues = new Set<ChangeQueue>()
  readonly #listeners = new Set<(change: GroupChange) => void>()
  readonly #stopListening: (() => void)[] = []
  #name: string | null = null
  #ready: Promise<void> = Promise.resolve()
  #ended: ClavigerError | null = null

  private constructor(parts: GroupParts, kept: KeptState) {
    this.#context = { ...parts.context, emit: (change) => this.#emit(change) }
    this.#server = parts.server
    this.#log = new GroupLog(this.#context, parts.opened, (advance) => this.#advanced(advance))
    this.#keyring = new Keyring(this.#context, () => this.#log.state.roster, kept.secrets)
    this.#index = new ObjectIndex(this.#context, this.#log, kept)
    this.#committer = new Committer(this.#context, this.#log, this.#keyring)
    const shared = { context: this.#context, log: this.#log, keyring: this.#keyring, index: this.#index, committer: this.#committer }
    this.#objects = new Objects({ ...shared, settle: () => this.#upkeep.settle() })
    this.#feed = new Feed(shared, kept.cursor)
    this.#rewrap = new RewrapJob(shared)
    this.#upkeep = new Upkeep({ ...shared, rewrap: this.#rewrap, isAutomatic: parts.isAutomatic })
  }

  /** Opens a group from what the store has of it, and follows it from now on. */
  static async open(parts: GroupParts): Promise<Group> {
    const { store, connection } = parts.context
    const kept = { secrets: await store.loadSecrets(), headers: await store.loadHeaders(), late: await store.loadLate(), cursor: await store.loadCursor() }
    const group = new Group(parts, kept)
    group.#stopListening.push(connection.on('event', (event) => group.#receive(event)))
    group.#stopListening.push(connection.on('open', () => group.#restart()))
    if (connection.session !== null) group.#restart()
    return group
  }

  // ——— What it is ———

  get id(): GroupId {
    return this.#context.group
  }

  /** The group’s name, if this client has read it. */
  get name(): string | null {
    return this.#name
  }

  get head(): Head {
    return this.#log.state.head
  }

  /** Whether the whole log up to the head has been checked; false for a while after a jump by snapshot. */
  get isVerified(): boolean {
    return this.#log.isVerified
  }

  /** One’s own role, null if one is no longer a member. */
  get role(): Role | null {
    return findActive(this.#roster, this.#context.identity.id)?.role ?? null
  }

  /** What this client did since it started. */
  get counters(): Readonly<GroupCounters> {
    return { ...this.#context.counters }
  }

  /** Everybody who is or was a member. */
  members(): GroupMember[] {
    return this.#roster.members.map(({ id, role, state, via }) => ({ id, role, state, via }))
  }

  /** Live invites. An open one is a reader: whoever holds its token can open the current epoch. */
  invites(): GroupInvite[] {
    return this.#roster.invites.filter(({ state }) => state === 'live').map(({ id, role, mode, expiresAt, uses, maxUses, creator }) => ({ id, role, mode, expiresAt, uses, maxUses, creator }))
  }

  /** Epochs that are not retired, oldest first. */
  epochs(): GroupEpoch[] {
    return this.#roster.epochs.map(({ epoch, seq }) => ({ epoch, openedBy: seq, isCurrent: epoch === this.#roster.epoch, isHeld: this.#keyring.holds(epoch) }))
  }

  get epoch(): number {
    return this.#roster.epoch
  }

  /** Whether a new epoch has to be opened before the next write. */
  get isRekeyOwed(): boolean {
    return this.#roster.rekeyOwed
  }

  get retiredThrough(): number {
    return this.#roster.retiredThrough
  }

  /** The latest signed head of each other member that agrees with this client’s history. */
  lastConfirmed(): readonly Confirmation[] {
    return this.#upkeep.confirmations()
  }

  /** Sixty digits to compare with another member over a channel you trust. */
  async safetyNumber(member: IdentityId): Promise<string> {
    await this.#ready
    const [me, other] = [findMember(this.#roster, this.#context.identity.id), findMember(this.#roster, member)]
    if (me === null || other === null) throw new ClavigerError('not_a_member')
    return safetyNumber(this.id, me, other)
  }

  // ——— Keeping up ———

  /** Resolves when this client has caught up with everything the server has now. @throws ClavigerError why it cannot. */
  async ready(): Promise<void> {
    await this.#context.connection.whenOpen()
    await this.#ready
    if (this.#ended !== null) throw this.#ended
  }

  /** Fetches and applies whatever is new. */
  async sync(): Promise<void> {
    await this.ready()
    await this.#log.sync()
    const { change } = await this.#context.connection.request('log.head', { group: this.id })
    await this.#feed.until(change)
  }

  /** Resolves when the commits a snapshot had skipped have been checked. */
  async verified(): Promise<void> {
    await this.ready()
    await this.#log.verifySkipped()
  }

  /** Calls `listener` for each change. @returns stops that. */
  on(listener: (change: GroupChange) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Changes from now on. */
  changes({ signal }: { signal?: AbortSignal } = {}): AsyncIterableIterator<GroupChange> {
    const queue = new ChangeQueue(() => this.#queues.delete(queue))
    this.#queues.add(queue)
    signal?.addEventListener('abort', () => queue.end(), { once: true })
    if (signal?.aborted === true) queue.end()
    return queue
  }

  // ——— People ———

  /** Makes an invite and returns its token, a secret: whoever holds it can use it. */
  async invite(request: InviteRequest = {}): Promise<string> {
    await this.ready()
    const { identity, now } = this.#context
    const secret = generateInviteSecret()
    const keys = await inviteKeys(secret, this.#roster.suite)
    const { role = 'member', mode = 'open', maxUses = 1, expiresIn = DEFAULT_INVITE_TTL_MS } = request
    const terms = { role, mode, maxUses, expiresAt: Math.floor(now() + parseDuration(expiresIn)) }
    const op = await planInvite(keys, terms, { group: this.id, creator: identity.id })
    const commit = await this.#committer.commit(({ roster }) => (roster.invites.some(({ id }) => equalBytes(id, keys.id)) ? null : { ops: [op], rekey: false }))
    if (commit === null) throw new ClavigerError('internal')
    return encodeToken({ v: 1, server: this.#server, group: this.id, at: { seq: commit.payload.seq, hash: commit.hash }, secret })
  }

  /** Closes an invite. An open one was a reader: a new epoch comes with it. */
  async revokeInvite(invite: InviteId): Promise<void> {
    await this.ready()
    await this.#committer.commit(({ roster }) => {
      const entry = roster.invites.find(({ id }) => equalBytes(id, invite))
      if (entry === undefined) throw new ClavigerError('invite_invalid')
      if (entry.state !== 'live') return null
      return this.#withRekey(roster, [{ type: 'revoke-invite', invite }], entry.mode === 'open')
    })
  }

  /** Requests that wait for an admin, their signatures checked. Compare safety numbers before approving. */
  async joinRequests(): Promise<JoinRequest[]> {
    await this.ready()
    const { requests } = await this.#context.connection.request('join.requests', { group: this.id })
    const valid: JoinRequest[] = []
    for (const bytes of requests) {
      const request = await verifyJoinRequest(this.id, this.#roster, bytes).catch((error: unknown) => {
        if (error instanceof ClavigerError) return null
        throw error
      })
      if (request !== null) valid.push(request)
    }
    return valid
  }

  /** Lets a waiting joiner in. */
  async approve(request: JoinRequest): Promise<void> {
    await this.ready()
    const { identity: joiner } = request.cards
    await this.#committer.commit(({ roster }) => {
      if (findActive(roster, joiner) !== null) return null
      return { ops: [{ type: 'approve', invite: request.invite, request: request.hash, cards: [...request.cards.cards] }], rekey: false }
    })
  }

  /** Adds somebody whose cards you have; also brings back a removed member. */
  async add(cards: readonly Uint8Array[], role: Role = 'member'): Promise<void> {
    await this.ready()
    const { identity } = await verifyCards(cards)
    await this.#committer.commit(({ roster }) => (findActive(roster, identity) === null ? { ops: [{ type: 'add', role, cards: [...cards] }], rekey: false } : null))
  }

  /**
   * Removes members in one commit with a new epoch, closes the doors they may know of, and starts the rewrap.
   *
   * Resolves when they are locked out of everything new; `receipt.finished` when the old epochs are retired too.
   */
  async remove(who: IdentityId | readonly IdentityId[], options: RemoveOptions = {}): Promise<RemovalReceipt> {
    await this.ready()
    const members = who instanceof Uint8Array ? [who] : who
    const before = this.#roster
    const readableObjects = [...this.#index.live()].length
    await this.#committer.commit(({ roster }) => {
      const ops: Op[] = members.filter((member) => findActive(roster, member) !== null).map((member) => ({ type: 'remove', member }))
      if (ops.length === 0) return null
      return this.#withRekey(roster, [...ops, ...closedDoors(roster, members, options.keepInvites ?? [])], true)
    })
    return this.#receipt(members, { before, readableObjects })
  }

  /** Changes a role; taking key access away, or closing invites with it, opens a new epoch. */
  async setRole(member: IdentityId, role: Role): Promise<void> {
    await this.ready()
    await this.#committer.commit(({ roster }) => {
      const current = findActive(roster, member)?.role
      if (current === undefined) throw new ClavigerError('not_a_member')
      if (current === role) return null
      return this.#withRekey(roster, [{ type: 'set-role', member, role }], isLower(role, current))
    })
  }

  /** Leaves the group; the others open a new epoch. */
  async leave(): Promise<void> {
    await this.ready()
    const { id } = this.#context.identity
    await this.#committer.commit(({ roster }) => (findActive(roster, id) === null ? null : { ops: [{ type: 'leave' }], rekey: false }))
    await this.#end(new ClavigerError('not_a_member'))
  }

  /** Opens a new epoch without changing who is in it; also over an epoch that cannot be opened. */
  async rekey(): Promise<void> {
    await this.ready()
    const from = this.#roster.epoch
    await this.#committer.commit(({ roster }) => (roster.epoch > from ? null : this.#withRekey(roster, [], true)))
  }

  /** Rewraps whatever is under old epochs and retires them; joins a job under way. */
  async rewrap(): Promise<RewrapOutcome> {
    await this.ready()
    return this.#rewrap.run()
  }

  /** Takes loose DEKs into pages and drops dead ones. @returns how many DEKs the new pages hold. */
  async compact(): Promise<number> {
    await this.ready()
    return this.#rewrap.compact()
  }

  // ——— Objects ———

  /** Writes a new object, or a new version of `options.id`. */
  async put(body: BodySource, options: PutOptions = {}): Promise<PutReceipt> {
    await this.ready()
    return this.#objects.put(body, options)
  }

  /** Writes many small objects, a thousand in one transaction. */
  async putMany(items: readonly PutManyItem[], options: { signal?: AbortSignal } = {}): Promise<PutReceipt[]> {
    await this.ready()
    return this.#objects.putMany(items, options.signal)
  }

  async get(id: ObjectId): Promise<GroupObject> {
    await this.ready()
    return new GroupObject(await this.#objects.get(id))
  }

  async getMany(ids: readonly ObjectId[]): Promise<GroupObject[]> {
    await this.ready()
    return (await this.#objects.getMany(ids)).map((read) => new GroupObject(read))
  }

  /** Ids of all live objects but the profile. */
  async list(): Promise<ObjectId[]> {
    await this.sync()
    return [...this.#index.live()].map(({ id }) => id).filter((id) => !equalBytes(id, PROFILE_OBJECT_ID))
  }

  /** Deletes an object: a signed tombstone stays. */
  async delete(id: ObjectId, options: { signal?: AbortSignal } = {}): Promise<PutReceipt> {
    await this.ready()
    return this.#objects.delete(id, options.signal)
  }

  /** Renames the group; admins only. */
  async rename(name: string): Promise<void> {
    await this.ready()
    await this.#objects.put(new Uint8Array(0), { id: PROFILE_OBJECT_ID, name })
    this.#name = name
  }

  /** Stops following the group; what is in the store stays. */
  close(): void {
    for (const stop of this.#stopListening) stop()
    this.#upkeep.close()
    for (const queue of this.#queues) queue.end()
    this.#ended ??= new ClavigerError('closed')
  }

  // ——— Inside ———

  get #roster(): Roster {
    return this.#log.state.roster
  }

  #withRekey(roster: Roster, ops: Op[], rekey: boolean): Intent {
    const intent = { ops, rekey }
    return rekey ? this.#upkeep.withExpired(roster, intent) : intent
  }

  #receipt(members: readonly IdentityId[], { before, readableObjects }: { before: Roster; readableObjects: number }): RemovalReceipt {
    const isTheirs = (id: InviteId): boolean => before.invites.some((invite) => equalBytes(invite.id, id) && members.some((member) => equalBytes(member, invite.creator)))
    const wasLive = before.invites.filter(({ state }) => state === 'live').map(({ id }) => id)
    const after = this.#roster
    const isLive = (id: InviteId): boolean => after.invites.some((invite) => equalBytes(invite.id, id) && invite.state === 'live')
    const progress = { done: 0, total: 0 }
    const stop = this.on((change) => {
      if (change.type === 'rewrap-progress') [progress.done, progress.total] = [change.done, change.total]
    })
    const finished = this.#rewrap.run().finally(stop)
    // Whoever does not wait for it learns of a failure through `bad-item`.
    finished.catch((error: unknown) => {
      if (error instanceof ClavigerError) this.#emit({ type: 'bad-item', signer: null, error })
    })
    return {
      members,
      epoch: after.epoch,
      readableObjects,
      revokedInvites: wasLive.filter((id) => !isLive(id)),
      keptInvites: wasLive.filter(isLive),
      cameInThroughTheirInvites: after.members.filter(({ via, state }) => state === 'active' && via !== null && isTheirs(via)).map(({ id }) => id),
      rewrap: progress,
      finished,
    }
  }

  /** A session was opened: catch up, subscribe, and tell where we stand. */
  #restart(): void {
    this.#ready = this.#start()
    // `ready()` throws it to whoever asks; a lost connection is the next session’s business.
    this.#ready.catch((error: unknown) => {
      if (hasCode(error, 'not_a_member', 'unknown_group')) void this.#end(error)
    })
  }

  async #start(): Promise<void> {
    await this.#log.sync()
    await this.#committer.recoverPending()
    await this.#openCurrent()
    await this.#feed.subscribe()
    await this.#readName()
    await this.#upkeep.connected()
    if (!this.#log.isVerified) void this.#log.verifySkipped().catch(() => undefined)
  }

  /** A client that cannot open the current epoch stays readable on its last one and says why. */
  async #openCurrent(): Promise<void> {
    const me = findActive(this.#roster, this.#context.identity.id)
    if (me === null) throw new ClavigerError('not_a_member')
    if (me.role === 'depositor') return
    try {
      await this.#keyring.secretOf(this.#roster.epoch)
    } catch (error) {
      if (!hasCode(error, 'wrap_invalid')) throw error
      this.#emit({ type: 'epoch-unavailable', epoch: this.#roster.epoch, error })
    }
  }

  async #readName(): Promise<void> {
    if (this.#index.get(PROFILE_OBJECT_ID) === null) return
    try {
      this.#name = (await this.#objects.get(PROFILE_OBJECT_ID)).metadata.name ?? null
    } catch (error) {
      if (!(error instanceof ClavigerError) || hasCode(error, 'disconnected', 'closed')) throw error
      this.#emit({ type: 'bad-item', signer: null, error })
    }
  }

  #receive(event: Event): void {
    if (!equalBytes(event.group, this.id)) return
    switch (event.type) {
      case 'feed':
        return this.#feed.receive(event)
      case 'progress':
        return this.#emit({ type: 'rewrap-progress', ...event.progress })
      case 'join-requested':
        return this.#emit({ type: 'join-requested', request: event.request })
      case 'unopenable':
        return this.#emit({ type: 'unopenable', objects: event.deks.map(({ object }) => object) })
      case 'wrap-requested':
        return this.#background(() => this.#upkeep.help(event.epoch, event.recipient))
      case 'signed-head':
        return this.#background(() => this.#upkeep.signedHead(event.head))
      case 'evicted':
        return this.#background(() => this.#evicted())
    }
  }

  /** The server says we are out; only a commit that we have folded makes it so. */
  async #evicted(): Promise<void> {
    await this.#log.sync().catch(() => undefined)
    await this.#end(new ClavigerError('not_a_member'))
  }

  async #advanced({ before, folds, state }: Advance): Promise<void> {
    const { roster } = state
    if (roster.retiredThrough > before.roster.retiredThrough) {
      this.#objects.dropThrough(roster.retiredThrough)
      await this.#keyring.eraseThrough(roster.retiredThrough)
    }
    let previous = before
    for (const fold of folds) {
      for (const change of changesOf(previous, fold)) this.#emit(change)
      previous = fold.state
    }
    if (roster.epoch > before.roster.epoch) this.#upkeep.epochOpened()
    if (folds.some(({ commit }) => commit.payload.ops.some(({ type }) => type === 'leave')) && roster.rekeyOwed) this.#upkeep.rekeyOwed()
    this.#upkeep.invitesChanged()
    if (findActive(roster, this.#context.identity.id) === null) await this.#end(new ClavigerError('not_a_member'))
  }

  #background(task: () => Promise<void>): void {
    task().catch((error: unknown) => {
      if (!(error instanceof ClavigerError) || hasCode(error, 'disconnected', 'timeout', 'closed')) return
      this.#emit({ type: 'bad-item', signer: null, error })
    })
  }

  #emit(change: GroupChange): void {
    for (const queue of this.#queues) queue.push(change)
    for (const listener of this.#listeners) listener(change)
  }

  async #end(error: ClavigerError): Promise<void> {
    if (this.#ended !== null) return
    this.#ended = error
    this.#upkeep.close()
    this.#emit({ type: 'ended', error })
    await Promise.resolve()
  }

  /** Whether this client may write here now. */
  get mayWrite(): boolean {
    const { role } = this
    return role !== null && canWrite(role)
  }
}

interface KeptState {
  readonly secrets: Awaited<ReturnType<GroupContext['store']['loadSecrets']>>
  readonly headers: Awaited<ReturnType<GroupContext['store']['loadHeaders']>>
  readonly late: Awaited<ReturnType<GroupContext['store']['loadLate']>>
  readonly cursor: Awaited<ReturnType<GroupContext['store']['loadCursor']>>
}

/** The open invites that the removed may know of and that the fold does not close by itself. */
function closedDoors(roster: Roster, members: readonly IdentityId[], keep: readonly InviteId[]): Op[] {
  const kept = new Set(keep.map(idKey))
  const doors = new Set(members.flatMap((member) => findMember(roster, member)?.via ?? []).map(idKey))
  const isTheirs = (creator: IdentityId): boolean => members.some((member) => equalBytes(member, creator))
  return roster.invites
    .filter(({ id, state, mode, creator }) => state === 'live' && mode === 'open' && !kept.has(idKey(id)) && !doors.has(idKey(id)) && !isTheirs(creator))
    .map(({ id }) => ({ type: 'revoke-invite', invite: id }))
}
