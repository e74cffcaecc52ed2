/**
 * What a member’s client does unasked: opens an epoch that is owed, revokes invites that expired, checks and heals wraps and
 * links, signs its head, and (an admin’s) rewraps, retires and compacts. All of it after a random while: one goes first, the
 * others see it done.
 */
import { equalBytes } from '../shared/bytes.ts'
import type { ErrorCode } from '../shared/errors.ts'
import { ClavigerError, ERRORS, hasCode } from '../shared/errors.ts'
import type { Op } from '../shared/group/commit.ts'
import { isGoodWrap, sealLink, wrapAlone } from '../shared/group/epoch.ts'
import type { GroupState } from '../shared/group/fold.ts'
import type { Recipient, Roster } from '../shared/group/roster.ts'
import { canWrite, currentEpoch, findActive, holdsKeys, recipients } from '../shared/group/roster.ts'
import { decodeSignedHead, signHead, verifySignedHead } from '../shared/group/signed-head.ts'
import type { KemKeyId } from '../shared/crypto/keys.ts'
import { kemKeyId } from '../shared/crypto/keys.ts'
import type { Head, IdentityId } from '../shared/ids.ts'
import { idKey } from '../shared/ids.ts'
import { LOOSE_DEKS_BEFORE_COMPACTION, REWRAP_LEASE_MS, SIGNED_HEAD_MS } from '../shared/limits.ts'
import type { Committer, Intent } from './committer.ts'
import { claimedTime } from './committer.ts'
import type { GroupContext } from './group-context.ts'
import type { GroupLog } from './group-log.ts'
import type { Keyring } from './keyring.ts'
import { epochContext } from './keyring.ts'
import type { RewrapJob } from './rewrap-job.ts'

