/**
 * Mallory: a server in front of a real one. Clients authenticate to the real one through it, and every request, reply and
 * event passes through its hands, to be answered otherwise, delayed, dropped, counted or kept.
 */
import { once } from 'node:events'
import type { IncomingMessage, Server } from 'node:http'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { WebSocket, WebSocketServer } from 'ws'
import { decodePlain, encodeCanonical } from '../../shared/codec.ts'
import { ClavigerError, isErrorCode } from '../../shared/errors.ts'
import type { Event, MethodName, Params, Request, Result } from '../../shared/protocol/messages.ts'
import { Event as EventSchema, ErrorReply, METHODS, Reply, Request as RequestSchema, SUBPROTOCOL } from '../../shared/protocol/messages.ts'

/** Answers a request; `truth` asks the real server, with other parameters if need be. */
export type Lie<M extends MethodName> = (
  params: Params<M>,
  truth: (params?: Params<M>) => Promise<Result<M>>,
) => Promise<Result<M>> | Result<M>

type AnyLie = (params: unknown, truth: (params?: unknown) => Promise<unknown>) => unknown

/** An answer that never comes. */
export const SILENCE: Promise<never> = new Promise(() => undefined)

/** Numbers of our own requests to the real server: no client gets this far. */
const OWN_IDS_FROM = 2 ** 40

export class LyingServer {
  /** Every frame that clients have sent, decrypted of nothing: as the server sees it. */
  readonly heard: Uint8Array[] = []
  /** Every request that clients have made. */
  readonly requests: Request[] = []
  /** Passes on an event, changed or not; null withholds it. */
  event: (event: Event) => Event | null = (event) => event
  readonly #target: string
  readonly #http: Server
  readonly #sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false, handleProtocols: () => SUBPROTOCOL })
  readonly #links = new Set<Link>()
  readonly #lies = new Map<MethodName, AnyLie>()

