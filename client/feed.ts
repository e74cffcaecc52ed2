/**
 * The feed of one group: everything that changed after the cursor, in the server’s order, applied one batch at a time.
 */
import { ClavigerError, hasCode } from '../shared/errors.ts'
import { decodeCommit } from '../shared/group/commit.ts'
import { findActive, holdsKeys } from '../shared/group/roster.ts'
import { isTombstone } from '../shared/objects/header.ts'
import type { SignedHeader } from '../shared/objects/header.ts'
import type { FeedEvent, FeedItem } from '../shared/protocol/messages.ts'
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
  /** Changes up to here were made before this session subscribed: catching up. */
  #caughtUpAt = 0
  #epochAtSubscription = 0
  #waiting: { change: number; resolve: () => void; reject: (error: ClavigerError) => void }[] = []
  #closed: ClavigerError | null = null
  /** Batches that could not be judged, in a row. */
  #failures = 0
  #retryTimer: ReturnType<typeof setTimeout> | undefined

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
    const { head, roster } = log.state
    const { change } = await context.connection.request('feed.subscribe', { group: context.group, cursor: this.#cursor.change, seq: head.seq })
    // Both at once: a batch that is judged between them would take what is old for backdated.
    this.#caughtUpAt = change
    this.#epochAtSubscription = roster.epoch
    const isAgain = this.#isMuted && this.#hasMissed
    this.#isMuted = false
    this.#hasMissed = false
    if (isAgain) return this.subscribe()
    await this.until(change)
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
    return new Promise((resolve, reject) => this.#waiting.push({ change, resolve, reject }))
  }

  /** Nothing more comes: whoever waits is told why. */
  close(error: ClavigerError): void {
    this.#closed ??= error
    clearTimeout(this.#retryTimer)
    for (const { reject } of this.#waiting.splice(0)) reject(error)
  }

  /** Applies a batch after those before it. */
  receive(event: FeedEvent): void {
    const era = this.#era
    if (this.#isMuted) this.#hasMissed = true
    else {
      this.#serial.run(() => this.#apply(event, era)).then(
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
      if (item.kind === 'header') {
        headers.push({ envelope: item.header, epochFloor: this.#floor(item, epoch) })
        continue
      }
      await this.#keep(headers, { change: this.#cursor.change, epoch }, era)
      headers = []
      epoch = Math.max(epoch, decodeCommit(item.commit).payload.epoch)
      await this.#parts.log.receive(item.commit)
    }
    await this.#keep(headers, { change: to, epoch: to >= this.#caughtUpAt ? Math.max(epoch, this.#epochAtSubscription) : epoch }, era)
  }

  /** Nothing this client is shown live can be of an epoch before the one it had accepted by then. */
  #floor({ change }: FeedItem, epoch: number): number {
    return change <= this.#caughtUpAt ? epoch : Math.max(epoch, this.#epochAtSubscription)
  }

  async #keep(headers: readonly { envelope: Uint8Array; epochFloor: number }[], cursor: Cursor, era: number): Promise<void> {
    const moves = era === this.#era
    const seesObjects = moves && this.#seesObjects()
    const news = await this.#parts.index.acceptFeed(headers, seesObjects ? cursor : null)
    for (const signed of news) this.#announce(signed)
    if (!moves) return
    this.#cursor = cursor
    if (seesObjects) this.#objectsCursor = cursor
    const reached = this.#waiting.filter(({ change }) => change <= cursor.change)
    this.#waiting = this.#waiting.filter(({ change }) => change > cursor.change)
    for (const { resolve } of reached) resolve()
  }

  #seesObjects(): boolean {
    const { context, log } = this.#parts
    const me = findActive(log.state.roster, context.identity.id)
    return me !== null && holdsKeys(me.role)
  }

  #announce({ header }: SignedHeader): void {
    const { object, version, author } = header
    this.#parts.context.emit(isTombstone(header) ? { type: 'object-deleted', object, author } : { type: 'object-changed', object, version, author })
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
