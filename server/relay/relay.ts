/** All feeds of this process, what other processes say about their groups, and the sweep that finds what nobody said. */
import { ClavigerError } from '../../shared/errors.ts'
import type { GroupId } from '../../shared/ids.ts'
import { idKey } from '../../shared/ids.ts'
import type { Event, RewrapProgress } from '../../shared/protocol/messages.ts'
import type { AccessRule } from '../access.ts'
import type { Bus } from '../bus/bus.ts'
import type { Notice } from '../bus/notice.ts'
import type { Metrics } from '../metrics.ts'
import type { Peer } from '../peer.ts'
import type { ServerLimits } from '../server-limits.ts'
import type { CommittedWrites } from '../storage/combiner.ts'
import { readProgress } from '../storage/groups.ts'
import type { GroupFeedParts } from './group-feed.ts'
import { GroupFeed } from './group-feed.ts'
import type { Audience } from './subscription.ts'

export interface RelayParts extends GroupFeedParts {
  readonly metrics: Metrics
  readonly limits: Pick<ServerLimits, 'subscriptionsPerSession'>
  /** Set once the bus is open: the two need each other. */
  readonly bus: () => Bus | null
}

/** Events that pass and are not stored in the feed, with who may see them. */
const EVENT_RULES = {
  progress: 'isMember',
  'signed-head': 'isMember',
  'wrap-requested': 'holdsKeys',
  unopenable: 'readsObjects',
  'join-requested': 'administers',
} as const satisfies Partial<Record<Event['type'], AccessRule>>

export type PassingEvent = Extract<Event, { type: keyof typeof EVENT_RULES }>

/** Progress is told at most this often. */
const PROGRESS_MS_MIN = 250
/** Groups that one statement of the sweep compares. */
const SWEEP_GROUPS = 1000

export class Relay {
  readonly #parts: RelayParts
  readonly #feeds = new Map<string, GroupFeed>()
  readonly #groupsByPeer = new Map<Peer, Map<string, GroupFeed>>()
  readonly #nextProgress = new Map<string, { readonly progress: RewrapProgress | null }>()

  constructor(parts: RelayParts) {
    this.#parts = parts
  }

  /** Follows a group from a cursor on. @throws ClavigerError `limit_exceeded`. */
  subscribe(peer: Peer, group: GroupId, from: { readonly cursor: number; readonly seq: number; readonly audience: Audience }): void {
    // The session may have ended while its request was being judged; nobody would ever remove it again.
    if (peer.closed) return
    const key = idKey(group)
    const followed = this.#groupsByPeer.get(peer) ?? new Map<string, GroupFeed>()
    if (!followed.has(key) && followed.size >= this.#parts.limits.subscriptionsPerSession) throw new ClavigerError('limit_exceeded')
    const feed = this.#feeds.get(key) ?? new GroupFeed(group, this.#parts)
    this.#feeds.set(key, feed)
    this.#groupsByPeer.set(peer, followed.set(key, feed))
    feed.add(peer, from)
  }

  unsubscribe(peer: Peer, group: GroupId): void {
    const key = idKey(group)
    const followed = this.#groupsByPeer.get(peer)
    const feed = followed?.get(key)
    followed?.delete(key)
    if (feed !== undefined) this.#leave(peer, key, feed)
  }

  /** The session has ended. */
  remove(peer: Peer): void {
    const followed = this.#groupsByPeer.get(peer)
    this.#groupsByPeer.delete(peer)
    for (const [key, feed] of followed ?? []) this.#leave(peer, key, feed)
  }

  /** The session has room again. */
  drained(peer: Peer): void {
    for (const feed of this.#groupsByPeer.get(peer)?.values() ?? []) feed.drained(peer)
  }

  /** Something of this process’s own has been stored: the feed goes on here and everywhere. */
  advanced(group: GroupId, at: { readonly change: number; readonly seq: number }): void {
    this.#feeds.get(idKey(group))?.heard(at.change)
    this.#publish({ kind: 'advanced', group, ...at })
  }

  /** Somebody was told how far the group has come: the feed follows, without waiting for a notice or the sweep. */
  reached(group: GroupId, change: number): void {
    this.#feeds.get(idKey(group))?.heard(change)
  }

  /** The same for object writes, whose changes are at hand. */
  written({ group, seq, written }: CommittedWrites): void {
    const [first, last] = [written.at(0), written.at(-1)]
    if (first === undefined || last === undefined) return
    const items = written.map(({ item, change }) => ({ kind: 'header' as const, change, object: item.object, header: item.header }))
    this.#feeds.get(idKey(group))?.stored({ from: first.change - 1, to: last.change, change: last.change, seq, items })
    this.#publish({ kind: 'advanced', group, change: last.change, seq })
  }

  /** Tells everybody who follows the group and may know. */
  announce(event: PassingEvent): void {
    this.#deliver(event)
    this.#publish({ kind: 'event', event })
  }

  /** A join request has been stored. */
  joinRequested(group: GroupId, { hash, request }: { readonly hash: Uint8Array; readonly request: Uint8Array }): void {
    this.#deliver({ type: 'join-requested', group, request })
    this.#publish({ kind: 'join-requested', group, request: hash })
  }

  /** Progress of a rewrap: told now, or with the next one that is due. */
  progressed(group: GroupId, progress: RewrapProgress): void {
    const key = idKey(group)
    if (this.#nextProgress.has(key)) {
      this.#nextProgress.set(key, { progress })
      return
    }
    this.announce({ type: 'progress', group, progress })
    this.#nextProgress.set(key, { progress: null })
    this.#parts.clock.after(PROGRESS_MS_MIN, () => {
      const next = this.#nextProgress.get(key)?.progress ?? null
      this.#nextProgress.delete(key)
      if (next !== null) this.progressed(group, next)
    })
  }

