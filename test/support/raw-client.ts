/** A client without any judgement: it sends what a test says and keeps what comes back. */
import WebSocket from 'ws'
import { decodePlain, encodeCanonical } from '../../shared/codec.ts'
import { ClavigerError, isErrorCode } from '../../shared/errors.ts'
import type { IdentityId } from '../../shared/ids.ts'
import { authenticationMessage } from '../../shared/protocol/authentication.ts'
import type { CloseReason } from '../../shared/protocol/close-codes.ts'
import { CLOSE_CODES } from '../../shared/protocol/close-codes.ts'
import type { ErrorReply, Event, Hello, MethodName, Params, Result, ServerFrame } from '../../shared/protocol/messages.ts'
import { METHODS, ServerFrame as ServerFrameSchema, SUBPROTOCOL } from '../../shared/protocol/messages.ts'
import type { Signer } from '../../shared/crypto/signature.ts'

/** Who signs in. */
export interface Credentials {
  readonly id: IdentityId
  readonly cards: readonly Uint8Array[]
  readonly signer: Signer
}

export interface RawOptions {
  /** The authority that is signed, if it is to differ from the one dialled. */
  readonly signedHost?: string
  readonly headers?: Readonly<Record<string, string>>
}

interface Waiting {
  readonly resolve: (result: unknown) => void
  readonly reject: (error: Error) => void
}

export class RawClient {
  readonly socket: WebSocket
  readonly host: string
  readonly events: Event[] = []
  /** Errors that belong to no request. */
  readonly complaints: ErrorReply[] = []
  hello: Hello | null = null
  /** Why the server closed the connection. */
  closedFor: CloseReason | number | null = null
  readonly #waiting = new Map<number, Waiting>()
  readonly #watchers = new Set<() => void>()
  #welcomed = false
  #nextId = 1

  private constructor(url: string, headers: Readonly<Record<string, string>>) {
    this.host = new URL(url).host
    this.socket = new WebSocket(url, SUBPROTOCOL, { perMessageDeflate: false, headers: { ...headers } })
    this.socket.on('message', (data: Buffer) => this.#receive(ServerFrameSchema.parse(decodePlain(new Uint8Array(data)))))
    this.socket.on('error', () => undefined)
    this.socket.on('close', (code) => this.#closed(code))
  }

  /** Connects and waits for `hello`. */
  static async dial(url: string, headers: Readonly<Record<string, string>> = {}): Promise<RawClient> {
    const client = new RawClient(url, headers)
    await client.until(() => client.hello !== null || client.closedFor !== null)
    return client
  }

  /** Connects and signs in. @throws Error if the server does not welcome it. */
  static async open(url: string, credentials: Credentials, options: RawOptions = {}): Promise<RawClient> {
    const client = await RawClient.dial(url, options.headers)
    await client.signIn(credentials, options)
    if (!client.#welcomed) throw new Error(`not welcome: ${client.complaints[0]?.code ?? String(client.closedFor)}`)
    return client
  }

  /** The `authenticate` message of these credentials for this session. */
  async claim({ id, cards, signer }: Credentials, { signedHost }: RawOptions = {}): Promise<Record<string, unknown>> {
    const nonce = this.hello?.nonce ?? new Uint8Array(32)
    const signature = await signer.sign(authenticationMessage({ nonce, host: signedHost ?? this.host, identity: id }))
    return { type: 'authenticate', cards: [...cards], signature }
  }

  async signIn(credentials: Credentials, options: RawOptions = {}): Promise<void> {
    this.send(await this.claim(credentials, options))
    await this.until(() => this.#welcomed || this.closedFor !== null)
  }

  send(message: unknown): void {
    this.socket.send(encodeCanonical(message))
  }

  /** Sends a request and checks the shape of its result. @throws ClavigerError as the server says. */
  async request<M extends MethodName>(method: M, params: Params<M>): Promise<Result<M>> {
    const result = METHODS[method].result.safeParse(await this.ask(method, params))
    if (!result.success) throw new Error(`the result of ${method} is not well-formed: ${result.error.message}`)
    return result.data as Result<M>
  }

  /** Sends any request. */
  ask(method: string, params: unknown): Promise<unknown> {
    const id = this.#nextId++
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject })
      this.send({ type: 'request', id, method, params })
    })
  }

  /** The code with which a request is refused. */
  async refusal(method: string, params: unknown): Promise<ClavigerError> {
    try {
      await this.ask(method, params)
    } catch (error) {
      if (error instanceof ClavigerError) return error
      throw error
    }
    throw new Error(`${method} was not refused`)
  }

  eventsOf<T extends Event['type']>(type: T): Extract<Event, { type: T }>[] {
    return this.events.filter((event): event is Extract<Event, { type: T }> => event.type === type)
  }

  /** Waits for something to have arrived. */
  until(isSo: () => boolean, withinMs = 10_000): Promise<void> {
    if (isSo()) return Promise.resolve()
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error('it did not arrive in time')), withinMs)
      const watcher = (): void => {
        if (!isSo()) return
        clearTimeout(late)
        this.#watchers.delete(watcher)
        resolve()
      }
      this.#watchers.add(watcher)
    })
  }

  close(): void {
    this.socket.terminate()
  }

  #receive(frame: ServerFrame): void {
    if (frame.type === 'hello') this.hello = frame
    else if (frame.type === 'welcome') this.#welcomed = true
    else if (frame.type === 'reply') this.#settle(frame.id, (waiting) => waiting.resolve(frame.result))
    else if (frame.type === 'error') this.#refused(frame)
    else this.events.push(frame)
    this.#notify()
  }

  #refused(frame: ErrorReply): void {
    const code = isErrorCode(frame.code) ? frame.code : 'internal'
    if (frame.id === null) this.complaints.push(frame)
    else this.#settle(frame.id, (waiting) => waiting.reject(new ClavigerError(code, frame.message, { data: frame.data })))
  }

  #settle(id: number, settle: (waiting: Waiting) => void): void {
    const waiting = this.#waiting.get(id)
    this.#waiting.delete(id)
    if (waiting !== undefined) settle(waiting)
  }

  #closed(code: number): void {
    this.closedFor = (Object.keys(CLOSE_CODES) as CloseReason[]).find((reason) => CLOSE_CODES[reason].code === code) ?? code
    for (const { reject } of this.#waiting.values()) reject(new ClavigerError('disconnected'))
    this.#waiting.clear()
    this.#notify()
  }

  #notify(): void {
    for (const watcher of [...this.#watchers]) watcher()
  }
}
