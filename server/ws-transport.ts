/**
 * The thin adapter between a session and a WebSocket of `ws`.
 *
 * Frames arrive here already encoded, header included, and are written to the socket itself: `ws` would copy and
 * encode each one once per receiver. Corked, all frames of a tick are one system call.
 */
import type { Socket } from 'node:net'
import type { WebSocket } from 'ws'
import type { CloseReason } from '../shared/protocol/close-codes.ts'
import { CLOSE_CODES } from '../shared/protocol/close-codes.ts'
import type { Frame } from './frame.ts'
import type { Transport, TransportListener } from './transport.ts'

/** Room above the session’s own limit, so that a frame little too large is refused by the session, which says why. */
export const FRAME_HEADROOM_BYTES = 64 * 1024

export class WsTransport implements Transport {
  readonly #ws: WebSocket
  readonly #socket: Socket

  constructor(ws: WebSocket, socket: Socket) {
    this.#ws = ws
    this.#socket = socket
    receiverOf(ws)
  }

  /** Starts handing over what arrives. */
  listen(listener: TransportListener): void {
    this.#ws.on('message', (data, isBinary) => {
      if (!isBinary || !Buffer.isBuffer(data)) this.close('malformed')
      else listener.received(new Uint8Array(data.buffer, data.byteOffset, data.length))
    })
    // Its cause is in the close event that follows: a broken connection, or a frame `ws` itself refused.
    this.#ws.on('error', () => undefined)
    this.#ws.on('close', () => listener.closed())
    this.#socket.on('drain', () => listener.drained())
  }

  get open(): boolean {
    return this.#ws.readyState === this.#ws.OPEN
  }

  get bufferedBytes(): number {
    return this.#socket.writableLength
  }

  get writingBytes(): number {
    // What Node’s own idle timeout looks at; it has no public name.
    const handle: unknown = Reflect.get(this.#socket, '_handle')
    const hasSize = typeof handle === 'object' && handle !== null && 'writeQueueSize' in handle
    return hasSize && typeof handle.writeQueueSize === 'number' ? handle.writeQueueSize : 0
  }

  get receivedBytes(): number {
    return this.#socket.bytesRead
  }

  send(frames: readonly Frame[]): void {
    if (!this.open) return
    const socket = this.#socket
    // A lone frame gains nothing from being corked, and costs less without.
    if (frames.length > 1) socket.cork()
    for (const frame of frames) socket.write(frame.wire)
    if (frames.length > 1) socket.uncork()
  }

  ping(): void {
    this.#ws.ping()
  }

  pause(): void {
    this.#ws.pause()
  }

  resume(): void {
    this.#ws.resume()
  }

  allowFrameBytes(bytes: number): void {
    receiverOf(this.#ws)._maxPayload = bytes + FRAME_HEADROOM_BYTES
  }

  close(reason: CloseReason): void {
    // A paused socket would never read the peer’s close frame.
    this.#ws.resume()
    this.#ws.close(CLOSE_CODES[reason].code, reason)
  }
}

/**
 * The parser of a WebSocket. `ws` has no public way to raise the limit of a connection after it was made, and holding
 * the large limit from the start would let anybody have us buffer megabytes before authenticating.
 */
function receiverOf(ws: WebSocket): { _maxPayload: number } {
  const receiver: unknown = Reflect.get(ws, '_receiver')
  if (!hasPayloadLimit(receiver)) throw new TypeError('this version of ws has another receiver; see ws-transport.ts')
  return receiver
}

function hasPayloadLimit(receiver: unknown): receiver is { _maxPayload: number } {
  return typeof receiver === 'object' && receiver !== null && '_maxPayload' in receiver && typeof receiver._maxPayload === 'number'
}
