/** A session’s connection in memory: the test plays the peer and decides when the network takes what was written. */
import { decodePlain, encodeCanonical } from '../../shared/codec.ts'
import type { CloseReason } from '../../shared/protocol/close-codes.ts'
import type { ServerFrame } from '../../shared/protocol/messages.ts'
import { ServerFrame as ServerFrameSchema } from '../../shared/protocol/messages.ts'
import type { Frame } from '../../server/frame.ts'
import type { Transport, TransportListener } from '../../server/transport.ts'

export class MemoryTransport implements Transport {
  /** Everything written, in order. */
  readonly sent: ServerFrame[] = []
  /** Sizes of the single writes. */
  readonly writes: number[] = []
  readonly frameBytesAllowed: number[] = []
  closedFor: CloseReason | null = null
  paused = false
  pings = 0
  open = true
  bufferedBytes = 0
  writingBytes = 0
  receivedBytes = 0
  /** While true the network takes nothing. */
  stuck = false
  #listener: TransportListener | null = null

  listen(listener: TransportListener): void {
    this.#listener = listener
  }

  send(frames: readonly Frame[]): void {
    this.writes.push(frames.length)
    for (const frame of frames) {
      this.sent.push(ServerFrameSchema.parse(decodePlain(frame.payload)))
      if (this.stuck) this.bufferedBytes += frame.wire.length
    }
  }

  ping(): void {
    this.pings += 1
  }

  pause(): void {
    this.paused = true
  }

  resume(): void {
    this.paused = false
  }

  allowFrameBytes(bytes: number): void {
    this.frameBytesAllowed.push(bytes)
  }

  close(reason: CloseReason): void {
    this.open = false
    this.closedFor = reason
  }

  // ——— What the peer does ———

  /** Sends a message. */
  receive(message: unknown): void {
    this.receiveBytes(encodeCanonical(message))
  }

  receiveBytes(bytes: Uint8Array): void {
    this.receivedBytes += bytes.length
    this.#listener?.received(bytes)
  }

  /** The network takes everything. */
  drain(): void {
    this.stuck = false
    this.bufferedBytes = 0
    this.#listener?.drained()
  }

  /** The connection breaks. */
  disconnect(): void {
    this.open = false
    this.#listener?.closed()
  }

  /** The frames of one type. */
  of<T extends ServerFrame['type']>(type: T): Extract<ServerFrame, { type: T }>[] {
    return this.sent.filter((frame): frame is Extract<ServerFrame, { type: T }> => frame.type === type)
  }
}
