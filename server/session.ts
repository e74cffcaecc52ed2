/**
 * One session: greeting → verifying → open → closed. It knows no socket and no database.
 *
 * The server speaks first (`hello` with a nonce), the client signs, and only then are its requests looked at. Anything
 * that is not well-formed ends the session; a request with wrong parameters only gets an error.
 */
import { randomBytes } from '../shared/crypto/public-crypto.ts'
import { decodePlain } from '../shared/codec.ts'
import { ClavigerError, hasCode } from '../shared/errors.ts'
import type { SessionBinding } from '../shared/group/invite-proof.ts'
import type { InviteId } from '../shared/ids.ts'
import { FRAME_ITEMS_MAX } from '../shared/limits.ts'
import type { CloseReason } from '../shared/protocol/close-codes.ts'
import type { Authenticate, Event, Request, ServerFrame } from '../shared/protocol/messages.ts'
import { ClientFrame } from '../shared/protocol/messages.ts'
import type { Clock } from './clock.ts'
import type { Frame } from './frame.ts'
import { frameOf } from './frame.ts'
import { Intake } from './intake.ts'
import type { Log } from './log.ts'
import type { Metrics } from './metrics.ts'
import type { OutboundBudget } from './outbound-budget.ts'
import type { Peer, VerifiedIdentity } from './peer.ts'
import { SendQueue } from './send-queue.ts'
import type { ServerLimits } from './server-limits.ts'
import type { TickFlush } from './tick-flush.ts'
import type { Transport, TransportListener } from './transport.ts'
import { judgeError } from './wire-error.ts'

/** What a session needs of its process. */
export interface SessionHost {
  readonly clock: Clock
  readonly limits: ServerLimits
  readonly log: Log
  readonly metrics: Metrics
  readonly flush: TickFlush
  readonly budget: OutboundBudget
  /** Who signed; throws `authentication_failed` or another error for the client. */
  authenticate(attempt: AuthenticationAttempt): Promise<VerifiedIdentity>
  /** Runs one request; throws errors for the client. */
  call(peer: Peer, request: Request): Promise<unknown>
  opened(session: Session, peer: Peer): void
  drained(peer: Peer): void
  closed(session: Session, peer: Peer | null): void
}

export interface AuthenticationAttempt {
  readonly claim: Authenticate
  readonly binding: SessionBinding
  readonly address: string
}

export interface SessionOptions {
  readonly transport: Transport
  readonly host: SessionHost
  /** The authority that the client dialled. */
  readonly authority: string
  /** The peer’s network address. */
  readonly address: string
}

type State =
  | { readonly state: 'greeting'; readonly since: number }
  | { readonly state: 'verifying'; readonly since: number }
  | { readonly state: 'open'; readonly peer: Peer }
  | { readonly state: 'closed'; readonly peer: Peer | null }

export type SessionState = State['state']

export class Session implements TransportListener {
  readonly #transport: Transport
  readonly #host: SessionHost
  readonly #binding: SessionBinding
  readonly #address: string
  readonly #queue: SendQueue
  readonly #intake: Intake
  readonly #requestIds = new Set<number>()
  #waitingForRoom: (() => void)[] = []
  #state: State
  #heardBytes = 0
  #unsentBytes = 0
  #heardAt: number
  #asked = false

