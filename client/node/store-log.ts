/**
 * The file behind a file store: a header, then frames, each one atomic batch. docs/FORMATS.md has the layout.
 *
 *     file  = "claviger-store1\n" (16) ‖ marker (16 random bytes) ‖ SHA-256 of these (32) ‖ frame*
 *     frame = marker (16) ‖ length u32 ‖ sequence u64 ‖ check (16) ‖ payload (length bytes)
 *     check = SHA-256(marker ‖ length ‖ sequence ‖ payload), the first 16 bytes
 *
 * A frame is written only after the one before it is on the disk, so a crash can tear the last one alone. A frame that
 * does not check is therefore a torn tail if no whole frame follows, and damage (`store_invalid`) if one does. The marker
 * is random so that no stored value can pass for a frame.
 */
import { createHash, randomBytes } from 'node:crypto'
import type { FileHandle } from 'node:fs/promises'
import { z } from 'zod/mini'
import { concat, equalBytes, u32, u64 } from '../../shared/bytes.ts'
import { decodePlain, encodeCanonical } from '../../shared/codec.ts'
import { ClavigerError } from '../../shared/errors.ts'
import { STORE_BATCH_BYTES_MAX } from '../../shared/limits.ts'
import type { StoreBatch } from '../store.ts'

const MAGIC = Uint8Array.from(Buffer.from('claviger-store1\n', 'latin1'))
const MARKER_BYTES = 16
const CHECK_BYTES = 16
const DIGEST_BYTES = 32
const FILE_HEADER_BYTES = MAGIC.length + MARKER_BYTES + DIGEST_BYTES
const FRAME_HEADER_BYTES = MARKER_BYTES + 4 + 8 + CHECK_BYTES
/** The limit of a batch counts more than CBOR needs for each entry; the rest is the array’s own head. */
const PAYLOAD_BYTES_MAX = STORE_BATCH_BYTES_MAX + 16

/** Where the next frame goes. */
export interface LogPosition {
  readonly marker: Uint8Array
  readonly offset: number
  readonly sequence: number
}

const Payload = z.array(z.tuple([z.string(), z.nullable(z.instanceof(Uint8Array))]))

/** The header of a new file and the position after it. */
export function startLog(): { readonly header: Uint8Array; readonly position: LogPosition } {
  const marker = Uint8Array.from(randomBytes(MARKER_BYTES))
  const start = concat(MAGIC, marker)
  return { header: concat(start, sha256(start)), position: { marker, offset: FILE_HEADER_BYTES, sequence: 0 } }
}

/** One batch as a frame for `position`, and the position after it. */
export function encodeFrame(
  { marker, offset, sequence }: LogPosition,
  batch: StoreBatch,
): { readonly frame: Uint8Array; readonly position: LogPosition } {
  const payload = encodeCanonical([...batch])
  const fields = concat(u32(payload.length), u64(sequence))
  const frame = concat(marker, fields, frameCheck(marker, fields, payload), payload)
  return { frame, position: { marker, offset: offset + frame.length, sequence: sequence + 1 } }
}

/**
 * Reads a whole log, batch by batch.
 *
 * @returns where it goes on: what lies behind that is a torn tail.
 * @throws ClavigerError `store_invalid` for a file that is not a log, or a damaged one.
 */
export async function readLog(file: FileHandle, apply: (batch: StoreBatch) => void): Promise<LogPosition> {
  const { size } = await file.stat()
  let position: LogPosition = { marker: await readMarker(file, size), offset: FILE_HEADER_BYTES, sequence: 0 }
  for (;;) {
    const payload = await readFrame(file, size, position)
    if (payload === null) break
    apply(decodePayload(payload))
    position = { ...position, offset: position.offset + FRAME_HEADER_BYTES + payload.length, sequence: position.sequence + 1 }
  }
  if (await hasWholeFrame(file, size, position)) throw invalid(`the store is damaged at byte ${position.offset}`)
  return position
}