  /** Another process says something. */
  async noticed(
    notice: Exclude<Notice, { kind: 'card' }>,
    readRequest: (group: GroupId, hash: Uint8Array) => Promise<Uint8Array | null>,
  ): Promise<void> {
    this.#parts.metrics.notices.inc({ direction: 'in' })
    switch (notice.kind) {
      case 'advanced':
        await this.#compare(notice.group, notice)
        return
      case 'event':
        if (isPassing(notice.event)) this.#deliver(notice.event)
        return
      case 'join-requested': {
        if (!this.#feeds.has(idKey(notice.group))) return
        const request = await readRequest(notice.group, notice.request)
        if (request !== null) this.#deliver({ type: 'join-requested', group: notice.group, request })
      }
    }
  }

  /** Compares every group in use here with the database. */
  async sweep(): Promise<void> {
    for (const feed of this.#feeds.values()) feed.resume()
    const groups = new Map([...this.#feeds].map(([key, feed]) => [key, feed.group]))
    for (const { group } of this.#parts.groups.cached()) groups.set(idKey(group), group)
    const all = [...groups.values()]
    for (let from = 0; from < all.length; from += SWEEP_GROUPS) {
      const some = all.slice(from, from + SWEEP_GROUPS)
      const progress = await readProgress(this.#parts.database, some)
      for (const group of some) {
        const at = progress.get(idKey(group))
        if (at !== undefined) await this.#compareAlone(group, at)
      }
    }
  }

  /** Brings the gauges up to date. */
  measure(): void {
    let lag = 0
    for (const feed of this.#feeds.values()) lag = Math.max(lag, feed.lag)
    this.#parts.metrics.feedLag.set(lag)
  }

  /** One group that cannot be read or folded must not keep the others from being compared. */
  async #compareAlone(group: GroupId, at: { readonly change: number; readonly seq: number }): Promise<void> {
    try {
      await this.#compare(group, at)
    } catch (error) {
      this.#parts.log.error({ group: idKey(group) }, 'a group could not be compared with the database', error)
    }
  }

  /** A group has come this far: reads what is new of it, if anybody here cares. */
  async #compare(group: GroupId, at: { readonly change: number; readonly seq: number }): Promise<void> {
    const cached = this.#parts.groups.peek(group)
    if (cached !== null && cached.head.seq < at.seq) await this.#parts.groups.atLeast(group, at.seq)
    this.#feeds.get(idKey(group))?.heard(at.change)
  }

  #deliver(event: PassingEvent): void {
    const feed = this.#feeds.get(idKey(event.group))
    const state = feed === undefined ? null : this.#parts.groups.peek(event.group)
    if (state !== null) feed?.announce(state, event, EVENT_RULES[event.type])
  }

  #publish(notice: Notice): void {
    this.#parts.metrics.notices.inc({ direction: 'out' })
    this.#parts.bus()?.publish(notice)
  }

  #leave(peer: Peer, key: string, feed: GroupFeed): void {
    feed.remove(peer)
    // Whoever was evicted still names the feed of that time; the group may have another one since.
    if (feed.isEmpty && this.#feeds.get(key) === feed) this.#feeds.delete(key)
  }
}

function isPassing(event: Event): event is PassingEvent {
  return Object.hasOwn(EVENT_RULES, event.type)
}
