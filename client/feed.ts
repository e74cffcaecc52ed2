/**
 * The feed of one group: everything that changed after the cursor, in the server’s order, applied one batch at a time.
 */
import { ClavigerError, hasCode } from '../shared/errors.ts'
import { decodeCommit } from '../shared/group/commit.ts'
import { isTombstone } from '../shared/objects/header.ts'
import type { SignedHeader } from '../shared/objects/header.ts'
import type { FeedEvent, FeedItem } from '../shared/protocol/messages.ts'
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
  /** Changes up to here were made before this session subscribed: catching up. */
  #caughtUpAt = 0
  #epochAtSubscription = 0
  #waiting: { change: number; resolve: () => void }[] = []

  constructor(parts: FeedParts, cursor: Cursor) {
    this.#parts = parts
    this.#cursor = cursor
  }

  /** How far the feed has been applied. */
  get change(): number {
    return this.#cursor.change
  }

  /** Subscribes after the cursor; the log must be in sync. Resolves once what was missed has been applied. */
  async subscribe(): Promise<void> {
    const { context, log } = this.#parts
    const { head, roster } = log.state
    this.#epochAtSubscription = roster.epoch
    const { change } = await context.connection.request('feed.subscribe', { group: context.group, cursor: this.#cursor.change, seq: head.seq })
    this.#caughtUpAt = Math.max(change, this.#caughtUpAt)
    await this.until(change)
  }

  /** Resolves once everything up to `change` has been applied. */
  until(change: number): Promise<void> {
    if (this.#cursor.change >= change) return Promise.resolve()
    return new Promise((resolve) => this.#waiting.push({ change, resolve }))
  }

  /** Applies a batch after those before it. */
  receive(event: FeedEvent): void {
    this.#serial.run(() => this.#apply(event)).catch((error: unknown) => this.#report(error))
  }

  async #apply({ from, to, items }: FeedEvent): Promise<void> {
    if (to <= this.#cursor.change) return
    if (from > this.#cursor.change) {
      // A gap: ask again from the cursor. Not awaited here, because what it waits for comes through this queue.
      this.subscribe().catch((error: unknown) => this.#report(error))
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
      await this.#keep(headers, { change: this.#cursor.change, epoch })
      headers = []
      epoch = Math.max(epoch, decodeCommit(item.commit).payload.epoch)
      await this.#parts.log.receive(item.commit)
    }
    await this.#keep(headers, { change: to, epoch: to >= this.#caughtUpAt ? Math.max(epoch, this.#epochAtSubscription) : epoch })
  }

  /** Nothing this client is shown live can be of an epoch before the one it had accepted by then. */
  #floor({ change }: FeedItem, epoch: number): number {
    return change <= this.#caughtUpAt ? epoch : Math.max(epoch, this.#epochAtSubscription)
  }

  async #keep(headers: readonly { envelope: Uint8Array; epochFloor: number }[], cursor: Cursor): Promise<void> {
    const news = await this.#parts.index.acceptFeed(headers, cursor)
    this.#cursor = cursor
    for (const signed of news) this.#announce(signed)
    const reached = this.#waiting.filter(({ change }) => change <= cursor.change)
    this.#waiting = this.#waiting.filter(({ change }) => change > cursor.change)
    for (const { resolve } of reached) resolve()
  }

  #announce({ header }: SignedHeader): void {
    const { object, version, author } = header
    this.#parts.context.emit(isTombstone(header) ? { type: 'object-deleted', object, author } : { type: 'object-changed', object, version, author })
  }

  #report(error: unknown): void {
    if (hasCode(error, 'disconnected', 'timeout', 'closed', 'group_stopped')) return
    const known = error instanceof ClavigerError ? error : new ClavigerError('internal', 'applying the feed failed', { cause: error })
    this.#parts.context.emit({ type: 'bad-item', signer: null, error: known })
  }
}
