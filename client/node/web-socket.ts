/** The `ws` package as a socket of the client: Node before 22 has no `WebSocket` of its own, and only `ws` bounds frames. */
import { WebSocket } from 'ws'
import { HANDSHAKE_MS_MAX, SERVER_FRAME_BYTES_MAX } from '../../shared/limits.ts'
import type { OpenSocket } from '../transport.ts'

/** Opens a WebSocket with `ws`; no compression (ciphertext has no redundancy), no redirects (the host is signed). */
export const openNodeWebSocket: OpenSocket = (url, protocol, handlers) => {
  const socket = new WebSocket(url, protocol, {
    perMessageDeflate: false,
    maxPayload: SERVER_FRAME_BYTES_MAX,
    handshakeTimeout: HANDSHAKE_MS_MAX,
  })
  socket.binaryType = 'nodebuffer'
  socket.on('open', handlers.opened)
  socket.on('message', (data, isBinary) => handlers.received(isBinary ? data : null))
  socket.on('close', (code) => handlers.closed(code))
  // Every error is followed by `close`, which is where ends are handled.
  socket.on('error', () => undefined)
  return {
    get bufferedBytes() {
      return socket.bufferedAmount
    },
    send: (frame) => {
      if (socket.readyState === WebSocket.OPEN) socket.send(frame)
    },
    close: (code) => socket.close(code),
  }
}
