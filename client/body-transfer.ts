/** Moving big bodies: 1 MiB parts up in frames of 256 KiB, any byte range down; both with a bounded window. */
import { concat } from '../shared/bytes.ts'
import { randomBytes } from '../shared/crypto/public-crypto.ts'
import { ClavigerError, hasCode } from '../shared/errors.ts'
import type { BodyId } from '../shared/ids.ts'
import { asBodyId, OBJECT_ID_BYTES } from '../shared/ids.ts'
import { BODY_FRAME_BYTES, BODY_PART_BYTES } from '../shared/limits.ts'
import type { CheckedBody } from '../shared/objects/body-layout.ts'
import { checkHashes, hashListBytes } from '../shared/objects/body-layout.ts'
import { rechunk } from '../shared/objects/rechunk.ts'
import type { SuiteId } from '../shared/crypto/suites.ts'
import type { GroupContext } from './group-context.ts'

type TransferContext = Pick<GroupContext, 'connection' | 'group'>

/** Tries of one part or frame across lost connections. */
const TRANSFER_ATTEMPTS_MAX = 8
/** Frames asked for ahead of the reader. */
const READ_AHEAD_FRAMES = 4

/** Uploads ciphertext as a new stored body under a fresh name. @returns the name, once all parts are durable. */
export async function uploadBody(context: TransferContext, chunks: AsyncIterable<Uint8Array>, signal?: AbortSignal): Promise<BodyId> {
  const bodyId = asBodyId(randomBytes(OBJECT_ID_BYTES))
  const { connection, group } = context
  await connection.request('body.begin', { group, bodyId })
  let part = 0
  for await (const { bytes } of rechunk(chunks, BODY_PART_BYTES)) {
    signal?.throwIfAborted()
    await withRetries(context, () => writePart(context, { bodyId, part, bytes }))
    part += 1
  }
  return bodyId
}

/** Tells the server that all parts are there, with the hash list readers will check them by. */
export async function completeBody({ connection, group }: TransferContext, bodyId: BodyId, hashes: Uint8Array): Promise<void> {
  await connection.request('body.complete', { group, bodyId, hashes })
}

async function writePart({ connection, group }: TransferContext, { bodyId, part, bytes }: { bodyId: BodyId; part: number; bytes: Uint8Array }): Promise<void> {
  const frames: Promise<{ durable: boolean }>[] = []
  for (let offset = 0; offset === 0 || offset < bytes.length; offset += BODY_FRAME_BYTES) {
    const data = bytes.subarray(offset, offset + BODY_FRAME_BYTES)
    frames.push(connection.request('body.write', { group, bodyId, part, offset, data, last: offset + data.length === bytes.length }))
  }
  const replies = await Promise.all(frames)
  if (replies.at(-1)?.durable !== true) throw new ClavigerError('body_incomplete')
}

/** Fetches and checks the hash list of a stored body. @throws ClavigerError `body_invalid`. */
export async function readHashes(
  context: TransferContext,
  { bodyId, header, suite }: { bodyId: BodyId; header: { bodyHash: Uint8Array | null; bodyLength: number }; suite: SuiteId },
): Promise<CheckedBody> {
  const total = hashListBytes(header.bodyLength)
  const pieces: Uint8Array[] = []
  for (let offset = 0; offset < total; offset += BODY_FRAME_BYTES) {
    const bytes = Math.min(BODY_FRAME_BYTES, total - offset)
    const { data } = await withRetries(context, () => context.connection.request('body.hashes', { group: context.group, bodyId, offset, bytes }))
    pieces.push(data)
  }
  return checkHashes(header, suite, concat(...pieces))
}

/** Reads ciphertext `[offset, offset + bytes)`, a few frames ahead of its consumer. */
export async function* readBody(context: TransferContext, bodyId: BodyId, range: { offset: number; bytes: number }): AsyncGenerator<Uint8Array> {
  const end = range.offset + range.bytes
  const ahead: Promise<Uint8Array>[] = []
  let next = range.offset
  const fill = (): void => {
    while (ahead.length < READ_AHEAD_FRAMES && next < end) {
      const frame = readFrame(context, bodyId, { offset: next, bytes: Math.min(BODY_FRAME_BYTES, end - next) })
      // Whoever stops reading early never looks at the rest.
      frame.catch(() => undefined)
      ahead.push(frame)
      next += BODY_FRAME_BYTES
    }
  }
  for (fill(); ahead.length > 0; fill()) {
    const frame = await ahead.shift()
    if (frame !== undefined) yield frame
  }
}

async function readFrame(context: TransferContext, bodyId: BodyId, { offset, bytes }: { offset: number; bytes: number }): Promise<Uint8Array> {
  const { connection, group } = context
  const { data } = await withRetries(context, () => connection.request('body.read', { group, bodyId, offset, bytes }))
  return data
}

/** A part or frame may be sent or asked for again: both are idempotent. */
async function withRetries<T>({ connection }: TransferContext, task: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await task()
    } catch (error) {
      const isPassing = hasCode(error, 'disconnected', 'timeout', 'server_unavailable', 'server_draining', 'body_incomplete')
      if (!isPassing || attempt === TRANSFER_ATTEMPTS_MAX) throw error
      await connection.whenOpen()
    }
  }
}
