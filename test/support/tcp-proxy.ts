/** A TCP proxy that fails on command: it cuts, refuses, holds back in either direction, or goes half-open. */
import { once } from 'node:events'
import type { AddressInfo, Server, Socket } from 'node:net'
import { connect, createServer } from 'node:net'

/** Where connections go on to. */
export type ProxyTarget = { readonly port: number } | { readonly path: string }

/** One connection through the proxy. */
interface Link {
  readonly client: Socket
  readonly server: Socket
  /** The first bytes the client sent: they tell what kind of connection it is. */
  opening: Buffer | null
  isFrozen: boolean
}

export class TcpProxy {
  readonly #listener: Server
  readonly #target: ProxyTarget
  readonly #links = new Set<Link>()
  #isRefusing = false
  #freezes: (opening: Buffer) => boolean = () => false
  /** Connections that were accepted so far, cut ones included. */
  accepted = 0

  private constructor(target: ProxyTarget) {
    this.#target = target
    this.#listener = createServer({ allowHalfOpen: true }, (client) => this.#accept(client))
  }

  static async start(target: ProxyTarget): Promise<TcpProxy> {
    const proxy = new TcpProxy(target)
    proxy.#listener.listen(0, '127.0.0.1')
    await once(proxy.#listener, 'listening')
    return proxy
  }

  get port(): number {
    return (this.#listener.address() as AddressInfo).port
  }

  /** What a WebSocket client dials. */
  get url(): string {
    return `ws://127.0.0.1:${this.port}`
  }

  /** Breaks every connection at once; new ones are taken. */
  cut(): void {
    for (const link of [...this.#links]) this.#end(link)
  }

  /** Breaks new connections as soon as they are made, until {@link TcpProxy.accept}. */
  refuse(): void {
    this.#isRefusing = true
    this.cut()
  }

  accept(): void {
    this.#isRefusing = false
  }

  /** Connections stay open and nothing passes any more; also those made later whose first bytes match. */
  freeze(matches: (opening: Buffer) => boolean = () => true): void {
    this.#freezes = matches
    for (const link of this.#links) link.isFrozen ||= link.opening !== null && matches(link.opening)
  }

  /** Connections frozen so far stay as they are: bytes were lost. New ones pass. */
  thaw(): void {
    this.#freezes = () => false
  }

  async close(): Promise<void> {
    this.cut()
    const closed = once(this.#listener, 'close')
    this.#listener.close()
    await closed
  }

  #accept(client: Socket): void {
    this.accepted += 1
    if (this.#isRefusing) {
      client.destroy()
      return
    }
    const server = connect({ ...this.#target, allowHalfOpen: true })
    const link: Link = { client, server, opening: null, isFrozen: false }
    this.#links.add(link)
    client.on('data', (chunk: Buffer) => {
      link.opening ??= chunk
      link.isFrozen ||= this.#freezes(link.opening)
      if (!link.isFrozen) server.write(chunk)
    })
    server.on('data', (chunk: Buffer) => {
      if (!link.isFrozen) client.write(chunk)
    })
    for (const [from, to] of [
      [client, server],
      [server, client],
    ] as const) {
      from.on('end', () => {
        if (!link.isFrozen) to.end()
      })
      from.on('close', () => this.#end(link))
      from.on('error', () => this.#end(link))
    }
  }

  #end(link: Link): void {
    if (!this.#links.delete(link)) return
    link.client.destroy()
    link.server.destroy()
  }
}
