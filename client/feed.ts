/**
 * The feed of one group: everything that changed after the cursor, in the server’s order, applied one batch at a time.
 */
import { ClavigerError, hasCode } from '../shared/errors.ts'
import { decodeCommit } from '../shared/group/commit.ts'
import { findActive, holdsKeys } from '../shared/group/roster.ts'
import type { Head } from '../shared/ids.ts'
import { isTombstone } from '../shared/objects/header.ts'
import type { SignedHeader } from '../shared/objects/header.ts'
import type { FeedEvent } from '../shared/protocol/messages.ts'
import { retryDelayMs } from './backoff.ts'
import type { GroupContext } from './group-context.ts'
import type { GroupLog } from './group-log.ts'
import type { Cursor } from './group-store.ts'
import type { ObjectIndex } from './object-index.ts'
import { Serial } from './serial.ts'

export interface FeedParts {
  readonly context: GroupContext
  readonly log: GroupLog
  readonly index: ObjectIndex
}

/** Where the server’s count of changes stood at some moment: a feed that comes after it must show what had been accepted by then. */
interface Barrier {
  readonly change: number
  /** What comes later is of at least this epoch. */
  readonly epoch: number
  /** Commits up to here have been shown by then. */
  readonly seq: number
}

/** How far a group’s log and feed have come. */
interface Place {
  readonly head: Head
  readonly change: number
}

/** How long somebody waits for changes that do not come before they are asked for again. */
const ASK_AGAIN_MS = 1000

/** One group’s feed. */
export class Feed {
  readonly #parts: FeedParts
  readonly #serial = new Serial()
  #cursor: Cursor
  /** How far objects were shown: somebody without keys sees commits only. */
  #objectsCursor: Cursor
  /** Goes up when the cursor is set back: what was sent before that does not move it on. */
  #era = 0
  #isMuted = false
  /** Something came while muted: perhaps of the subscription that is just being answered. */
  #hasMissed = false
  /** Those that the feed has not reached: changes before one were made before it, however late they are shown. */
  #barriers: Barrier[] = []
  /** Commits up to here have been shown, or were left out because this client had them. */
  #seq = 0
  #isSubscribed = false
  #waiting: { change: number; resolve: () => void; reject: (error: ClavigerError) => void }[] = []
  #closed: ClavigerError | null = null
  /** Batches that could not be judged, in a row. */
  #failures = 0
  #retryTimer: ReturnType<typeof setTimeout> | undefined
  #askTimer: ReturnType<typeof setTimeout> | undefined

  constructor(parts: FeedParts, cursor: Cursor) {
    this.#parts = parts
    this.#cursor = cursor
    this.#objectsCursor = cursor
  }

  /** How far the feed has been applied. */
  get change(): number {
    return this.#cursor.change
  }

