/** Moving big bodies: 1 MiB parts up in frames of 256 KiB, any byte range down; both with a bounded window. */
import { concat } from '../shared/bytes.ts'
import { randomBytes } from '../shared/crypto/public-crypto.ts'
import { ClavigerError } from '../shared/errors.ts'
import type { BodyId } from '../shared/ids.ts'
import { asBodyId, OBJECT_ID_BYTES } from '../shared/ids.ts'
import { BODY_FRAME_BYTES, BODY_PART_BYTES } from '../shared/limits.ts'
import type { CheckedBody } from '../shared/objects/body-layout.ts'
import { checkHashes, hashListBytes } from '../shared/objects/body-layout.ts'
import { rechunk } from '../shared/objects/rechunk.ts'
import type { SuiteId } from '../shared/crypto/suites.ts'
import type { GroupContext } from './group-context.ts'
import { withPatience } from './patience.ts'

type TransferContext = Pick<GroupContext, 'connection' | 'group' | 'random'>

/** Frames asked for ahead of the reader. */
const READ_AHEAD_FRAMES = 4

/** A body on its way up. */
export interface Upload {
  /** Ciphertext; read once. */
  readonly chunks: AsyncIterable<Uint8Array>
  /** The hashes of all chunks, asked for when they have been read. */
  readonly hashes: () => Uint8Array
  readonly signal?: AbortSignal | undefined
}

/**
 * Uploads ciphertext as a new stored body under a fresh name. After a lost connection it goes on with the part that was on
 * its way.
 *
 * @returns the name, once everything is durable and readers can be sent to it.
 */
export async function uploadBody(context: TransferContext, { chunks, hashes, signal }: Upload): Promise<BodyId> {
  const bodyId = asBodyId(randomBytes(OBJECT_ID_BYTES))
  const { connection, group } = context
  const patiently = <T>(task: () => Promise<T>): Promise<T> => withPatience(context, task, signal)
  await patiently(() => connection.request('body.begin', { group, bodyId }))
  let part = 0
  for await (const { bytes } of rechunk(untilAborted(chunks, signal), BODY_PART_BYTES)) {
    await patiently(() => writePart(context, { bodyId, part, bytes }))
    part += 1
  }
  await patiently(() => connection.request('body.complete', { group, bodyId, hashes: hashes() }))
  return bodyId
}

/** All frames of a part go in one session: a server does not put together what came in two. */
async function writePart(
  { connection, group }: TransferContext,
  { bodyId, part, bytes }: { bodyId: BodyId; part: number; bytes: Uint8Array },
): Promise<void> {
  const { number: session } = await connection.whenOpen()
  const frames: Promise<{ durable: boolean }>[] = []
  for (let offset = 0; offset === 0 || offset < bytes.length; offset += BODY_FRAME_BYTES) {
    const data = bytes.subarray(offset, offset + BODY_FRAME_BYTES)
    frames.push(
      connection.request('body.write', { group, bodyId, part, offset, data, last: offset + data.length === bytes.length }, { session }),
    )
  }
  const replies = await Promise.all(frames)
  if (!replies.some(({ durable }) => durable)) throw new ClavigerError('body_incomplete')
}

/** The same pieces, until the signal says to stop, whether or not another one comes. */
async function* untilAborted(pieces: AsyncIterable<Uint8Array>, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
  if (signal === undefined) {
    yield* pieces
    return
  }
  const iterator = pieces[Symbol.asyncIterator]()
  let abort: () => void = () => undefined
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(signal.reason)
  })
  // Looked at only while a piece is being waited for.
  aborted.catch(() => undefined)
  signal.addEventListener('abort', abort)
  try {
    for (;;) {
      signal.throwIfAborted()
      const next = await Promise.race([iterator.next(), aborted])
      if (next.done === true) return
      yield next.value
    }
  } finally {
    signal.removeEventListener('abort', abort)
    // Not waited for: a source that hangs would never end.
    iterator.return?.()?.catch(() => undefined)
  }
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
    const { data } = await withPatience(context, () =>
      context.connection.request('body.hashes', { group: context.group, bodyId, offset, bytes }),
    )
    pieces.push(data)
  }
  return checkHashes(header, suite, concat(...pieces))
}

/** Reads ciphertext `[offset, offset + bytes)`, a few frames ahead of its consumer. */
export async function* readBody(
  context: TransferContext,
  bodyId: BodyId,
  range: { offset: number; bytes: number },
): AsyncGenerator<Uint8Array> {
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

async function readFrame(
  context: TransferContext,
  bodyId: BodyId,
  { offset, bytes }: { offset: number; bytes: number },
): Promise<Uint8Array> {
  const { connection, group } = context
  const { data } = await withPatience(context, () => connection.request('body.read', { group, bodyId, offset, bytes }))
  return data
}