/** Members whose wraps each client checks on a new epoch, besides all open invites. */
const AUDITED_MEMBERS = 8
/** How long past its expiry an invite is looked at: by then it has expired by any clock that counts here. */
const EXPIRY_SLACK_MS = 100
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
  readonly #timers = new Set<ReturnType<typeof setTimeout>>()
  readonly #confirmations = new Map<string, Confirmation>()
  #headTimer: ReturnType<typeof setTimeout> | undefined
  #expiryTimer: ReturnType<typeof setTimeout> | undefined
  #isClosed = false
  /** Changes seen since this client last looked whether there is a job for it. */
  #changes = 0
  #isWaitingForLease = false

  constructor(parts: UpkeepParts) {
    this.#parts = parts
  }

  /** The latest signed head of each other member that lies in this client’s history. */
  confirmations(): readonly Confirmation[] {
    const { roster } = this.#parts.log.state
    return [...this.#confirmations.values()].filter(({ member }) => findActive(roster, member) !== null)
  }

  /** A session was opened and the log is in sync. */
  async connected(): Promise<void> {
    await this.#guard(() => this.#exchangeHeads())
    if (this.#holdsKeys()) await this.#guard(() => this.#answerRequests())
    this.#later(() => this.#resumeJobs())
    if (this.#parts.log.state.roster.rekeyOwed) this.#later(() => this.settle())
    this.#watchExpiry()
  }

  /** A new epoch is current. */
  epochOpened(): void {
    this.#later(() => this.#audit())
    this.#later(() => this.#exchangeHeads())
    this.#later(() => this.#resumeJobs())
    this.#watchExpiry()
  }

  /** Somebody left: what is owed is settled without waiting for a write. */
  rekeyOwed(): void {
    this.#later(() => this.settle())
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
      if (!hasCode(error, 'bad_head', 'not_a_member', 'invalid_signature', 'malformed')) throw error
      context.emit({ type: 'bad-item', signer: signed.member, error })
    }
  }

  /** Wraps the current epoch for a recipient who found no good wrap. */
  async help(epoch: number, recipient: KemKeyId): Promise<void> {
    const { context, log, keyring } = this.#parts
    // A roster that came from a snapshot may name recipients that nobody has admitted.
    if (!log.isVerified) return
    log.assertRunning()
    const { roster } = log.state
    const needy = recipients(roster).find(({ kemKeyId }) => idKey(kemKeyId) === idKey(recipient))
    if (needy === undefined || epoch !== roster.epoch || (await keyring.tryCurrent()) === null) return
    await this.#heal(epoch, needy)
    context.emit({ type: 'healed', epoch, wraps: 1 })
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
    return roster.invites.filter((invite) => invite.state === 'live' && invite.expiresAt < time).map((invite) => ({ type: 'revoke-invite', invite: invite.id }))
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
      const hadWraps = roster.invites.some((invite) => invite.mode === 'open' && ops.some((op) => op.type === 'revoke-invite' && idKey(op.invite) === idKey(invite.id)))
      return ops.length === 0 ? null : { ops, rekey: hadWraps || roster.rekeyOwed }
    })
  }

  // ——— Wraps and links ———

  /** Checks the wraps of open invites and of a few random members, and heals the bad ones: nobody notices until it is needed. */
  async #audit(): Promise<void> {
    const { context, log, keyring } = this.#parts
    if (!log.isVerified || !this.#holdsKeys()) return
    const { roster } = log.state
    const { epoch } = currentEpoch(roster)
    const secret = await keyring.secretOf(epoch)
    await this.#offerLinks(epoch)
    const audited = this.#sample(roster)
    const at = epochContext(context.group, roster, epoch)
    const { enc, wraps } = await context.connection.request('wrap.read', { group: context.group, epoch, recipients: audited.map(({ kemKeyId }) => kemKeyId) })
    let healed = 0
    for (const [position, recipient] of audited.entries()) {
      const offered = wraps[position] ?? []
      const verdicts = await Promise.all(offered.map((wrap) => isGoodWrap(secret, at, { recipient, stored: { enc, wrap } })))
      if (verdicts.some(Boolean)) continue
      await this.#heal(epoch, recipient)
      healed += 1
    }
    if (healed > 0) context.emit({ type: 'healed', epoch, wraps: healed })
  }

  #sample(roster: Roster): Recipient[] {
    const everybody = recipients(roster)
    const invites = new Set(roster.invites.map(({ id }) => idKey(id)))
    const isInvite = ({ principal }: Recipient): boolean => invites.has(idKey(principal))
    const members = everybody.filter((recipient) => !isInvite(recipient))
    const picked = members.map((member) => ({ member, order: this.#parts.context.random() })).toSorted((left, right) => left.order - right.order)
    return [...everybody.filter(isInvite), ...picked.slice(0, AUDITED_MEMBERS).map(({ member }) => member)]
  }

  async #heal(epoch: number, recipient: Recipient): Promise<void> {
    const { context, log, keyring } = this.#parts
    const wrap = await wrapAlone(await keyring.secretOf(epoch), epochContext(context.group, log.state.roster, epoch), recipient)
    await context.connection.request('wrap.offer', { group: context.group, epoch, recipient: recipient.kemKeyId, wrap })
  }

  /** Supplies links to what this client holds and no link leads to: skipped epochs, garbage that a commit named, links that are gone. */
  async #offerLinks(epoch: number): Promise<void> {
    const { context, log, keyring } = this.#parts
    const { group, connection, identity } = context
    const held = log.state.roster.epochs.map((entry) => entry.epoch).filter((older) => older < epoch && keyring.holds(older))
    const [oldest] = held
    if (oldest === undefined) return
    const { links } = await connection.request('epoch.read', { group, epoch, recipient: kemKeyId(identity.kem.publicKey), downTo: oldest })
    const reached = await this.#reachedBy(links, epoch)
    for (const to of held.filter((older) => !reached.has(older))) {
      const link = sealLink(await keyring.secretOf(epoch), await keyring.secretOf(to), { group, epoch, to })
      await connection.request('link.offer', { group, epoch, to, link })
    }
  }

  /** The epochs that good links lead to. Every holder of two epochs makes the same link between them. */
  async #reachedBy(links: readonly { epoch: number; to: number; link: Uint8Array }[], from: number): Promise<ReadonlySet<number>> {
    const { context, keyring } = this.#parts
    const reached = new Set([from])
    for (const { epoch, to, link } of links.toSorted((left, right) => right.epoch - left.epoch)) {
      if (!reached.has(epoch) || reached.has(to) || !keyring.holds(epoch) || !keyring.holds(to)) continue
      const good = sealLink(await keyring.secretOf(epoch), await keyring.secretOf(to), { group: context.group, epoch, to })
      if (equalBytes(link, good)) reached.add(to)
    }
    return reached
  }

  async #answerRequests(): Promise<void> {
    const { context } = this.#parts
    const { epoch, recipients: waiting } = await context.connection.request('wrap.requests', { group: context.group })
    for (const recipient of waiting) await this.help(epoch, recipient)
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
