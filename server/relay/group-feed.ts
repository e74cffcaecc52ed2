/**
 * The feed of one group in this process: what happens is read once and sent to everybody who follows.
 *
 * No change is left out. A session that comes in reads pages after its own cursor until one of them reaches what this
 * feed has handed out; in that same step it turns live. Whoever may no longer follow is told so and gets nothing
 * beyond the commit that ended it, in every process, because each reads that commit from the database.
 */
import { hasCode } from '../../shared/errors.ts'
import type { GroupState } from '../../shared/group/fold.ts'
import { findMember } from '../../shared/group/roster.ts'
import type { GroupId } from '../../shared/ids.ts'
import { idKey } from '../../shared/ids.ts'
import type { Event } from '../../shared/protocol/messages.ts'
import type { AccessRule } from '../access.ts'
import { isAdmitted } from '../access.ts'
import type { Clock } from '../clock.ts'
import { frameOf } from '../frame.ts'
import type { Groups } from '../groups.ts'
import type { Log } from '../log.ts'
import type { Peer } from '../peer.ts'
import type { Database } from '../storage/database.ts'
import type { FeedPage } from '../storage/feed.ts'
import { readFeed } from '../storage/feed.ts'
import { FeedBatch } from './feed-batch.ts'
import type { Audience } from './subscription.ts'
import { Subscription } from './subscription.ts'

export interface GroupFeedParts {
  readonly groups: Groups
  readonly database: Database
  readonly clock: Clock
  readonly log: Log
}

export class GroupFeed {
  readonly group: GroupId
  readonly #parts: GroupFeedParts
  readonly #byPeer = new Map<Peer, Subscription>()
  /** Live subscriptions have been sent everything up to this change; commits up to `#sentSeq` are in it. */
  #sent = 0
  #sentSeq = 0
  /** The newest change heard of. */
  #heard = 0
  #advancing = false

  constructor(group: GroupId, parts: GroupFeedParts) {
    this.group = group
    this.#parts = parts
  }

  get isEmpty(): boolean {
    return this.#byPeer.size === 0
  }

