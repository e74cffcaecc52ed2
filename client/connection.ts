/**
 * The client’s line to one server: sessions one after another, requests over them, events from them.
 *
 * It connects again by itself, with backoff and jitter, until it is closed or the server says not to. What a session
 * held on the server (feeds, opened invites) is gone with it: listen to `open` and ask again.
 */
import { encodeCanonical } from '../shared/codec.ts'
import type { Signer } from '../shared/crypto/signature.ts'
import { ClavigerError } from '../shared/errors.ts'
import type { IdentityId } from '../shared/ids.ts'
import { FRAME_BYTES_MAX, HEARTBEAT_MS } from '../shared/limits.ts'
import type { CloseReason } from '../shared/protocol/close-codes.ts'
import { CLOSE_CODES } from '../shared/protocol/close-codes.ts'
import type { ErrorReply, Event, MethodName, Params, Reply, Request, Result } from '../shared/protocol/messages.ts'
import { METHODS } from '../shared/protocol/messages.ts'
import { retryDelayMs } from './backoff.ts'
import type { DialEnd } from './dial.ts'
import { Dial } from './dial.ts'
import { Listeners } from './listeners.ts'
import { RequestWindow } from './request-window.ts'
import { errorOfReply } from './server-frame.ts'
import type { OpenSocket } from './transport.ts'
import { defaultOpenSocket } from './transport.ts'

export interface ConnectionOptions {
  /** The card chain, oldest first. */
  readonly cards: readonly Uint8Array[]
  readonly identity: IdentityId
  /** Holds the newest card’s signing key. */
  readonly signer: Signer
  /** Default: the global `WebSocket`. */
  readonly openSocket?: OpenSocket
  /** A token of the app’s own sign-in; asked for at each session, since such tokens expire. */
  readonly admission?: () => Promise<string>
  /** Milliseconds since 1970. Default: `Date.now`. */
  readonly now?: () => number
  /** Uniform in [0, 1), for jitter. Default: from the platform’s secure source. */
  readonly random?: () => number
}

/** One authenticated WebSocket. */
export interface Session {
  /** 1, 2, 3, …: a greater number means that everything opened in the sessions before is gone. */
  readonly number: number
  /** The server’s nonce, which signatures for this session cover. */
  readonly nonce: Uint8Array
  /** The authority that was dialled, which they cover as well. */
  readonly host: string
}

export type ConnectionState =
  | { readonly state: 'connecting' }
  | { readonly state: 'open'; readonly session: Session }
  /** `until` in ms since 1970: when it connects again. */
  | { readonly state: 'waiting'; readonly until: number; readonly error: ClavigerError }
  | { readonly state: 'closed'; readonly error: ClavigerError }

/** What can be listened to. */
export interface ConnectionEvents {
  /** Something happened in a group this session follows. Events of one session come in the server’s order. */
  readonly event: Event
  /** A session was opened, the first or a later one. Requests made here go before those that were waiting. */
  readonly open: Session
  readonly state: ConnectionState
}

export interface RequestOptions {
  /** Gives up waiting. A request that was sent may still be carried out. */
  readonly signal?: AbortSignal
  /** Send in the session of this number or not at all (`disconnected`). */
  readonly session?: number
}

/** A session that lasted this long starts the backoff anew; else a server that drops everybody would be hammered. */
const LASTING_MS = 10_000
/** How often clocks are looked at: timeouts are this coarse. */
const TICK_MS = HEARTBEAT_MS / 4
/** Attempts counted in advance, where a server asks for patience; {@link retryDelayMs} turns them into delays. */
const ATTEMPTS_AHEAD: Partial<Record<CloseReason, number>> = { draining: 3, rateLimited: 5, internal: 3 }

/** A connection to one server, alive from its construction to {@link Connection.close}. */
export class Connection {
  readonly #url: URL
  readonly #options: ConnectionOptions
  readonly #now: () => number
  readonly #random: () => number
  readonly #listeners = new Listeners<ConnectionEvents>()
  readonly #window = new RequestWindow()
  #state: ConnectionState = { state: 'connecting' }
  #dial: Dial | null = null
  #retryTimer: ReturnType<typeof setTimeout> | undefined
  readonly #tickTimer: ReturnType<typeof setInterval>
  /** Attempts since the last session that lasted. */
  #attempts = 0
  #sessions = 0
  #openedAt = 0
  #lastId = 0
  #clockOffsetMs = 0