  constructor({ transport, host, authority, address }: SessionOptions) {
    const { clock, limits, flush, budget } = host
    this.#transport = transport
    this.#host = host
    this.#binding = { nonce: randomBytes(32), host: authority }
    this.#address = address
    this.#heardAt = clock.now()
    this.#state = { state: 'greeting', since: this.#heardAt }
    const listener = { lagging: () => this.#lagging(), drained: () => this.#hasRoom(), overflowed: () => this.close('lagging') }
    this.#queue = new SendQueue({ transport, clock, limits, flush, budget, listener })
    this.#intake = new Intake({ transport, clock, limits, mayStart: () => this.#mayStart(), handle: (frame) => this.#handle(frame) })
  }

  get state(): SessionState {
    return this.#state.state
  }

  /** Requests being handled. */
  get requestsInFlight(): number {
    return this.#intake.inFlight
  }

  /** Outbound bytes that the network has not taken. */
  get bufferedBytes(): number {
    return this.#queue.bufferedBytes
  }

  /** Sends `hello`. */
  greet(): void {
    this.#send({ type: 'hello', nonce: this.#binding.nonce, time: this.#host.clock.now() })
  }

  received(frame: Uint8Array): void {
    if (this.#state.state === 'closed') return
    const { frameBytes, frameBytesUnauthenticated } = this.#host.limits
    const bytesMax = this.#state.state === 'open' ? frameBytes : frameBytesUnauthenticated
    if (frame.length > bytesMax)
      this.#refuse(new ClavigerError('limit_exceeded', `a frame must be at most ${bytesMax} bytes`), 'frameTooLarge')
    else this.#intake.offer(frame)
  }

  drained(): void {
    this.#queue.check()
  }

  closed(): void {
    this.#end()
  }

  /** Judges deadlines and signs of life: called about once a second. */
  tick(): void {
    if (this.#state.state === 'closed') return
    this.#queue.check()
    if (this.#state.state === 'open') this.#judgeSilence()
    else if (this.#host.clock.now() - this.#state.since > this.#host.limits.handshakeMs) this.close('handshakeTimeout')
  }

  /** Ends the session, after what has been queued so far. */
  close(reason: CloseReason): void {
    if (this.#state.state === 'closed') return
    this.#host.metrics.closedSessions.inc({ reason })
    this.#host.log.debug({ reason, address: this.#address }, 'session closed')
    if (reason !== 'lagging') this.#queue.flush()
    this.#transport.close(reason)
    this.#end()
  }

  #end(): void {
    if (this.#state.state === 'closed') return
    const peer = this.#state.state === 'open' ? this.#state.peer : null
    this.#state = { state: 'closed', peer }
    this.#intake.close()
    this.#queue.close()
    this.#wakeWaiting()
    this.#host.closed(this, peer)
  }

  /** One frame at a time until the session is open, and none while the peer does not read. */
  #mayStart(): boolean {
    return this.#state.state === 'greeting' || (this.#state.state === 'open' && this.#queue.live)
  }

  async #handle(bytes: Uint8Array): Promise<void> {
    const frame = parseFrame(bytes)
    if (frame === null) return this.#refuse(new ClavigerError('malformed', 'the frame is not well-formed'), 'malformed')
    switch (this.#state.state) {
      case 'greeting':
        if (frame.type !== 'authenticate') return this.#refuse(new ClavigerError('unauthenticated'), 'unauthenticated')
        return this.#authenticate(frame, this.#state.since)
      case 'open':
        if (frame.type !== 'request') return this.#refuse(new ClavigerError('malformed', 'this session is open already'), 'malformed')
        return this.#answer(frame, this.#state.peer)
      default:
        // Closed in the meantime, or still verifying: the intake starts nothing then.
        return
    }
  }

  async #authenticate(claim: Authenticate, since: number): Promise<void> {
    this.#state = { state: 'verifying', since }
    try {
      const verified = await this.#host.authenticate({ claim, binding: this.#binding, address: this.#address })
      if (this.state !== 'closed') this.#open(verified)
    } catch (error) {
      if (this.state !== 'closed') this.#refuse(error, closeReasonOf(error))
    }
  }

  #open(verified: VerifiedIdentity): void {
    const peer = this.#peerOf(verified)
    this.#state = { state: 'open', peer }
    this.#transport.allowFrameBytes(this.#host.limits.frameBytes)
    this.#send({ type: 'welcome', identity: verified.identity, time: this.#host.clock.now() })
    this.#host.opened(this, peer)
  }

  #peerOf(verified: VerifiedIdentity): Peer {
    const queue = this.#queue
    const isClosed = (): boolean => this.#state.state === 'closed'
    const { droppedEvents } = this.#host.metrics
    return {
      ...verified,
      binding: this.#binding,
      inviteByGroup: new Map<string, InviteId>(),
      get live() {
        return queue.live
      },
      get closed() {
        return isClosed()
      },
      send: (frame: Frame) => queue.push(frame),
      sendPassing: (type: Event['type'], frame: Frame) => {
        if (!queue.pushPassing(frame)) droppedEvents.inc({ type })
      },
      close: (reason) => this.close(reason),
    }
  }

  async #answer(request: Request, peer: Peer): Promise<void> {
    // Two requests of one number could not be told apart in their replies.
    if (this.#requestIds.has(request.id))
      return this.#refuse(new ClavigerError('malformed', 'a request with this id is in flight'), 'malformed')
    this.#requestIds.add(request.id)
    const reply = await this.#reply(request, peer)
    // A reply to somebody who does not read waits here, where the number of requests in flight bounds it and the budget
    // knows of it. Between the look at the queue and the push nobody else gets a turn.
    const waiting = this.#queue.live ? 0 : reply.wire.length
    this.#queue.wait(waiting)
    while (this.state === 'open' && !this.#queue.live) await new Promise<void>((resolve) => this.#waitingForRoom.push(resolve))
    this.#queue.wait(-waiting)
    this.#requestIds.delete(request.id)
    if (this.state === 'open') this.#queue.push(reply)
  }

  async #reply(request: Request, peer: Peer): Promise<Frame> {
    try {
      return frameOf({ type: 'reply', id: request.id, result: await this.#host.call(peer, request) })
    } catch (error) {
      return frameOf({ type: 'error', id: request.id, ...this.#wireErrorOf(error) })
    }
  }

  /** Says what is wrong and ends the session. */
  #refuse(error: unknown, reason: CloseReason): void {
    this.#send({ type: 'error', id: null, ...this.#wireErrorOf(error) })
    this.close(reason)
  }

  #wireErrorOf(error: unknown): { code: string; message: string; data: Record<string, unknown> } {
    const { wire, reference, failure } = judgeError(error)
    if (failure !== null) this.#host.log.error({ code: wire.code, reference }, 'request failed', failure)
    return wire
  }

  #send(frame: ServerFrame): void {
    this.#queue.push(frameOf(frame))
  }

  #lagging(): void {
    this.#host.metrics.laggingSessions.inc()
  }

  #hasRoom(): void {
    this.#wakeWaiting()
    this.#intake.pump()
    if (this.#state.state === 'open') this.#host.drained(this.#state.peer)
  }

  #wakeWaiting(): void {
    const waiting = this.#waitingForRoom
    this.#waitingForRoom = []
    for (const wake of waiting) wake()
  }

