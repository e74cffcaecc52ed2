/** Frames from a server, which is not trusted: bytes in, one of the protocol’s messages or `malformed` out. */
import type { z } from 'zod/mini'
import { isBytes } from '../shared/bytes.ts'
import { decodePlain } from '../shared/codec.ts'
import { ClavigerError, ERRORS, isErrorCode } from '../shared/errors.ts'
import type { ErrorCode } from '../shared/errors.ts'
import { SERVER_FRAME_BYTES_MAX } from '../shared/limits.ts'
import { CLOSE_CODES } from '../shared/protocol/close-codes.ts'
import type { CloseReason } from '../shared/protocol/close-codes.ts'
import { ErrorReply, Event, Hello, Reply, Welcome } from '../shared/protocol/messages.ts'
import type { ServerFrame } from '../shared/protocol/messages.ts'

/** @throws ClavigerError `malformed`. */
export function parseServerFrame(frame: unknown): ServerFrame {
  if (!isBytes(frame)) throw new ClavigerError('malformed', 'the server sent a text frame')
  if (frame.length > SERVER_FRAME_BYTES_MAX) throw new ClavigerError('malformed', 'the server sent a frame past the limit')
  // A plain view: in a Node Buffer the decoder would return views that keep the whole frame in memory.
  const value = decodePlain(new Uint8Array(frame.buffer, frame.byteOffset, frame.length))
  const parsed = schemaOf(value).safeParse(value)
  if (!parsed.success) throw new ClavigerError('malformed', 'the server sent a message that is not one of the protocol')
  return parsed.data
}

/** The error in a server’s reply. A code that a server may not send, or that is not known here, is `internal`. */
export function errorOfReply({ code, message, data }: Pick<ErrorReply, 'code' | 'message' | 'data'>): ClavigerError {
  const known: ErrorCode = isErrorCode(code) && ERRORS[code].wire ? code : 'internal'
  return new ClavigerError(known, printable(message) || undefined, { data })
}

/** Why a server closed the connection, by the code of its close frame; null for codes that are not the protocol’s. */
export function closeReason(code: number): CloseReason | null {
  for (const reason of CLOSE_REASONS) if (CLOSE_CODES[reason].code === code) return reason
  return null
}

const CLOSE_REASONS = Object.keys(CLOSE_CODES) as CloseReason[]

const ERROR_BY_CLOSE_REASON = {
  malformed: 'malformed',
  unauthenticated: 'authentication_failed',
  forbidden: 'authentication_failed',
  handshakeTimeout: 'disconnected',
  frameTooLarge: 'limit_exceeded',
  rateLimited: 'rate_limited',
  heartbeat: 'disconnected',
  lagging: 'disconnected',
  draining: 'server_draining',
  internal: 'internal',
} as const satisfies Record<CloseReason, ErrorCode>

/** The error for a connection that its server closed without having said why. */
export function errorOfClose(code: number): ClavigerError {
  const reason = closeReason(code)
  if (reason === null) return new ClavigerError('disconnected', `the connection was lost (${code})`)
  return new ClavigerError(ERROR_BY_CLOSE_REASON[reason], `the server closed the connection: ${reason} (${code})`)
}

const MESSAGE_CHARACTERS_MAX = 300

/** A server’s sentence may end in a terminal: no control characters, and not a page of it. */
function printable(message: string): string {
  return message
    .slice(0, MESSAGE_CHARACTERS_MAX)
    .replaceAll(/[\p{Cc}\p{Cf}\p{Surrogate}]/gu, ' ')
    .trim()
}

/** By `type`, because a union of all would try each in turn; what is none of these must be an event. */
function schemaOf(value: unknown): z.ZodMiniType<ServerFrame> {
  const type = typeof value === 'object' && value !== null && 'type' in value ? value.type : null
  if (type === 'reply') return Reply
  if (type === 'error') return ErrorReply
  if (type === 'hello') return Hello
  if (type === 'welcome') return Welcome
  return Event
}
