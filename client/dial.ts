/**
 * One WebSocket from dialling to its end: handshake, then frames in both directions, with an eye on half-open sockets.
 *
 * The server is not trusted: whatever is not exactly what the protocol says ends the dial. What follows an end
 * (connecting again, failing requests) is the connection’s business.
 */
import { encodeCanonical } from '../shared/codec.ts'
import type { Signer } from '../shared/crypto/signature.ts'
import { ClavigerError } from '../shared/errors.ts'
import type { IdentityId } from '../shared/ids.ts'
import { idKey } from '../shared/ids.ts'
import { HANDSHAKE_MS_MAX, HEARTBEAT_MS } from '../shared/limits.ts'
import { authenticationMessage } from '../shared/protocol/authentication.ts'
import { CLOSE_CODES } from '../shared/protocol/close-codes.ts'
import type { CloseReason } from '../shared/protocol/close-codes.ts'
import type { Authenticate, ErrorReply, Event, Hello, Reply, Welcome } from '../shared/protocol/messages.ts'
import { SUBPROTOCOL } from '../shared/protocol/messages.ts'
import { closeReason, errorOfClose, errorOfReply, parseServerFrame } from './server-frame.ts'
import type { OpenSocket, SocketLike } from './transport.ts'

/** Who dials, and how. */
export interface DialOptions {
  readonly url: URL
  readonly identity: IdentityId
  /** The card chain, oldest first. */
  readonly cards: readonly Uint8Array[]
  /** Holds the newest card’s signing key. */
  readonly signer: Signer
  /** A token of the app’s own sign-in, where the server asks for one. */
  readonly admission: (() => Promise<string>) | null
  readonly openSocket: OpenSocket
  readonly now: () => number
}

/** How a dial ended. */
export interface DialEnd {
  readonly error: ClavigerError
  /** The close code’s reason; null when the network or this side ended it. */
  readonly reason: CloseReason | null
}

/** What a dial tells its connection; nothing follows `ended`. */
export interface DialHandlers {
  readonly opened: (opening: { readonly nonce: Uint8Array; readonly time: number }) => void
  readonly replied: (reply: Reply | ErrorReply) => void
  readonly event: (event: Event) => void
  readonly ended: (end: DialEnd) => void
}

type Phase =
  | { readonly state: 'dialling' }
  | { readonly state: 'authenticating'; readonly nonce: Uint8Array; readonly sent: boolean }
  | { readonly state: 'open' }
  | { readonly state: 'ended' }

/** RFC 6455 §7.4.1: this side is done. */
const NORMAL_CLOSURE = 1000

/** One attempt at a session. */
export class Dial {
  readonly #options: DialOptions
  readonly #handlers: DialHandlers
  readonly #socket: SocketLike
  readonly #startedAt: number
  #phase: Phase = { state: 'dialling' }
  /** What the server said about the connection as a whole, usually just before it closes. */
  #complaint: ClavigerError | null = null
  #heardAt: number
  #askedAt: number | null = null
  #bufferedBytes = 0

