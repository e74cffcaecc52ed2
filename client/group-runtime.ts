/**
 * The running parts of one group: log, keyring, index, objects, feed and background work, wired together and kept in step
 * with the connection.
 */
import { equalBytes } from '../shared/bytes.ts'
import { ClavigerError, hasCode } from '../shared/errors.ts'
import { decodeCommit } from '../shared/group/commit.ts'
import type { Roster } from '../shared/group/roster.ts'
import { findActive, findMember, holdsKeys } from '../shared/group/roster.ts'
import type { GroupId } from '../shared/ids.ts'
import { PROFILE_OBJECT_ID } from '../shared/ids.ts'
import type { Event } from '../shared/protocol/messages.ts'
import { ChangeQueue } from './change-queue.ts'
import type { GroupChange } from './changes.ts'
import { changesOf } from './changes.ts'
import { Committer } from './committer.ts'
import { DekOpener } from './dek-opener.ts'
import { Feed } from './feed.ts'
import type { GroupContext } from './group-context.ts'
import type { Advance, OpenedLog } from './group-log.ts'
import { GroupLog } from './group-log.ts'
import { Keyring } from './keyring.ts'
import { Listeners } from './listeners.ts'
import type { KeptState } from './group-store.ts'
import { ObjectIndex } from './object-index.ts'
import { Objects } from './objects.ts'
import { Patience } from './patience.ts'
import { Retry } from './retry.ts'
import { RewrapJob } from './rewrap-job.ts'
import { Upkeep } from './upkeep.ts'

/** All that a group is opened with. */
export interface GroupParts {
  readonly context: Omit<GroupContext, 'emit'>
  readonly opened: OpenedLog
  readonly isAutomatic: boolean
  /** The URL put into tokens. */
  readonly server: string
  /** What an operation does without a connection. */
  readonly whenOffline: 'wait' | 'refuse'
}

/** How long a client that could not catch up waits before it tries again unasked, in ms. */
const RESTART_MS = 1000

/** One group, from opening to close. */
export class GroupRuntime {
  readonly context: GroupContext
  readonly server: string
  readonly log: GroupLog
  readonly keyring: Keyring
  readonly index: ObjectIndex
  readonly committer: Committer
  readonly objects: Objects
  readonly feed: Feed
  readonly rewrap: RewrapJob
  readonly upkeep: Upkeep
  readonly #deks: DekOpener
  readonly #whenOffline: GroupParts['whenOffline']
  readonly #queues = new Set<ChangeQueue>()
  readonly #listeners = new Listeners<{ readonly change: GroupChange }>()
  readonly #stopListening: (() => void)[] = []
  #name: string | null = null
  #ready: Promise<void> = Promise.resolve()
  #restartTimer: ReturnType<typeof setTimeout> | undefined
  readonly #verifying: Retry
  readonly #waitingForWrap: Retry
  #ended: ClavigerError | null = null