  /**
   * Starts connecting; see {@link Connection.whenOpen}.
   *
   * @param url - `ws:` or `wss:`.
   * @throws TypeError for another URL.
   */
  constructor(url: string, options: ConnectionOptions) {
    this.#url = parseUrl(url)
    this.#options = options
    this.#now = options.now ?? Date.now
    this.#random = options.random ?? secureRandom
    this.#tickTimer = setInterval(() => this.#tick(), TICK_MS)
    this.#connect()
  }

  get state(): ConnectionState {
    return this.#state
  }

  /** The open session, or null. */
  get session(): Session | null {
    return this.#state.state === 'open' ? this.#state.session : null
  }

  /** The server’s clock, as far as its welcome told, in ms since 1970. A claim, as everything it says. */
  serverTime(): number {
    return this.#now() + this.#clockOffsetMs
  }

  /** Calls `listener` for each `name` from now on. @returns stops that. */
  on<Name extends keyof ConnectionEvents>(name: Name, listener: (value: ConnectionEvents[Name]) => void): () => void {
    return this.#listeners.on(name, listener)
  }

  /**
   * The current session, or the next one.
   *
   * @throws ClavigerError why the connection is closed for good; or the signal’s reason.
   */
  whenOpen({ signal }: Pick<RequestOptions, 'signal'> = {}): Promise<Session> {
    return new Promise((resolve, reject) => {
      const settle = (state: ConnectionState): void => {
        if (state.state !== 'open' && state.state !== 'closed') return
        stop()
        if (state.state === 'open') resolve(state.session)
        else reject(state.error)
      }
      const stopListening = this.on('state', settle)
      const stopWaiting = onAbort(signal, (reason) => {
        stop()
        reject(reason)
      })
      const stop = (): void => {
        stopListening()
        stopWaiting()
      }
      if (signal?.aborted !== true) settle(this.#state)
    })
  }

  /**
   * Asks the server for something and checks the form of what comes back.
   *
   * Without a session it waits for one, 30 s at most. An error’s `data.sent` says whether the server may have acted
   * (`disconnected` and `timeout` only): then the caller finds out, as nothing is ever sent twice by itself.
   *
   * @throws ClavigerError the server’s code, or `disconnected`, `timeout`, `malformed`, `limit_exceeded`, `closed`; or the signal’s reason.
   */
  async request<M extends MethodName>(method: M, params: Params<M>, options: RequestOptions = {}): Promise<Result<M>> {
    options.signal?.throwIfAborted()
    if (this.#state.state === 'closed') throw this.#state.error
    if (options.session !== undefined && options.session !== this.session?.number) throw sessionGone()
    const result = await this.#send(method, params, options)
    const parsed = METHODS[method].result.safeParse(result)
    if (!parsed.success) throw new ClavigerError('malformed', `the server’s result of ${method} is not well-formed`)
    return parsed.data as Result<M>
  }

  /** Connects at once if the connection is waiting to: for when the machine comes online. */
  retry(): void {
    if (this.#state.state === 'waiting') this.#connect()
  }

  /** Ends the session and everything that waits for it (`closed`). Again: nothing. */
  close(): void {
    this.#finish(new ClavigerError('closed'))
  }

  // ——— Sessions ———

  #connect(): void {
    clearTimeout(this.#retryTimer)
    this.#attempts += 1
    this.#setState({ state: 'connecting' })
    try {
      this.#dial = this.#newDial()
    } catch (cause) {
      this.#ended({ error: new ClavigerError('disconnected', 'the socket could not be opened', { cause }), reason: null })
    }
  }

  #newDial(): Dial {
    const { identity, cards, signer, admission = null, openSocket = defaultOpenSocket() } = this.#options
    return new Dial(
      { url: this.#url, identity, cards, signer, admission, openSocket, now: this.#now },
      {
        opened: (opening) => this.#opened(opening),
        replied: (reply) => this.#replied(reply),
        event: (event) => this.#listeners.emit('event', event),
        ended: (end) => this.#ended(end),
      },
    )
  }

  #opened({ nonce, time }: { readonly nonce: Uint8Array; readonly time: number }): void {
    this.#openedAt = this.#now()
    this.#clockOffsetMs = time - this.#openedAt
    this.#sessions += 1
    const session = { number: this.#sessions, nonce, host: this.#url.host }
    const waiting = this.#window.takeQueued()
    this.#setState({ state: 'open', session })
    this.#listeners.emit('open', session)
    for (const outgoing of waiting) this.#window.add(outgoing, this.#openedAt)
    this.#flush()
  }

  #ended({ error, reason }: DialEnd): void {
    if (this.#state.state === 'closed') return
    this.#dial = null
    if (this.#state.state === 'open') this.#loseSession(error)
    if (reason !== null && !CLOSE_CODES[reason].reconnect) this.#finish(error)
    else this.#wait(error, Math.max(this.#attempts, reason === null ? 0 : (ATTEMPTS_AHEAD[reason] ?? 0)))
  }

  #loseSession(cause: ClavigerError): void {
    const now = this.#now()
    if (now - this.#openedAt >= LASTING_MS) this.#attempts = 0
    for (const { reject } of this.#window.takeInFlight())
      reject(new ClavigerError('disconnected', undefined, { cause, data: { sent: true } }))
    for (const { reject } of this.#window.takeBoundToSession()) reject(sessionGone())
    this.#window.restartQueueClocks(now)
  }

  #wait(error: ClavigerError, attempt: number): void {
    const delay = retryDelayMs(attempt, this.#random)
    this.#retryTimer = setTimeout(() => this.#connect(), delay)
    this.#setState({ state: 'waiting', until: this.#now() + delay, error })
  }

  #finish(error: ClavigerError): void {
    if (this.#state.state === 'closed') return
    clearTimeout(this.#retryTimer)
    clearInterval(this.#tickTimer)
    const dial = this.#dial
    this.#dial = null
    this.#setState({ state: 'closed', error })
    dial?.end(error)
    for (const { reject } of [...this.#window.takeInFlight(), ...this.#window.takeQueued()]) reject(error)
    this.#listeners.clear()
  }

  #setState(state: ConnectionState): void {
    this.#state = state
    this.#listeners.emit('state', state)
  }

  // ——— Requests ———

  #send(method: string, params: unknown, { signal, session }: RequestOptions): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const { id, frame } = this.#encode(method, params)
      const stopWaiting = onAbort(signal, (reason) => {
        this.#window.abandon(id)
        reject(reason)
      })
      const settled =
        <T>(settle: (value: T) => void) =>
        (value: T): void => {
          stopWaiting()
          settle(value)
        }
      this.#window.add({ id, frame, bound: session !== undefined, resolve: settled(resolve), reject: settled(reject) }, this.#now())
      this.#flush()
    })
  }

  #encode(method: string, params: unknown): { readonly id: number; readonly frame: Uint8Array } {
    this.#lastId += 1
    const id = this.#lastId
    const frame = encodeCanonical({ type: 'request', id, method, params } satisfies Request)
    if (frame.length > FRAME_BYTES_MAX)
      throw new ClavigerError('limit_exceeded', `a request must be at most ${FRAME_BYTES_MAX} bytes, got ${frame.length}`)
    return { id, frame }
  }

  #flush(): void {
    const dial = this.#dial
    if (dial === null || this.#state.state !== 'open') return
    for (const { frame } of this.#window.takeSendable(this.#now())) dial.send(frame)
  }

  #replied(reply: Reply | ErrorReply): void {
    const outgoing = reply.id === null ? null : this.#window.answer(reply.id, this.#now())
    if (reply.type === 'reply') outgoing?.resolve(reply.result)
    else outgoing?.reject(errorOfReply(reply))
    this.#flush()
  }

  #tick(): void {
    const now = this.#now()
    this.#dial?.tick(() => this.#dial?.send(this.#encode('session.ping', {}).frame))
    for (const { reject } of this.#window.takeUnanswered(now)) reject(new ClavigerError('timeout', undefined, { data: { sent: true } }))
    if (this.#state.state !== 'open') {
      for (const { reject } of this.#window.takeQueuedTooLong(now)) {
        reject(new ClavigerError('disconnected', 'there is no connection to the server', { data: { sent: false } }))
      }
    }
    this.#flush()
  }
}

function parseUrl(url: string): URL {
  const parsed = new URL(url)
  if (parsed.protocol !== 'ws:' && parsed.protocol !== 'wss:')
    throw new TypeError(`url must start with ws: or wss:, got ${parsed.protocol}`)
  parsed.hash = ''
  return parsed
}

function sessionGone(): ClavigerError {
  return new ClavigerError('disconnected', 'the session this was meant for has ended', { data: { sent: false } })
}

/** Calls `listener` once when `signal` is aborted, also if it already is. @returns stops that. */
function onAbort(signal: AbortSignal | undefined, listener: (reason: unknown) => void): () => void {
  if (signal === undefined) return () => undefined
  const aborted = (): void => listener(signal.reason)
  if (signal.aborted) queueMicrotask(aborted)
  else signal.addEventListener('abort', aborted, { once: true })
  return () => signal.removeEventListener('abort', aborted)
}

function secureRandom(): number {
  const [word = 0] = crypto.getRandomValues(new Uint32Array(1))
  return word / 2 ** 32
}
