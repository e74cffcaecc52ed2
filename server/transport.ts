/**
 * What a session needs of a connection. The session knows no socket: `ws-transport.ts` is one, tests have another.
 */
import type { CloseReason } from '../shared/protocol/close-codes.ts'
import type { Frame } from './frame.ts'

export interface Transport {
  /** Whether frames may still be written: nothing follows a close frame. */
  readonly open: boolean
  /** Bytes written and not yet taken by the network. */
  readonly bufferedBytes: number
  /** Of the write under way, what the network has still to take: `bufferedBytes` counts a large frame until all of it has left. */
  readonly writingBytes: number
  /** Bytes ever received, parts of frames and control frames included: a sign of life. */
  readonly receivedBytes: number
  /** Writes frames in order, as one write. */
  send(frames: readonly Frame[]): void
  /** Asks the peer for a sign of life. */
  ping(): void
  /** Stops reading, so that the peer feels it. Frames that have arrived already may still be handed over. */
  pause(): void
  resume(): void
  /** Raises the limit of inbound frames once the peer has authenticated. */
  allowFrameBytes(bytes: number): void
  /** Says why and ends the connection. */
  close(reason: CloseReason): void
}

/** What a transport tells its session. */
export interface TransportListener {
  received(frame: Uint8Array): void
  /** What was buffered has left. */
  drained(): void
  closed(): void
}
