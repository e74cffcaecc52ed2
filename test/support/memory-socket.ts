/** Sockets of the client in memory: the test plays the network and the far end, frame by frame. */
import type { OpenSocket, SocketHandlers, SocketLike } from '../../client/transport.ts'

/** One socket that the client has opened. */
export class MemorySocket implements SocketLike {
  readonly url: string
  readonly protocol: string
  /** Frames the client sent, oldest first. */
  readonly sent: Uint8Array[] = []
  bufferedBytes = 0
  /** The code the client closed it with. */
  closedWith: number | null = null
  readonly #handlers: SocketHandlers
  #ended = false

  constructor(url: string, protocol: string, handlers: SocketHandlers) {
    this.url = url
    this.protocol = protocol
    this.#handlers = handlers
  }

  send(frame: Uint8Array): void {
    if (this.closedWith === null && !this.#ended) this.sent.push(frame)
  }

  close(code: number): void {
    this.closedWith ??= code
  }

  // ——— What the network and the far end do ———

  open(): void {
    this.#handlers.opened()
  }

  deliver(frame: unknown): void {
    if (!this.#ended) this.#handlers.received(frame)
  }

  /** Ends the socket. @param code - 1006: without a close frame. */
  drop(code = 1006): void {
    if (this.#ended) return
    this.#ended = true
    this.#handlers.closed(code)
  }
}

/** All sockets that were opened through `openSocket`. */
export class MemoryNetwork {
  readonly sockets: MemorySocket[] = []

  readonly openSocket: OpenSocket = (url, protocol, handlers) => {
    const socket = new MemorySocket(url, protocol, handlers)
    this.sockets.push(socket)
    return socket
  }

  /** The socket opened last. */
  get newest(): MemorySocket {
    const newest = this.sockets.at(-1)
    if (newest === undefined) throw new Error('no socket was opened')
    return newest
  }
}