  private constructor(target: string) {
    this.#target = target
    this.#http = createServer()
    this.#http.on('upgrade', (request: IncomingMessage, socket, head) => {
      this.#sockets.handleUpgrade(request, socket, head, (client) => this.#connected(client, request.headers.host ?? ''))
    })
  }

  /** @param target - the URL of the real server. */
  static async start(target: string): Promise<LyingServer> {
    const mallory = new LyingServer(target)
    mallory.#http.listen(0, '127.0.0.1')
    await once(mallory.#http, 'listening')
    return mallory
  }

  get url(): string {
    return `ws://127.0.0.1:${(this.#http.address() as AddressInfo).port}`
  }

  /** Answers a method with `lie` from now on. */
  lie<M extends MethodName>(method: M, lie: Lie<M>): void {
    // The table holds lies of every method; a request finds the one of its own.
    this.#lies.set(method, lie as AnyLie)
  }

  /** Tells the truth again. */
  relent(...methods: readonly MethodName[]): void {
    for (const method of methods) this.#lies.delete(method)
  }

  /** How often a method was called. */
  count(method: MethodName): number {
    return this.requests.filter((request) => request.method === method).length
  }

  /** Sends an event of its own to every client. */
  say(event: Event): void {
    for (const { client } of this.#links) client.send(encodeCanonical(event))
  }

  /** Breaks every connection. */
  cut(): void {
    for (const link of [...this.#links]) link.end()
  }

  async close(): Promise<void> {
    this.cut()
    const closed = once(this.#http, 'close')
    this.#http.close()
    await closed
  }

  #connected(client: WebSocket, host: string): void {
    const link = new Link(client, new WebSocket(this.#target, SUBPROTOCOL, { perMessageDeflate: false, headers: { host } }), {
      requested: (request, frame) => this.#requested(link, request, frame),
      heard: (frame) => this.heard.push(frame),
      event: (event) => this.event(event),
      ended: () => this.#links.delete(link),
    })
    this.#links.add(link)
  }

  #requested(link: Link, request: Request, frame: Uint8Array): void {
    this.requests.push(request)
    const method = Object.hasOwn(METHODS, request.method) ? (request.method as MethodName) : null
    const lie = method === null ? undefined : this.#lies.get(method)
    if (lie === undefined) link.forward(frame)
    else void link.answer(request, lie)
  }
}

interface LinkHandlers {
  readonly requested: (request: Request, frame: Uint8Array) => void
  readonly heard: (frame: Uint8Array) => void
  readonly event: (event: Event) => Event | null
  readonly ended: () => void
}

/** One client’s connection and the one it is given to the real server. */
class Link {
  readonly client: WebSocket
  readonly #upstream: WebSocket
  readonly #handlers: LinkHandlers
  readonly #waiting = new Map<number, { resolve: (result: unknown) => void; reject: (error: Error) => void }>()
  #early: Uint8Array[] = []
  #nextId = OWN_IDS_FROM

  constructor(client: WebSocket, upstream: WebSocket, handlers: LinkHandlers) {
    this.client = client
    this.#upstream = upstream
    this.#handlers = handlers
    client.on('message', (data: Buffer) => this.#fromClient(Uint8Array.from(data)))
    upstream.on('message', (data: Buffer) => this.#fromServer(Uint8Array.from(data)))
    upstream.on('open', () => {
      for (const frame of this.#early) upstream.send(frame)
      this.#early = []
    })
    client.on('close', () => upstream.close())
    upstream.on('close', (code) => {
      this.#handlers.ended()
      for (const { reject } of this.#waiting.values()) reject(new ClavigerError('disconnected'))
      if (client.readyState === WebSocket.OPEN) client.close(code >= 4000 ? code : 1001)
    })
    for (const socket of [client, upstream]) socket.on('error', () => undefined)
  }

  forward(frame: Uint8Array): void {
    if (this.#upstream.readyState === WebSocket.CONNECTING) this.#early.push(frame)
    else this.#upstream.send(frame)
  }

  async answer({ id, params, method }: Request, lie: AnyLie): Promise<void> {
    try {
      const result = await lie(params, (other = params) => this.#ask(method, other))
      this.client.send(encodeCanonical({ type: 'reply', id, result }))
    } catch (error) {
      if (!(error instanceof ClavigerError)) throw error
      this.client.send(encodeCanonical({ type: 'error', id, code: error.code, message: error.message, data: error.data }))
    }
  }

  /** Without a farewell, as a broken network does it. */
  end(): void {
    this.client.terminate()
    this.#upstream.terminate()
  }

  #ask(method: string, params: unknown): Promise<unknown> {
    const id = (this.#nextId += 1)
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject })
      this.forward(encodeCanonical({ type: 'request', id, method, params }))
    })
  }

  #fromClient(frame: Uint8Array): void {
    this.#handlers.heard(frame)
    const request = RequestSchema.safeParse(decodePlain(frame))
    if (request.success) this.#handlers.requested(request.data, frame)
    else this.forward(frame)
  }

  #fromServer(frame: Uint8Array): void {
    const message = decodePlain(frame)
    const event = EventSchema.safeParse(message)
    if (event.success) {
      const told = this.#handlers.event(event.data)
      if (told !== null) this.client.send(encodeCanonical(told))
    } else if (!this.#settle(message)) this.client.send(frame)
  }

  /** Whether the message answers a request of our own. */
  #settle(message: unknown): boolean {
    const reply = Reply.safeParse(message)
    if (reply.success && reply.data.id >= OWN_IDS_FROM) {
      this.#take(reply.data.id)?.resolve(reply.data.result)
      return true
    }
    const refusal = ErrorReply.safeParse(message)
    if (!refusal.success || refusal.data.id === null || refusal.data.id < OWN_IDS_FROM) return false
    const { id, code, message: text, data } = refusal.data
    this.#take(id)?.reject(new ClavigerError(isErrorCode(code) ? code : 'internal', text, { data }))
    return true
  }

  #take(id: number): { resolve: (result: unknown) => void; reject: (error: Error) => void } | undefined {
    const waiting = this.#waiting.get(id)
    this.#waiting.delete(id)
    return waiting
  }
}