  /** Any byte counts, also one that the peer has taken; a peer that we do not read cannot prove that it lives. */
  #judgeSilence(): void {
    const now = this.#host.clock.now()
    const { receivedBytes } = this.#transport
    const { unsentBytes } = this.#queue
    const hasTaken = unsentBytes < this.#unsentBytes
    this.#unsentBytes = unsentBytes
    if (receivedBytes !== this.#heardBytes || hasTaken || this.#intake.paused) {
      this.#heardBytes = receivedBytes
      this.#heardAt = now
      this.#asked = false
    } else if (now - this.#heardAt > 2 * this.#host.limits.heartbeatMs) this.close('heartbeat')
    else if (now - this.#heardAt > this.#host.limits.heartbeatMs && !this.#asked) {
      this.#asked = true
      this.#transport.ping()
    }
  }
}

function parseFrame(bytes: Uint8Array): ClientFrame | null {
  try {
    const parsed = ClientFrame.safeParse(decodePlain(bytes, FRAME_ITEMS_MAX))
    return parsed.success ? parsed.data : null
  } catch {
    // Whatever an attacker’s bytes make a decoder throw, they are not a frame.
    return null
  }
}

function closeReasonOf(error: unknown): CloseReason {
  if (hasCode(error, 'rate_limited')) return 'rateLimited'
  return judgeError(error).failure === null ? 'unauthenticated' : 'internal'
}
