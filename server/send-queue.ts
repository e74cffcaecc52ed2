/**
 * What one session is still to be sent, in order: replies and events share the queue.
 *
 * Frames are queued by reference and written once per tick. A session whose peer reads too slowly is *lagging*: durable
 * events are no longer queued for it (its subscriptions keep their cursors), passing events are dropped. Closing it at
 * once would make a storm of reconnects out of everybody who is slow.
 */
import type { Clock } from './clock.ts'
import type { Frame } from './frame.ts'
import type { OutboundBudget } from './outbound-budget.ts'
import { TRACKED_BYTES_MIN } from './outbound-budget.ts'
import type { ServerLimits } from './server-limits.ts'
import type { TickFlush } from './tick-flush.ts'
import type { Transport } from './transport.ts'

export interface SendQueueOptions {
  readonly transport: Transport
  readonly clock: Clock
  readonly limits: Pick<ServerLimits, 'laggingBytes' | 'laggingResumeBytes' | 'laggingMs' | 'bufferedBytes'>
  readonly flush: TickFlush
  readonly budget: OutboundBudget
  readonly listener: SendQueueListener
}

export interface SendQueueListener {
  /** Too much is buffered: stop producing. */
  lagging(): void
  /** There is room again. */
  drained(): void
  /** The peer reads so slowly that it costs others: end it. */
  overflowed(): void
}

type Pace =
  | { readonly state: 'live' }
  /** `since` the peer last took anything: then so many bytes were left. */
  | { readonly state: 'lagging'; readonly since: number; readonly left: number }
  | { readonly state: 'closed' }

export class SendQueue {
  readonly #options: SendQueueOptions
  #frames: Frame[] = []
  #queuedBytes = 0
  #waitingBytes = 0
  #pace: Pace = { state: 'live' }
  #tracked = false

  constructor(options: SendQueueOptions) {
    this.#options = options
  }

  /** Bytes that the network has not taken: queued here and buffered in the socket. */
  get bufferedBytes(): number {
    return this.#queuedBytes + this.#options.transport.bufferedBytes
  }

  /** What the peer has still to take; shrinks with every byte of a large frame, but counts such a frame twice. */
  get unsentBytes(): number {
    return this.bufferedBytes + this.#options.transport.writingBytes
  }

  /** Whether durable events may be queued. */
  get live(): boolean {
    return this.#pace.state === 'live'
  }

  /** Queues a reply or a durable event. */
  push(frame: Frame): void {
    if (this.#pace.state === 'closed') return
    const bytes = this.bufferedBytes
    if (bytes > this.#options.limits.bufferedBytes) return this.#options.listener.overflowed()
    if (this.#frames.length === 0) this.#options.flush.mark(this)
    this.#frames.push(frame)
    this.#queuedBytes += frame.wire.length
    this.#judgePace(bytes + frame.wire.length)
  }

  /** Counts a reply of so many bytes that waits for room before it is pushed; negative once it no longer does. */
  wait(bytes: number): void {
    if (this.#pace.state === 'closed' || bytes === 0) return
    this.#waitingBytes += bytes
    this.#report(this.bufferedBytes)
  }

  /** Queues an event that may be lost. @returns whether it was queued. */
  pushPassing(frame: Frame): boolean {
    if (!this.live) return false
    this.push(frame)
    return true
  }

  /** Hands everything to the transport in one write. */
  flush(): void {
    const frames = this.#frames
    if (frames.length === 0 || this.#pace.state === 'closed') return
    this.#frames = []
    this.#queuedBytes = 0
    if (this.#options.transport.open) this.#options.transport.send(frames)
    this.#judgePace(this.bufferedBytes)
  }

  /** Looks at the buffer and the time: called when the transport has drained, and about once a second. A slow reader is no dead one. */
  check(): void {
    const bytes = this.bufferedBytes
    this.#judgePace(bytes)
    if (this.#pace.state !== 'lagging') return
    const left = this.unsentBytes
    if (left !== this.#pace.left)
      this.#pace = { ...this.#pace, since: left < this.#pace.left ? this.#options.clock.now() : this.#pace.since, left }
    else if (this.#options.clock.now() - this.#pace.since > this.#options.limits.laggingMs) this.#options.listener.overflowed()
  }

  /** Drops what is queued; nothing is written any more. */
  close(): void {
    this.#pace = { state: 'closed' }
    this.#frames = []
    this.#queuedBytes = 0
    this.#waitingBytes = 0
    this.#options.budget.report(this, 0)
  }

  /** The process has too much buffered and this session most of all. */
  overflow(): void {
    this.#options.listener.overflowed()
  }

  #judgePace(bytes: number): void {
    const { limits, clock, listener } = this.#options
    if (this.#pace.state === 'live' && bytes > limits.laggingBytes) {
      this.#pace = { state: 'lagging', since: clock.now(), left: this.unsentBytes }
      listener.lagging()
    } else if (this.#pace.state === 'lagging' && bytes < limits.laggingResumeBytes) {
      this.#pace = { state: 'live' }
      listener.drained()
    }
    this.#report(bytes)
  }

  /** Most queues are nearly empty most of the time: they are not worth a look into a map. */
  #report(buffered: number): void {
    const bytes = buffered + this.#waitingBytes
    if (this.#pace.state === 'closed' || (bytes < TRACKED_BYTES_MIN && !this.#tracked)) return
    this.#tracked = bytes >= TRACKED_BYTES_MIN
    this.#options.budget.report(this, bytes)
  }
}
