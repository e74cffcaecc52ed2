/** Pages of the feed as frames: encoded once for all who see the same of it. */
import type { GroupId } from '../../shared/ids.ts'
import type { FeedItem } from '../../shared/protocol/messages.ts'
import type { Frame } from '../frame.ts'
import { frameOf } from '../frame.ts'
import type { StoredChange } from '../storage/feed.ts'
import type { Audience } from './subscription.ts'

/** All that is left of the changes in (from, to]. */
export interface FeedSpan {
  readonly from: number
  readonly to: number
  readonly items: readonly StoredChange[]
}

/** One span, with a frame for each audience that asks for one. */
export class FeedBatch {
  readonly span: FeedSpan
  readonly #group: GroupId
  readonly #frames = new Map<Audience, Frame>()

  constructor(group: GroupId, span: FeedSpan) {
    this.#group = group
    this.span = span
  }

  /** The whole span. */
  frame(audience: Audience): Frame {
    const known = this.#frames.get(audience)
    if (known !== undefined) return known
    const frame = encodeSpan(this.#group, this.span, audience)
    this.#frames.set(audience, frame)
    return frame
  }

  /** The part of it after `cursor`, for somebody who was sent the rest already. */
  frameAfter(cursor: number, audience: Audience): Frame {
    const { from, to, items } = this.span
    if (cursor <= from) return this.frame(audience)
    return encodeSpan(this.#group, { from: cursor, to, items: items.filter(({ change }) => change > cursor) }, audience)
  }

  /** The part of it up to `change`, for somebody who may not see the rest. */
  frameUntil(change: number, audience: Audience): Frame {
    const { from, items } = this.span
    return encodeSpan(this.#group, { from, to: change, items: items.filter((item) => item.change <= change) }, audience)
  }
}

function encodeSpan(group: GroupId, { from, to, items }: FeedSpan, audience: Audience): Frame {
  const visible = audience === 'objects' ? items : items.filter(({ kind }) => kind === 'commit')
  return frameOf({ type: 'feed', group, from, to, items: visible.map(toItem) })
}

function toItem(change: StoredChange): FeedItem {
  if (change.kind === 'commit') return { kind: 'commit', change: change.change, commit: change.bytes }
  return { kind: 'header', change: change.change, header: change.header }
}
