/**
 * What a member’s client does unasked: opens an epoch that is owed, revokes invites that expired, checks and heals wraps and
 * links, signs its head, and (an admin’s) rewraps, retires and compacts. All of it after a random while: one goes first, the
 * others see it done.
 */
import type { ErrorCode } from '../shared/errors.ts'
import { ClavigerError, ERRORS, hasCode } from '../shared/errors.ts'
import type { Op } from '../shared/group/commit.ts'
import type { GroupState } from '../shared/group/fold.ts'
import type { Roster } from '../shared/group/roster.ts'
import { canWrite, findActive, holdsKeys } from '../shared/group/roster.ts'
import { decodeSignedHead, signHead, verifySignedHead } from '../shared/group/signed-head.ts'
import type { KemKeyId } from '../shared/crypto/keys.ts'
import type { Head, IdentityId } from '../shared/ids.ts'
import { idKey } from '../shared/ids.ts'
import { LOOSE_DEKS_BEFORE_COMPACTION, REWRAP_LEASE_MS, SIGNED_HEAD_MS } from '../shared/limits.ts'
import type { Committer, Intent } from './committer.ts'
import { claimedTime } from './committer.ts'
import type { GroupContext } from './group-context.ts'
import type { GroupLog } from './group-log.ts'
import type { Keyring } from './keyring.ts'
import type { RewrapJob } from './rewrap-job.ts'
import { WrapCare } from './wrap-care.ts'

/** How long past its expiry an invite is looked at: by then it has expired by any clock that counts here. */
const EXPIRY_SLACK_MS = 100
/** How long an admin’s client waits at least between two epochs that it opens over unfit ones. */
const REKEY_OVER_MS = 10 * 60 * 1000
/** Changes after which an admin’s client looks whether much is loose. */
const CHANGES_PER_LOOK = LOOSE_DEKS_BEFORE_COMPACTION / 4
/** What the next session, the next head or another member takes care of. */
const PASSING: readonly ErrorCode[] = [
  'disconnected',
  'timeout',
  'closed',
  'group_stopped',
  'gave_up',
  'stale_head',
  'stale_epoch',
  'page_conflict',
  'unverified',
  'not_a_member',
  'wrap_invalid',
  'server_unavailable',
  'server_draining',
  'rate_limited',
]
/** Timers may be this late, and no later than this apart. */
const TIMER_MS_MAX = 60 * 60 * 1000

export interface UpkeepParts {
  readonly context: GroupContext
  readonly log: GroupLog
  readonly keyring: Keyring
  readonly committer: Committer
  readonly rewrap: RewrapJob
  /** Whether this client does background work that nobody asked for. */
  readonly isAutomatic: boolean
}

/** A member’s word on a head, checked. */
export interface Confirmation {
  readonly member: IdentityId
  readonly head: Head
  readonly time: number
}

/** One group’s background work. */
export class Upkeep {
  readonly #parts: UpkeepParts
  readonly #care: WrapCare
  readonly #timers = new Set<ReturnType<typeof setTimeout>>()
  readonly #confirmations = new Map<string, Confirmation>()
  #headTimer: ReturnType<typeof setTimeout> | undefined
  #expiryTimer: ReturnType<typeof setTimeout> | undefined
  #isClosed = false
  /** Changes seen since this client last looked whether there is a job for it. */
  #changes = 0
  #rekeyedAt = Number.NEGATIVE_INFINITY
  #isWaitingForLease = false

  constructor(parts: UpkeepParts) {
    this.#parts = parts
    const { context, log, keyring } = parts
    this.#care = new WrapCare({ context, log, keyring, unfit: (epoch) => this.epochUnfit(epoch) })
  }