  private constructor(parts: GroupParts, kept: KeptState) {
    this.context = { ...parts.context, emit: (change) => this.#told(change) }
    const { random } = parts.context
    this.#verifying = new Retry({ random, task: () => this.#verifySkipped() })
    this.#waitingForWrap = new Retry({ random, task: () => this.#lookForWrap() })
    this.server = parts.server
    this.#whenOffline = parts.whenOffline
    this.log = new GroupLog(this.context, parts.opened, (advance) => this.#advanced(advance))
    this.keyring = new Keyring(this.context, () => this.log.state.roster, kept.secrets)
    this.index = new ObjectIndex(this.context, this.log, kept)
    const acknowledged = (at: Parameters<Feed['barrier']>[0]): void => this.feed.barrier(at)
    this.committer = new Committer({ context: this.context, log: this.log, keyring: this.keyring, acknowledged })
    const shared = { context: this.context, log: this.log, keyring: this.keyring, index: this.index, committer: this.committer }
    this.#deks = new DekOpener(shared)
    const settle = (): Promise<void> => this.upkeep.settle()
    this.objects = new Objects({ ...shared, deks: this.#deks, settle })
    this.feed = new Feed(shared, kept.cursor)
    this.rewrap = new RewrapJob({ ...shared, deks: this.#deks, settle })
    this.upkeep = new Upkeep({ ...shared, rewrap: this.rewrap, isAutomatic: parts.isAutomatic })
  }

  /** Opens a group from what the store has of it, and follows it from now on. */
  static async open(parts: GroupParts): Promise<GroupRuntime> {
    const { store, connection } = parts.context
    const runtime = new GroupRuntime(parts, await store.loadKept())
    const { stopped } = runtime.log
    if (stopped !== null) {
      runtime.#stop(stopped)
      return runtime
    }
    runtime.#stopListening.push(connection.on('event', (event) => runtime.#receive(event)))
    runtime.#stopListening.push(connection.on('open', () => runtime.#restart()))
    if (connection.session !== null) runtime.#restart()
    return runtime
  }

  get id(): GroupId {
    return this.context.group
  }

  get name(): string | null {
    return this.#name
  }

  set name(name: string | null) {
    if (this.#name === name) return
    this.#name = name
    this.#emit({ type: 'renamed' })
  }

  get roster(): Roster {
    return this.log.state.roster
  }

  /** Why this client no longer follows the group, or null. */
  get ended(): ClavigerError | null {
    return this.#ended
  }

  /** Resolves when this client has caught up in the current session, or the next. @throws ClavigerError why it cannot. */
  async ready({ signal }: { signal?: AbortSignal | undefined } = {}): Promise<void> {
    const { connection } = this.context
    const patience = new Patience(this.context, signal)
    for (;;) {
      const ended: ClavigerError | null = this.#ended
      if (ended !== null) throw ended
      if (this.#whenOffline === 'refuse' && connection.session === null) throw new ClavigerError('disconnected')
      await connection.whenOpen(signal === undefined ? {} : { signal })
      const ready = this.#ready
      try {
        await ready
        break
      } catch (error) {
        await patience.outlast(error)
        // A new session has started over by itself; otherwise whoever asks first does.
        if (this.#ready === ready) this.#restart()
      }
    }
    const ended: ClavigerError | null = this.#ended
    if (ended !== null) throw ended
  }

  on(listener: (change: GroupChange) => void): () => void {
    return this.#listeners.on('change', listener)
  }

  changes({ signal }: { signal?: AbortSignal | undefined } = {}): AsyncIterableIterator<GroupChange> {
    const queue = new ChangeQueue(() => this.#queues.delete(queue))
    this.#queues.add(queue)
    signal?.addEventListener('abort', () => queue.end(), { once: true })
    if (signal?.aborted === true) queue.end()
    return queue
  }

  /** Stops following; what is in the store stays. */
  close(): void {
    this.end(new ClavigerError('closed'))
  }

  /** Ends following for a reason that everybody who watches is told. */
  end(error: ClavigerError): void {
    this.#end(error, error)
  }

  /** The log has been forked or rolled back: those who watch get the evidence, whoever asks later what it led to. */
  #stop(error: ClavigerError): void {
    this.#end(new ClavigerError('group_stopped', undefined, { cause: error, data: error.data }), error)
  }

  #end(reason: ClavigerError, error: ClavigerError): void {
    if (this.#ended !== null) return
    this.#ended = reason
    for (const stop of this.#stopListening) stop()
    clearTimeout(this.#restartTimer)
    this.#verifying.stop()
    this.#waitingForWrap.stop()
    this.upkeep.close()
    this.feed.close(reason)
    this.#emit({ type: 'ended', error })
    for (const queue of this.#queues) queue.end()
  }

  // ——— Sessions ———

  /** A session was opened: catch up, subscribe, and tell where we stand. */
  #restart(): void {
    clearTimeout(this.#restartTimer)
    const ready = this.#start()
    this.#ready = ready
    // `ready()` throws it to whoever asks; a lost connection is the next session’s business.
    ready.catch((error: unknown) => {
      if (hasCode(error, 'not_a_member', 'unknown_group')) this.end(error)
      else if (error instanceof ClavigerError && error.retry && this.#ready === ready && this.#ended === null) {
        this.#restartTimer = setTimeout(() => this.#restart(), RESTART_MS)
      }
      if (hasCode(error, 'unknown_group')) this.#background(() => this.#eraseUnborn())
    })
  }

  /** What is left of a join or a creation that never came about. */
  async #eraseUnborn(): Promise<void> {
    const { store, identity } = this.context
    const pending = await store.loadPending()
    const isGenesis = pending !== null && decodeCommit(pending.commit).payload.seq === 0
    if (isGenesis || findMember(this.roster, identity.id) === null) await store.erase()
  }

  async #start(): Promise<void> {
    await this.log.sync()
    // A crash between a retirement and its erasing must not leave the secrets behind.
    await this.keyring.eraseThrough(this.roster.retiredThrough)
    await this.committer.recoverPending()
    await this.#openCurrent()
    await this.feed.subscribe()
    await this.#readName()
    await this.upkeep.connected()
    this.#verify()
  }

  /** What a snapshot has skipped is checked in the background, until it has been or has turned out to be a fork. */
  #verify(): void {
    if (!this.log.isVerified) this.#verifying.start()
  }

  async #verifySkipped(): Promise<boolean> {
    await this.log.verifySkipped()
    return true
  }

  /** Help comes without a word: whoever waits for a wrap looks for it now and then. */
  async #lookForWrap(): Promise<boolean> {
    const me = findActive(this.roster, this.context.identity.id)
    if (me === null || !holdsKeys(me.role)) return true
    if ((await this.keyring.tryCurrent()) === null) return false
    this.#emit({ type: 'epoch-available', epoch: this.roster.epoch })
    return true
  }

  /** A client that cannot open the current epoch stays readable on its last one; its keyring says why. */
  async #openCurrent(): Promise<void> {
    const me = findActive(this.roster, this.context.identity.id)
    if (me === null) throw new ClavigerError('not_a_member')
    if (!holdsKeys(me.role)) return
    try {
      await this.keyring.secretOf(this.roster.epoch)
    } catch (error) {
      if (!hasCode(error, 'wrap_invalid', 'stale_epoch')) throw error
    }
  }

  async #readName(): Promise<void> {
    if (this.index.get(PROFILE_OBJECT_ID) === null) return
    try {
      this.name = (await this.objects.get(PROFILE_OBJECT_ID)).metadata.name ?? null
    } catch (error) {
      if (!(error instanceof ClavigerError) || hasCode(error, 'disconnected', 'closed')) throw error
      this.#emit({ type: 'bad-item', signer: null, error })
    }
  }

  #receive(event: Event): void {
    if (!equalBytes(event.group, this.id)) return
    switch (event.type) {
      case 'feed':
        this.upkeep.changed(event.to - event.from)
        return this.feed.receive(event)
      case 'progress':
        return this.#emit({ type: 'rewrap-progress', ...event.progress })
      case 'join-requested':
        return this.#emit({ type: 'join-requested', request: event.request })
      case 'unopenable':
        return this.#emit({ type: 'unopenable', objects: event.deks.map(({ object }) => object) })
      case 'wrap-requested':
        return this.#background(() => this.upkeep.help(event.epoch, event.recipient))
      case 'signed-head':
        return this.#background(() => this.upkeep.signedHead(event.head))
      case 'evicted':
        return this.#background(() => this.#evicted())
    }
  }

  /** The server no longer sends us anything: it says why when it is asked, or we are let in again. */
  async #evicted(): Promise<void> {
    try {
      await this.log.sync()
    } catch (error) {
      if (!hasCode(error, 'not_a_member', 'unknown_group')) throw error
      return this.end(error)
    }
    if (findActive(this.roster, this.context.identity.id) === null) this.end(new ClavigerError('not_a_member'))
    else await this.feed.subscribe()
  }

  async #advanced({ before, folds, state }: Advance): Promise<void> {
    const { roster } = state
    if (roster.retiredThrough > before.roster.retiredThrough) {
      this.#deks.dropThrough(roster.retiredThrough)
      await this.keyring.eraseThrough(roster.retiredThrough)
    }
    if (folds.length === 0) this.#verify()
    let previous = before
    for (const fold of folds) {
      for (const change of changesOf(previous, fold)) this.#emit(change)
      previous = fold.state
    }
    if (roster.epoch > before.roster.epoch) {
      this.upkeep.epochOpened()
      this.#background(() => this.feed.epochAccepted(roster.epoch))
    }
    if (folds.some(({ commit }) => commit.payload.ops.some(({ type }) => type === 'leave')) && roster.rekeyOwed) this.upkeep.rekeyOwed()
    this.upkeep.invitesChanged()
    const [was, is] = [before.roster, roster].map((at) => findActive(at, this.context.identity.id)?.role)
    // The next commit may bring this client back: whether it is out is seen at the head.
    if (is === undefined) this.#background(() => this.#evicted())
    else if (was !== undefined && !holdsKeys(was) && holdsKeys(is)) this.#background(() => this.feed.readObjects())
  }

  #background(task: () => Promise<void>): void {
    const { state } = this.log
    task().catch((error: unknown) => void this.upkeep.tell(error, state))
  }

  /** What the parts of the group tell. */
  #told(change: GroupChange): void {
    if (change.type === 'ended') return this.#stop(change.error)
    this.#emit(change)
    if (change.type === 'epoch-unavailable') this.#waitingForWrap.start()
    if (change.type !== 'bad-item' || change.error.code !== 'rekey_invalid') return
    const { epoch } = change.error.data
    if (typeof epoch === 'number') this.upkeep.epochUnfit(epoch)
  }

  #emit(change: GroupChange): void {
    if (change.type === 'object-changed' && equalBytes(change.object, PROFILE_OBJECT_ID)) this.#background(() => this.#readName())
    for (const queue of this.#queues) queue.push(change)
    this.#listeners.emit('change', change)
  }
}