  constructor(options: DialOptions, handlers: DialHandlers) {
    this.#options = options
    this.#handlers = handlers
    this.#startedAt = options.now()
    this.#heardAt = this.#startedAt
    this.#socket = options.openSocket(options.url.href, SUBPROTOCOL, {
      opened: () => this.#heard(),
      received: (frame) => this.#receive(frame),
      closed: (code) => this.#closed(code),
    })
  }

  /** Sends an encoded frame. */
  send(frame: Uint8Array): void {
    this.#socket.send(frame)
  }

  /** Ends the dial from this side. */
  end(error: ClavigerError, closeCode: number = NORMAL_CLOSURE): void {
    if (this.#phase.state === 'ended') return
    this.#phase = { state: 'ended' }
    this.#socket.close(closeCode)
    this.#handlers.ended({ error, reason: null })
  }

  /**
   * Looks at the clock; to be called every few seconds.
   *
   * A silent socket is first asked for a sign of life (`ask`) and given up after as long again: timers of a page in the
   * background or a machine asleep run late, and silence alone would then end a healthy session.
   */
  tick(ask: () => void): void {
    const now = this.#options.now()
    if (this.#phase.state === 'ended') return
    if (this.#phase.state !== 'open') {
      if (now - this.#startedAt >= HANDSHAKE_MS_MAX) this.#giveUp('the server did not complete the handshake in time')
      return
    }
    this.#noticeSending()
    if (this.#askedAt === null) {
      if (now - this.#heardAt < HEARTBEAT_MS) return
      this.#askedAt = now
      ask()
    } else if (now - this.#askedAt >= HEARTBEAT_MS) this.#giveUp('the server gave no sign of life')
  }

  #giveUp(message: string): void {
    this.end(new ClavigerError('disconnected', message), CLOSE_CODES.heartbeat.code)
  }

  /** A slow uplink that is still taking bytes is alive, though the answer to our question is queued behind them. */
  #noticeSending(): void {
    const bufferedBytes = this.#socket.bufferedBytes
    if (bufferedBytes < this.#bufferedBytes) this.#heard()
    this.#bufferedBytes = bufferedBytes
  }

  #heard(): void {
    this.#heardAt = this.#options.now()
    this.#askedAt = null
  }

  #receive(frame: unknown): void {
    if (this.#phase.state === 'ended') return
    this.#heard()
    try {
      this.#dispatch(parseServerFrame(frame))
    } catch (error) {
      if (!(error instanceof ClavigerError)) throw error
      this.end(error, CLOSE_CODES.malformed.code)
    }
  }

  #dispatch(message: ReturnType<typeof parseServerFrame>): void {
    switch (message.type) {
      case 'hello':
        this.#greeted(message)
        return
      case 'welcome':
        this.#welcomed(message)
        return
      case 'error':
        if (message.id === null) this.#complaint = errorOfReply(message)
        else this.#whileOpen(() => this.#handlers.replied(message))
        return
      case 'reply':
        this.#whileOpen(() => this.#handlers.replied(message))
        return
      case 'feed':
      case 'progress':
      case 'wrap-requested':
      case 'join-requested':
      case 'signed-head':
      case 'unopenable':
      case 'evicted':
        this.#whileOpen(() => this.#handlers.event(message))
    }
  }

  #whileOpen(deliver: () => void): void {
    if (this.#phase.state !== 'open') throw new ClavigerError('malformed', 'the server spoke before the handshake was done')
    deliver()
  }

  #greeted(hello: Hello): void {
    if (this.#phase.state !== 'dialling') throw new ClavigerError('malformed', 'the server said hello twice')
    this.#phase = { state: 'authenticating', nonce: hello.nonce, sent: false }
    this.#authenticate(hello.nonce).catch((cause: unknown) => {
      this.end(cause instanceof ClavigerError ? cause : new ClavigerError('disconnected', 'authentication could not be signed', { cause }))
    })
  }

  async #authenticate(nonce: Uint8Array): Promise<void> {
    const { identity, cards, signer, admission, url } = this.#options
    const signature = await signer.sign(authenticationMessage({ nonce, host: url.host, identity }))
    const token = admission === null ? {} : { admission: await admission() }
    if (this.#phase.state !== 'authenticating') return
    this.#phase = { state: 'authenticating', nonce, sent: true }
    this.send(encodeCanonical({ type: 'authenticate', cards: [...cards], signature, ...token } satisfies Authenticate))
  }

  #welcomed(welcome: Welcome): void {
    const phase = this.#phase
    if (phase.state !== 'authenticating' || !phase.sent) throw new ClavigerError('malformed', 'the server’s welcome was not asked for')
    if (idKey(welcome.identity) !== idKey(this.#options.identity))
      throw new ClavigerError('malformed', 'the server took this client for another')
    this.#phase = { state: 'open' }
    this.#handlers.opened({ nonce: phase.nonce, time: welcome.time })
  }

  #closed(code: number): void {
    if (this.#phase.state === 'ended') return
    this.#phase = { state: 'ended' }
    this.#handlers.ended({ error: this.#complaint ?? errorOfClose(code), reason: closeReason(code) })
  }
}
