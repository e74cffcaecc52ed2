/**
 * What the client needs of a WebSocket, and the browser’s own as the default.
 *
 * Node brings `ws` (node/web-socket.ts), tests an in-memory pair.
 */

/** What a socket tells; none of them is called before `OpenSocket` has returned, and none after `closed`. */
export interface SocketHandlers {
  readonly opened: () => void
  /** @param frame - untrusted; anything but a `Uint8Array` (a text frame) is a protocol error. */
  readonly received: (frame: unknown) => void
  /** The end, exactly once, also when the socket never opened. @param code - RFC 6455 §7.4; 1006 without a close frame. */
  readonly closed: (code: number) => void
}

/** One WebSocket. */
export interface SocketLike {
  /** Bytes handed to `send` that have not left this process: its shrinking is a sign of life. */
  readonly bufferedBytes: number
  /** Queues a binary frame; does nothing once the socket is closing. */
  send(frame: Uint8Array): void
  /** Starts the closing handshake, or gives up opening. @param code - 1000, or one of 3000–4999. */
  close(code: number): void
}

/** Starts to open a WebSocket. Every failure comes through `closed`. */
export type OpenSocket = (url: string, protocol: string, handlers: SocketHandlers) => SocketLike

let installed: OpenSocket | null = null

/** Installs a platform’s way to open sockets for the whole process: Node’s entry does. */
export function useOpenSocket(openSocket: OpenSocket): void {
  installed = openSocket
}

/** What connections use that are given nothing else. */
export function defaultOpenSocket(): OpenSocket {
  return installed ?? openGlobalWebSocket
}

/** Opens the platform’s global `WebSocket` (browsers, Node ≥ 22). */
export const openGlobalWebSocket: OpenSocket = (url, protocol, handlers) => {
  const socket = new WebSocket(url, protocol)
  socket.binaryType = 'arraybuffer'
  socket.onopen = () => handlers.opened()
  socket.onmessage = ({ data }: MessageEvent<unknown>) => handlers.received(data instanceof ArrayBuffer ? new Uint8Array(data) : null)
  // Every error is followed by `close`, which is where ends are handled; without a listener some platforms throw.
  socket.onerror = () => undefined
  socket.onclose = ({ code }) => handlers.closed(code)
  return {
    get bufferedBytes() {
      return socket.bufferedAmount
    },
    send: (frame) => {
      // The cast says that no frame of ours is backed by shared memory, which `send` does not take.
      if (socket.readyState === WebSocket.OPEN) socket.send(frame as Uint8Array<ArrayBuffer>)
    },
    close: (code) => socket.close(code),
  }
}