  /** Subscribes after the cursor; the log must be in sync. Resolves once what was missed has been applied. */
  async subscribe(): Promise<void> {
    const { context, log } = this.#parts
    const [{ head, roster }, cursor] = [log.state, this.#cursor.change]
    this.#seq = Math.max(this.#seq, head.seq)
    const told = await context.connection.request('feed.subscribe', { group: context.group, cursor, seq: head.seq })
    // At once: what comes with the answer or after it is judged by it.
    this.barrier({ change: told.change, epoch: roster.epoch, seq: head.seq })
    this.#isSubscribed = true
    await this.#assertNotBehind(told, { head, change: cursor })
    const isAgain = this.#isMuted && this.#hasMissed
    this.#isMuted = false
    this.#hasMissed = false
    if (isAgain) return this.subscribe()
    await this.until(told.change)
  }

  /** Asks how far the server has come, and resolves once all of that has been applied. */
  async catchUp(options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    await this.until(await this.#ask(options))
  }

  /**
   * The log has accepted an epoch: what the server has not counted by now must belong to it, also if the feed never shows the
   * commit that opened it.
   */
  async epochAccepted(epoch: number): Promise<void> {
    // What the feed itself is just showing needs no asking.
    await this.#serial.run(() => Promise.resolve())
    const ahead = Math.max(this.#cursor.epoch, ...this.#barriers.map((barrier) => barrier.epoch))
    if (this.#isSubscribed && ahead < epoch) await this.#ask()
  }

  /** Notes where the server’s count stood when something had been accepted. */
  barrier(barrier: Barrier): void {
    this.#barriers.push(barrier)
    this.#pass(this.#cursor)
  }

  async #ask(options: { readonly signal?: AbortSignal } = {}): Promise<number> {
    const { context, log } = this.#parts
    const [{ head, roster }, { change }] = [log.state, this.#cursor]
    const told = await context.connection.request('log.head', { group: context.group }, options)
    this.barrier({ change: told.change, epoch: roster.epoch, seq: head.seq })
    await this.#assertNotBehind(told, { head, change })
    return told.change
  }

  /** A server that merely restarts never counts anew. */
  async #assertNotBehind({ head, change }: Place, asked: Place): Promise<void> {
    const { log } = this.#parts
    await log.judgeHead(head, asked.head)
    if (change >= asked.change) return
    const data = { accepted: asked.head, acceptedChange: asked.change, offered: head, offeredChange: change }
    await log.stop(new ClavigerError('rollback', 'the server’s count of changes went back', { data }))
  }

  /** Reads again from where objects were last shown: this client has been given keys. */
  async readObjects(): Promise<void> {
    this.#era += 1
    this.#cursor = this.#objectsCursor
    this.#isMuted = true
    await this.subscribe()
  }

  /** Resolves once everything up to `change` has been applied. @throws ClavigerError why the feed was closed. */
  until(change: number): Promise<void> {
    if (this.#closed !== null) return Promise.reject(this.#closed)
    if (this.#cursor.change >= change) return Promise.resolve()
    this.#askAgainLater()
    return new Promise((resolve, reject) => this.#waiting.push({ change, resolve, reject }))
  }

  /** A batch that does not come is asked for again, as long as somebody waits and nothing moves. */
  #askAgainLater(): void {
    if (this.#askTimer !== undefined) return
    const { change } = this.#cursor
    this.#askTimer = setTimeout(() => {
      this.#askTimer = undefined
      if (this.#waiting.length === 0) return
      this.#askAgainLater()
      // Its own wait joins those that are waiting already.
      if (this.#cursor.change === change && this.#parts.context.connection.session !== null)
        this.subscribe().catch((error: unknown) => this.#failed(error))
    }, ASK_AGAIN_MS)
  }

  /** Nothing more comes: whoever waits is told why. */
  close(error: ClavigerError): void {
    this.#closed ??= error
    clearTimeout(this.#retryTimer)
    clearTimeout(this.#askTimer)
    for (const { reject } of this.#waiting.splice(0)) reject(error)
  }

  /** Applies a batch after those before it. */
  receive(event: FeedEvent): void {
    const era = this.#era
    if (this.#isMuted) this.#hasMissed = true
    else {
      this.#serial
        .run(() => this.#apply(event, era))
        .then(
          () => (this.#failures = 0),
          (error: unknown) => this.#failed(error),
        )
    }
  }

  async #apply({ from, to, items }: FeedEvent, era: number): Promise<void> {
    if (era !== this.#era || to <= this.#cursor.change) return
    if (from > this.#cursor.change) {
      // A gap: ask again from the cursor. Not awaited here, because what it waits for comes through this queue.
      this.subscribe().catch((error: unknown) => this.#failed(error))
      return
    }
    let epoch = this.#cursor.epoch
    let headers: { envelope: Uint8Array; epochFloor: number }[] = []
    for (const item of items) {
      if (item.change <= this.#cursor.change) continue
      epoch = this.#epochAt(item.change - 1, epoch)
      if (item.kind === 'header') {
        headers.push({ envelope: item.header, epochFloor: epoch })
        continue
      }
      await this.#keep(headers, { change: this.#cursor.change, epoch: this.#cursor.epoch }, era)
      headers = []
      epoch = Math.max(epoch, await this.#receiveCommit(item.commit))
    }
    await this.#keep(headers, { change: to, epoch: this.#epochAt(to, epoch) }, era)
  }

  /** The epoch that everything after `change` is at least of. */
  #epochAt(change: number, epoch: number): number {
    return Math.max(epoch, ...this.#barriers.filter((barrier) => barrier.change <= change).map((barrier) => barrier.epoch))
  }

  /** @returns the epoch of the commit. */
  async #receiveCommit(bytes: Uint8Array): Promise<number> {
    const { seq, epoch } = decodeCommit(bytes).payload
    await this.#parts.log.receive(bytes)
    if (seq > this.#seq + 1) this.#reportWithheld(this.#seq + 1)
    this.#seq = Math.max(this.#seq, seq)
    return epoch
  }

  async #keep(headers: readonly { envelope: Uint8Array; epochFloor: number }[], cursor: Cursor, era: number): Promise<void> {
    const moves = era === this.#era
    const seesObjects = moves && this.#seesObjects()
    const news = await this.#parts.index.acceptFeed(headers, seesObjects ? cursor : null)
    for (const signed of news) this.#announce(signed)
    if (!moves) return
    this.#cursor = cursor
    if (seesObjects) this.#objectsCursor = cursor
    this.#pass(cursor)
    const reached = this.#waiting.filter(({ change }) => change <= cursor.change)
    this.#waiting = this.#waiting.filter(({ change }) => change > cursor.change)
    for (const { resolve } of reached) resolve()
  }

  /** Where the feed is past a barrier it must have shown the commits that had been accepted by then. */
  #pass({ change, epoch }: Cursor): void {
    const seq = Math.max(this.#seq, ...this.#barriers.filter((barrier) => barrier.change <= change).map((barrier) => barrier.seq))
    if (seq > this.#seq) this.#reportWithheld(this.#seq + 1)
    this.#seq = seq
    this.#barriers = this.#barriers.filter((barrier) => barrier.change > change || barrier.epoch > epoch)
  }

  /** The log has the commit all the same; what was shown instead of it was judged by it wherever this client knew of it. */
  #reportWithheld(seq: number): void {
    this.#report(new ClavigerError('withheld', 'the feed leaves out a commit', { data: { seq } }))
  }

  #seesObjects(): boolean {
    const { context, log } = this.#parts
    const me = findActive(log.state.roster, context.identity.id)
    return me !== null && holdsKeys(me.role)
  }

  #announce({ header }: SignedHeader): void {
    const { object, version, author } = header
    this.#parts.context.emit(
      isTombstone(header) ? { type: 'object-deleted', object, author } : { type: 'object-changed', object, version, author },
    )
  }

  /** What could not be judged is asked for again: in the next session, or a little later in this one. */
  #failed(error: unknown): void {
    if (hasCode(error, 'disconnected', 'closed', 'group_stopped') || this.#closed !== null) return
    if (hasCode(error, 'timeout', 'server_unavailable', 'server_draining', 'rate_limited')) this.#tryAgain()
    else this.#report(error)
  }

  #tryAgain(): void {
    this.#failures += 1
    clearTimeout(this.#retryTimer)
    const again = (): void => void this.subscribe().catch((error: unknown) => this.#failed(error))
    this.#retryTimer = setTimeout(again, retryDelayMs(this.#failures, this.#parts.context.random))
  }

  #report(error: unknown): void {
    const known = error instanceof ClavigerError ? error : new ClavigerError('internal', 'applying the feed failed', { cause: error })
    this.#parts.context.emit({ type: 'bad-item', signer: null, error: known })
  }
}
