/**
 * Outbound frames: encoded once, whoever receives them.
 *
 * The WebSocket header (RFC 6455 §5.2: server frames are not masked, compression is off) is put in front of the
 * payload here, so that a frame for a hundred sessions is a hundred references to one buffer.
 */
import { encodeCanonical } from '../shared/codec.ts'
import type { ServerFrame } from '../shared/protocol/messages.ts'

export interface Frame {
  /** The CBOR message. */
  readonly payload: Uint8Array
  /** The bytes on the socket: header, then payload. */
  readonly wire: Uint8Array
}

/** FIN and opcode 2: one unfragmented binary message. */
const FINAL_BINARY = 0x82
const LENGTH_16_BITS = 126
const LENGTH_64_BITS = 127

/** Encodes a message. */
export function frameOf(message: ServerFrame): Frame {
  return framePayload(encodeCanonical(message))
}

/** Puts the WebSocket header in front of an encoded message. */
export function framePayload(encoded: Uint8Array): Frame {
  const header = frameHeader(encoded.length)
  const wire = new Uint8Array(header.length + encoded.length)
  wire.set(header)
  wire.set(encoded, header.length)
  return { payload: wire.subarray(header.length), wire }
}

function frameHeader(length: number): Uint8Array {
  if (length < LENGTH_16_BITS) return Uint8Array.of(FINAL_BINARY, length)
  if (length < 0x10000) return Uint8Array.of(FINAL_BINARY, LENGTH_16_BITS, length >> 8, length & 0xff)
  const header = new Uint8Array(10)
  header[0] = FINAL_BINARY
  header[1] = LENGTH_64_BITS
  new DataView(header.buffer).setBigUint64(2, BigInt(length))
  return header
}