async function readMarker(file: FileHandle, size: number): Promise<Uint8Array> {
  if (size < FILE_HEADER_BYTES) throw invalid('the file is not a store')
  const header = await readAt(file, 0, FILE_HEADER_BYTES)
  if (!equalBytes(header.subarray(0, MAGIC.length), MAGIC)) throw invalid('the file is not a store, or one of another version')
  const checked = MAGIC.length + MARKER_BYTES
  if (!equalBytes(header.subarray(checked), sha256(header.subarray(0, checked)))) throw invalid('the header of the store is damaged')
  return header.slice(MAGIC.length, checked)
}

/** The payload of the frame at `position`; null if there is no whole one with its number. */
async function readFrame(file: FileHandle, size: number, position: LogPosition): Promise<Uint8Array | null> {
  if (position.offset + FRAME_HEADER_BYTES > size) return null
  const header = await readAt(file, position.offset, FRAME_HEADER_BYTES)
  const { length, sequence } = readFields(header)
  if (sequence !== BigInt(position.sequence) || length > PAYLOAD_BYTES_MAX) return null
  if (position.offset + FRAME_HEADER_BYTES + length > size) return null
  const payload = await readAt(file, position.offset + FRAME_HEADER_BYTES, length)
  return isWhole(position.marker, header, payload) ? payload : null
}

function decodePayload(payload: Uint8Array): StoreBatch {
  const parsed = Payload.safeParse(decodePlain(payload))
  if (!parsed.success) throw invalid('a batch in the store is not well-formed')
  return new Map(parsed.data)
}

/** Whether a whole frame starts at `position`, out of turn, or anywhere behind. A torn tail is at most one frame long. */
async function hasWholeFrame(file: FileHandle, size: number, { marker, offset }: LogPosition): Promise<boolean> {
  if (size - offset > FRAME_HEADER_BYTES + PAYLOAD_BYTES_MAX) return true
  const tail = Buffer.from(await readAt(file, offset, size - offset))
  for (let start = tail.indexOf(marker); start !== -1; start = tail.indexOf(marker, start + 1)) {
    const header = tail.subarray(start, start + FRAME_HEADER_BYTES)
    if (header.length < FRAME_HEADER_BYTES) return false
    const payloadStart = start + FRAME_HEADER_BYTES
    const payload = tail.subarray(payloadStart, payloadStart + readFields(header).length)
    if (isWhole(marker, header, payload)) return true
  }
  return false
}

function readFields(header: Uint8Array): { readonly length: number; readonly sequence: bigint } {
  const view = new DataView(header.buffer, header.byteOffset, header.length)
  return { length: view.getUint32(MARKER_BYTES), sequence: view.getBigUint64(MARKER_BYTES + 4) }
}

function isWhole(marker: Uint8Array, header: Uint8Array, payload: Uint8Array): boolean {
  const fields = header.subarray(MARKER_BYTES, MARKER_BYTES + 12)
  if (!equalBytes(header.subarray(0, MARKER_BYTES), marker)) return false
  return equalBytes(header.subarray(MARKER_BYTES + 12), frameCheck(marker, fields, payload))
}

function frameCheck(marker: Uint8Array, fields: Uint8Array, payload: Uint8Array): Uint8Array {
  return sha256(marker, fields, payload).subarray(0, CHECK_BYTES)
}

function sha256(...parts: readonly Uint8Array[]): Uint8Array {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(part)
  return hash.digest()
}

async function readAt(file: FileHandle, position: number, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length)
  let read = 0
  while (read < length) {
    const { bytesRead } = await file.read(bytes, read, length - read, position + read)
    if (bytesRead === 0) throw invalid('the store became shorter while it was read')
    read += bytesRead
  }
  return bytes
}

function invalid(message: string): ClavigerError {
  return new ClavigerError('store_invalid', message)
}