  /** The latest signed head of each other member that lies in this client’s history. */
  confirmations(): readonly Confirmation[] {
    const { roster } = this.#parts.log.state
    return [...this.#confirmations.values()].filter(({ member }) => findActive(roster, member) !== null)
  }

  /** A session was opened and the log is in sync. */
  async connected(): Promise<void> {
    await this.#guard(() => this.#exchangeHeads())
    if (this.#holdsKeys()) await this.#guard(() => this.#care.answerRequests())
    this.#later(() => this.#resumeJobs())
    if (this.#parts.log.state.roster.rekeyOwed) this.#later(() => this.settle())
    this.#watchExpiry()
  }

  /** A new epoch is current. */
  epochOpened(): void {
    this.#later(() => this.#care.audit())
    this.#later(() => this.#exchangeHeads())
    this.#later(() => this.#resumeJobs())
    this.#watchExpiry()
  }

  /** Somebody left: what is owed is settled without waiting for a write. */
  rekeyOwed(): void {
    this.#later(() => this.settle())
  }

  /** An epoch is current that its author has made wrong, or that a member cannot be given: an admin’s client opens the next one over it. */
  epochUnfit(epoch: number): void {
    this.#later(() => this.#rekeyOver(epoch))
  }

  /** Objects were written: now and then it is time to see whether much is loose. */
  changed(count: number): void {
    this.#changes += count
    if (this.#changes < CHANGES_PER_LOOK) return
    this.#changes = 0
    this.#later(() => this.#resumeJobs())
  }

  /** The invites changed. */
  invitesChanged(): void {
    this.#watchExpiry()
  }

  /** Opens the epoch that is owed; does nothing once somebody else has. */
  async settle(): Promise<void> {
    // A writer whose log still has a skipped part checks it first: it must not decide who gets the next secret.
    if (!this.#parts.log.isVerified) await this.#parts.log.verifySkipped()
    if (!this.#maySettle()) return
    await this.#parts.committer.commit(({ roster }) => (roster.rekeyOwed ? this.withExpired(roster, { ops: [], rekey: true }) : null))
  }

  /** Adds revocations of invites that have expired by this client’s clock: every rekey is the moment for it. */
  withExpired(roster: Roster, intent: Intent): Intent {
    const named = new Set(intent.ops.flatMap((op) => (op.type === 'revoke-invite' ? [idKey(op.invite)] : [])))
    const revocations = this.#expired(roster).filter((op) => op.type === 'revoke-invite' && !named.has(idKey(op.invite)))
    // They come first: a removal closes the invites of the removed by itself, and what is closed cannot be revoked.
    return { ...intent, ops: [...revocations, ...intent.ops] }
  }

  close(): void {
    this.#isClosed = true
    for (const timer of this.#timers) clearTimeout(timer)
    clearTimeout(this.#headTimer)
    clearTimeout(this.#expiryTimer)
  }

  /** Takes another member’s signed head. */
  async signedHead(bytes: Uint8Array): Promise<void> {
    const { context, log } = this.#parts
    const signed = decodeSignedHead(bytes)
    if (idKey(signed.member) === idKey(context.identity.id)) return
    try {
      if (signed.at.seq > log.state.head.seq) await log.sync()
      await verifySignedHead(context.group, log.state.roster, signed)
      await log.assertContains(signed.at)
      const known = this.#confirmations.get(idKey(signed.member))
      if (known === undefined || known.head.seq <= signed.at.seq) {
        this.#confirmations.set(idKey(signed.member), { member: signed.member, head: signed.at, time: signed.time })
      }
    } catch (error) {
      // The word of somebody who is out, or not yet in, says nothing about this history.
      if (hasCode(error, 'not_a_member')) return
      if (!hasCode(error, 'bad_head', 'invalid_signature', 'malformed')) throw error
      context.emit({ type: 'bad-item', signer: signed.member, error })
    }
  }

  /** Wraps the current epoch for a recipient who found no good wrap. */
  help(epoch: number, recipient: KemKeyId): Promise<void> {
    return this.#care.help(epoch, recipient)
  }

  // ——— Settling and expiry ———

  #maySettle(): boolean {
    const { context, log } = this.#parts
    const me = findActive(log.state.roster, context.identity.id)
    return me !== null && canWrite(me.role) && log.isVerified
  }

  #holdsKeys(): boolean {
    const { context, log } = this.#parts
    const me = findActive(log.state.roster, context.identity.id)
    return me !== null && holdsKeys(me.role)
  }

  #expired(roster: Roster): Op[] {
    const { context } = this.#parts
    const time = claimedTime(context.now(), context.connection.serverTime())
    return roster.invites
      .filter((invite) => invite.state === 'live' && invite.expiresAt < time)
      .map((invite) => ({ type: 'revoke-invite', invite: invite.id }))
  }

  /** Revokes at their time the invites that expire unused. */
  #watchExpiry(): void {
    clearTimeout(this.#expiryTimer)
    const { context, log, isAutomatic } = this.#parts
    const expiries = log.state.roster.invites.filter(({ state }) => state === 'live').map(({ expiresAt }) => expiresAt)
    if (!isAutomatic || this.#isClosed || expiries.length === 0 || !this.#maySettle()) return
    const time = claimedTime(context.now(), context.connection.serverTime())
    const wait = Math.min(Math.max(Math.min(...expiries) - time, 0) + EXPIRY_SLACK_MS + this.#jitter(), TIMER_MS_MAX)
    this.#expiryTimer = setTimeout(() => void this.#guard(() => this.#revokeExpired()).finally(() => this.#watchExpiry()), wait)
  }

  async #revokeExpired(): Promise<void> {
    await this.#parts.committer.commit(({ roster }) => {
      const ops = this.#expired(roster)
      const hadWraps = roster.invites.some(
        (invite) => invite.mode === 'open' && ops.some((op) => op.type === 'revoke-invite' && idKey(op.invite) === idKey(invite.id)),
      )
      return ops.length === 0 ? null : { ops, rekey: hadWraps || roster.rekeyOwed }
    })
  }

  /** Once in a while at most: whoever spoils epochs on purpose has to be removed, which is for people to decide. */
  async #rekeyOver(epoch: number): Promise<void> {
    const { context, log, committer } = this.#parts
    const isAdmin = findActive(log.state.roster, context.identity.id)?.role === 'admin'
    if (!isAdmin || !log.isVerified || context.now() - this.#rekeyedAt < REKEY_OVER_MS) return
    const commit = await committer.commit(({ roster }) =>
      roster.epoch > epoch ? null : this.withExpired(roster, { ops: [], rekey: true }),
    )
    if (commit !== null) this.#rekeyedAt = context.now()
  }

  // ——— Heads ———

  async #exchangeHeads(): Promise<void> {
    const { context, log } = this.#parts
    const { group, identity, connection } = context
    const head = await signHead(identity.signer, { group, member: identity.id, at: log.state.head, time: Math.floor(context.now()) })
    await connection.request('head.sign', { group, head })
    const { heads } = await connection.request('head.list', { group })
    for (const bytes of heads) await this.signedHead(bytes)
    clearTimeout(this.#headTimer)
    if (!this.#isClosed) this.#headTimer = setTimeout(() => void this.#guard(() => this.#exchangeHeads()), SIGNED_HEAD_MS)
  }

  // ——— Jobs ———

  /** Goes on with a rewrap that nobody finished, or compacts, if this is an admin’s client and nobody else is at it. */
  async #resumeJobs(): Promise<void> {
    const { context, log, rewrap } = this.#parts
    if (findActive(log.state.roster, context.identity.id)?.role !== 'admin' || !log.isVerified) return
    const status = await context.connection.request('rewrap.status', { group: context.group })
    const isOld = status.oldPages > 0 || status.oldLoose > 0 || log.state.roster.retiredThrough < log.state.roster.epoch - 1
    const isLoose = status.loose > LOOSE_DEKS_BEFORE_COMPACTION || status.deadInPages * 10 > status.pages * 256
    if (!isOld && !isLoose) return
    const { leased } = await context.connection.request('rewrap.start', { group: context.group, epoch: status.epoch })
    if (!leased) this.#awaitLease()
    else if (isOld) await rewrap.run()
    else await rewrap.compact()
  }

  /** Somebody is at it. Asking counts what is sealed where: once a lease is often enough. */
  #awaitLease(): void {
    if (this.#isWaitingForLease) return
    this.#isWaitingForLease = true
    this.#later(() => {
      this.#isWaitingForLease = false
      return this.#resumeJobs()
    }, REWRAP_LEASE_MS)
  }

  // ——— Timing ———

  #jitter(): number {
    return this.#parts.context.random() * this.#parts.context.jitterMs
  }

  /** Runs a task after a random while, if background work is on. */
  #later(task: () => Promise<void>, afterMs = 0): void {
    if (!this.#parts.isAutomatic || this.#isClosed) return
    const timer = setTimeout(() => {
      this.#timers.delete(timer)
      void this.#guard(task)
    }, afterMs + this.#jitter())
    this.#timers.add(timer)
  }

  /** Background work that fails is told, never thrown at nobody. */
  async #guard(task: () => Promise<void>): Promise<void> {
    const { state } = this.#parts.log
    try {
      if (!this.#isClosed) await task()
    } catch (error) {
      await this.tell(error, state)
    }
  }

  /**
   * Tells why work failed that was begun at a state; not what passes by itself, nor what a server refuses because the group
   * has moved on since.
   */
  async tell(error: unknown, since: GroupState): Promise<void> {
    const isPassing = hasCode(error, ...PASSING)
    if (isPassing || this.#isClosed) return
    const known = error instanceof ClavigerError ? error : new ClavigerError('internal', 'background work failed', { cause: error })
    if (ERRORS[known.code].wire && known === error && (await this.#hasMovedOn(since))) return
    this.#parts.context.emit({ type: 'bad-item', signer: null, error: known })
  }

  async #hasMovedOn(since: GroupState): Promise<boolean> {
    const { log } = this.#parts
    try {
      await log.sync()
      return this.#isClosed || log.state !== since
    } catch {
      // Out of the group, or out of reach: what the server refused cannot be judged any more.
      return true
    }
  }
}