  /** Changes that the furthest behind subscription has still to be sent. */
  get lag(): number {
    let lag = 0
    for (const { cursor } of this.#byPeer.values()) lag = Math.max(lag, this.#heard - cursor)
    return lag
  }

  /** Starts sending what comes after a cursor. A second subscription of one session replaces its first. */
  add(peer: Peer, from: { readonly cursor: number; readonly seq: number; readonly audience: Audience }): void {
    this.remove(peer)
    const subscription = new Subscription({ peer, ...from })
    this.#byPeer.set(peer, subscription)
    void this.#readPages(subscription)
  }

  remove(peer: Peer): void {
    const subscription = this.#byPeer.get(peer)
    if (subscription !== undefined) subscription.state = 'ended'
    this.#byPeer.delete(peer)
  }

  /** The group has reached `change`: something is to be sent. */
  heard(change: number): void {
    this.#heard = Math.max(this.#heard, change)
    if (this.#heard > this.#sent && !this.#advancing) void this.#advance()
  }

  /**
   * Changes that this process has just stored. If they follow directly on what was sent, at the same head, they need not be
   * read back.
   */
  stored(page: FeedPage): void {
    const follows = page.from === this.#sent && page.seq === this.#sentSeq
    if (follows && !this.#advancing && this.#hasLive()) this.#sendToLive(page)
    this.heard(page.to)
  }

  /** The session has room again. */
  drained(peer: Peer): void {
    const subscription = this.#byPeer.get(peer)
    if (subscription?.state !== 'lagging') return
    subscription.state = 'behind'
    void this.#readPages(subscription)
  }

  /** Picks up what an earlier failure left lying. */
  resume(): void {
    for (const subscription of this.#byPeer.values()) if (subscription.state === 'behind') void this.#readPages(subscription)
  }

  /** Sends an event that is not stored to those whom `rule` lets see it. */
  announce(state: GroupState, event: Event, rule: AccessRule): void {
    const frame = frameOf(event)
    const now = this.#parts.clock.now()
    for (const { peer } of this.#byPeer.values()) if (isAdmitted(state, peer, rule, now)) peer.sendPassing(event.type, frame)
  }

  // ——— Live ———

  async #advance(): Promise<void> {
    this.#advancing = true
    try {
      while (this.#heard > this.#sent && this.#hasLive()) {
        const page = await this.#read({ cursor: this.#sent, seq: this.#sentSeq })
        await this.#evict(page)
        this.#sendToLive(page)
      }
    } catch (error) {
      this.#failed(error)
    } finally {
      this.#advancing = false
    }
  }

  #hasLive(): boolean {
    for (const { state } of this.#byPeer.values()) if (state === 'live') return true
    return false
  }

  /** Everything from here on happens in one step: nobody can come in between. */
  #sendToLive(page: FeedPage): void {
    const batch = new FeedBatch(this.group, page)
    for (const subscription of this.#byPeer.values()) if (subscription.state === 'live') this.#sendBatch(subscription, batch)
    this.#setSent(page)
  }

  #sendBatch(subscription: Subscription, batch: FeedBatch): void {
    const { from, to } = batch.span
    if (subscription.cursor >= to) return
    if (!subscription.peer.live) {
      subscription.state = 'lagging'
    } else if (subscription.cursor < from) {
      subscription.state = 'behind'
      void this.#readPages(subscription)
    } else {
      subscription.peer.send(batch.frameAfter(subscription.cursor, subscription.audience))
      subscription.cursor = to
    }
  }

  #setSent(page: FeedPage): void {
    this.#sent = Math.max(this.#sent, page.to)
    this.#heard = Math.max(this.#heard, page.change)
    for (const item of page.items) if (item.kind === 'commit') this.#sentSeq = Math.max(this.#sentSeq, item.seq)
    if (page.to === page.change) this.#sentSeq = Math.max(this.#sentSeq, page.seq)
  }

  // ——— Behind ———

  async #readPages(subscription: Subscription): Promise<void> {
    if (subscription.reading) return
    subscription.reading = true
    try {
      while (subscription.state === 'behind') await this.#readPage(subscription)
    } catch (error) {
      this.#failed(error)
    } finally {
      subscription.reading = false
    }
  }

  async #readPage(subscription: Subscription): Promise<void> {
    if (!subscription.peer.live) {
      subscription.state = 'lagging'
      return
    }
    const page = await this.#read(subscription)
    const state = await this.#parts.groups.atLeast(this.group, page.seq)
    if (subscription.state !== 'behind') return
    if (!this.#judge(subscription, state)) return this.#end(subscription, state)
    if (page.to > subscription.cursor) subscription.peer.send(new FeedBatch(this.group, page).frame(subscription.audience))
    subscription.cursor = page.to
    for (const item of page.items) if (item.kind === 'commit') subscription.seq = Math.max(subscription.seq, item.seq)
    if (page.to === page.change) this.#turnLive(subscription, page)
  }

  /** The last page may be older than what has been handed out meanwhile: then there is one more to read. */
  #turnLive(subscription: Subscription, page: FeedPage): void {
    if (!this.#hasLive()) this.#setSent(page)
    if (page.to < this.#sent) return
    subscription.state = 'live'
    this.heard(page.to)
  }

  // ——— Access ———

  /** Ends the subscriptions of those who are out at the head of `page`; they are shown the commit that put them out. */
  async #evict(page: FeedPage): Promise<void> {
    if (page.seq === this.#sentSeq) return
    const state = await this.#parts.groups.atLeast(this.group, page.seq)
    for (const subscription of [...this.#byPeer.values()]) {
      if (this.#judge(subscription, state)) continue
      if (subscription.state === 'live' && subscription.cursor <= page.from) await this.#showEnd(subscription, page)
      this.#end(subscription, state)
    }
  }

  async #showEnd(subscription: Subscription, page: FeedPage): Promise<void> {
    for (const item of page.items) {
      if (item.kind !== 'commit') continue
      const state = await this.#parts.groups.at(this.group, item.seq)
      if (isAdmitted(state, subscription.peer, 'isMember', this.#parts.clock.now())) continue
      if (subscription.peer.live) subscription.peer.send(new FeedBatch(this.group, page).frameUntil(item.change, subscription.audience))
      return
    }
  }

  /** Whether the session may still follow, and what it may see. */
  #judge(subscription: Subscription, state: GroupState): boolean {
    const now = this.#parts.clock.now()
    if (!isAdmitted(state, subscription.peer, 'isMember', now)) return false
    subscription.audience = isAdmitted(state, subscription.peer, 'readsObjects', now) ? 'objects' : 'log'
    return true
  }

  #end(subscription: Subscription, state: GroupState): void {
    const { peer } = subscription
    if (this.#byPeer.get(peer) === subscription) this.remove(peer)
    const reason = findMember(state.roster, peer.identity)?.state ?? 'stranger'
    peer.send(frameOf({ type: 'evicted', group: this.group, reason }))
  }

  async #read(from: { readonly cursor: number; readonly seq: number }): Promise<FeedPage> {
    const page = await readFeed(this.#parts.database, this.group, from)
    if (page === null) throw new TypeError('a group that is followed does not vanish')
    return page
  }

  /** Nothing is lost: cursors stay where they are, and the sweep goes on from there. */
  #failed(error: unknown): void {
    const level = hasCode(error, 'server_unavailable') ? 'warn' : 'error'
    if (level === 'warn') this.#parts.log.warn({ group: idKey(this.group) }, 'the feed could not be read')
    else this.#parts.log.error({ group: idKey(this.group) }, 'the feed could not be read', error)
  }
}
