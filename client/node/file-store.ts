/**
 * A store in a directory of its own: one log of batches, held in memory as well, for one process at a time.
 *
 * Concurrent writes share one flush to the disk. When most of the log is outdated it is written anew beside the old one
 * and takes its place by a rename.
 */
import type { FileHandle } from 'node:fs/promises'
import { mkdir, open, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { platform } from 'node:process'
import type { ProcessLock } from '../../platform/node/process-lock.ts'
import { lockDirectory } from '../../platform/node/process-lock.ts'
import { ClavigerError } from '../../shared/errors.ts'
import { STORE_BATCH_BYTES_MAX } from '../../shared/limits.ts'
import type { Store, StoreBatch } from '../store.ts'
import { applyBatch, batchBytes, copyBatch, entryBytes, selectPrefix } from '../store.ts'
import type { LogPosition } from './store-log.ts'
import { encodeFrame, readLog, startLog } from './store-log.ts'

/** Bytes below which a log is never written anew. */
const REWRITE_BYTES_MIN = 1024 * 1024
/** A log is written anew when it is so many times as large as what is live in it. */
const REWRITE_RATIO = 4
/** Bytes of a batch of a log written anew: bounds memory. */
const REWRITE_BATCH_BYTES = 1024 * 1024

interface PendingWrite {
  readonly batch: StoreBatch
  readonly bytes: number
  readonly resolve: () => void
  readonly reject: (reason: unknown) => void
}

/** The open log. */
interface Log {
  readonly file: FileHandle
  readonly position: LogPosition
}

/** A store on the local disk, for Node. */
export class FileStore implements Store {
  readonly #directory: string
  readonly #lock: ProcessLock & { readonly state: 'acquired' }
  readonly #entries: Map<string, Uint8Array>
  #log: Log
  /** Set once the disk has failed in a way that leaves unknown what it holds; reads go on, writes do not. */
  #failure: ClavigerError | null = null
  #closing: Promise<void> | null = null
  #liveBytes = 0
  #rewriteAbove = REWRITE_BYTES_MIN
  #pending: PendingWrite[] = []
  #writing: Promise<void> | null = null

  private constructor(
    directory: string,
    lock: ProcessLock & { readonly state: 'acquired' },
    { log, entries }: { log: Log; entries: Map<string, Uint8Array> },
  ) {
    this.#directory = directory
    this.#lock = lock
    this.#log = log
    this.#entries = entries
    for (const [key, value] of entries) this.#liveBytes += entryBytes(key, value)
  }

  /**
   * Opens the store in `directory`, which is made if it is missing; nothing else should be kept there.
   *
   * @throws ClavigerError `store_locked` while another process has it open, `store_invalid` if its file is damaged.
   */
  static async open(directory: string): Promise<FileStore> {
    await mkdir(directory, { recursive: true, mode: 0o700 })
    const lock = await lockDirectory(directory)
    if (lock.state === 'held') throw new ClavigerError('store_locked', `process ${lock.pid} uses the store in ${directory}`)
    try {
      return new FileStore(directory, lock, await openLog(directory))
    } catch (error) {
      await lock.release()
      throw error
    }
  }

  async get(key: string): Promise<Uint8Array | null> {
    this.#assertOpen()
    const value = this.#entries.get(key)
    return value === undefined ? null : Uint8Array.from(value)
  }

  async getAll(prefix: string): Promise<ReadonlyMap<string, Uint8Array>> {
    this.#assertOpen()
    return selectPrefix(this.#entries, prefix)
  }

  async write(batch: StoreBatch): Promise<void> {
    this.#assertOpen()
    const copy = copyBatch(batch)
    if (copy.size === 0) return
    await new Promise<void>((resolve, reject) => {
      this.#pending.push({ batch: copy, bytes: batchBytes(copy), resolve, reject })
      this.#writing ??= this.#writePending().finally(() => {
        this.#writing = null
      })
    })
  }

  close(): Promise<void> {
    this.#closing ??= this.#finish()
    return this.#closing
  }

  async #finish(): Promise<void> {
    await this.#writing
    await this.#log.file.close()
    await this.#lock.release()
  }

  #assertOpen(): void {
    if (this.#closing !== null) throw new ClavigerError('closed', 'this store was closed')
  }

  // ——— Writing ———

  async #writePending(): Promise<void> {
    while (this.#pending.length > 0) {
      const group = this.#takeGroup()
      try {
        await this.#append(group)
        for (const { resolve } of group) resolve()
      } catch (error) {
        for (const { reject } of group) reject(error)
      }
    }
  }

  /** The oldest waiting writes, as many as one frame holds. */
  #takeGroup(): readonly PendingWrite[] {
    let bytes = 0
    let count = 0
    for (const write of this.#pending) {
      bytes += write.bytes
      if (count > 0 && bytes > STORE_BATCH_BYTES_MAX) break
      count += 1
    }
    return this.#pending.splice(0, count)
  }

  async #append(group: readonly PendingWrite[]): Promise<void> {
    if (this.#failure !== null) throw this.#failure
    const merged = new Map(group.flatMap(({ batch }) => [...batch]))
    const { frame, position } = encodeFrame(this.#log.position, merged)
    await this.#appendFrame(frame)
    this.#log = { file: this.#log.file, position }
    this.#apply(merged)
    if (position.offset > Math.max(this.#rewriteAbove, REWRITE_RATIO * this.#liveBytes)) await this.#rewrite()
  }

  async #appendFrame(frame: Uint8Array): Promise<void> {
    const { file, position } = this.#log
    try {
      await writeAt(file, frame, position.offset)
    } catch (cause) {
      await this.#dropTail()
      throw failed(cause)
    }
    // After a failed flush the kernel may drop what it held and report success the next time: nothing is known any more.
    await file.datasync().catch((cause: unknown) => this.#fail(cause))
  }

  /** Removes a frame that was written in part, so that the next one follows the last good one. */
  async #dropTail(): Promise<void> {
    try {
      await this.#log.file.truncate(this.#log.position.offset)
    } catch (cause) {
      this.#fail(cause)
    }
  }

  #fail(cause: unknown): never {
    this.#failure = failed(cause)
    throw this.#failure
  }

  #apply(batch: StoreBatch): void {
    for (const key of batch.keys()) {
      const old = this.#entries.get(key)
      if (old !== undefined) this.#liveBytes -= entryBytes(key, old)
    }
    applyBatch(this.#entries, batch)
    for (const [key, value] of batch) if (value !== null) this.#liveBytes += entryBytes(key, value)
  }

  /** Replaces the log by one of what is live. If that fails before the rename, the old one goes on growing. */
  async #rewrite(): Promise<void> {
    const old = this.#log
    this.#rewriteAbove = 2 * old.position.offset
    try {
      this.#log = await writeLog(this.#directory, this.#entries)
    } catch {
      // The batch that led here is on the disk; a full disk will be reported by a batch that is not.
      return
    }
    this.#rewriteAbove = REWRITE_BYTES_MIN
    // Without this a power cut could bring the old log back, without the batches to come.
    await syncDirectory(this.#directory).catch((cause: unknown) => this.#fail(cause))
    await old.file.close()
  }
}

const LOG_NAME = 'log'
const NEW_LOG_NAME = 'log.new'

async function openLog(directory: string): Promise<{ log: Log; entries: Map<string, Uint8Array> }> {
  await rm(join(directory, NEW_LOG_NAME), { force: true })
  const entries = new Map<string, Uint8Array>()
  const file = await openIfThere(join(directory, LOG_NAME))
  if (file === null) return { log: await startEmpty(directory), entries }
  try {
    const position = await readLog(file, (batch) => applyBatch(entries, batch))
    await file.truncate(position.offset)
    // What was read may so far be in the kernel’s memory only, and will be built upon.
    await file.sync()
    return { log: { file, position }, entries }
  } catch (error) {
    await file.close()
    throw error
  }
}

async function openIfThere(path: string): Promise<FileHandle | null> {
  try {
    return await open(path, 'r+')
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null
    throw error
  }
}

async function startEmpty(directory: string): Promise<Log> {
  const log = await writeLog(directory, new Map())
  await syncDirectory(directory)
  return log
}

/** Makes a log of `entries` and puts it in the place of the current one, if any; the directory is still to be synced. */
async function writeLog(directory: string, entries: ReadonlyMap<string, Uint8Array>): Promise<Log> {
  const path = join(directory, NEW_LOG_NAME)
  const file = await open(path, 'wx+', 0o600)
  try {
    const position = await writeEntries(file, entries)
    await file.sync()
    await rename(path, join(directory, LOG_NAME))
    return { file, position }
  } catch (error) {
    await file.close()
    await rm(path, { force: true })
    throw error
  }
}

async function writeEntries(file: FileHandle, entries: ReadonlyMap<string, Uint8Array>): Promise<LogPosition> {
  const { header, position: start } = startLog()
  await writeAt(file, header, 0)
  let position = start
  for (const batch of inBatches(entries)) {
    const encoded = encodeFrame(position, batch)
    await writeAt(file, encoded.frame, position.offset)
    position = encoded.position
  }
  return position
}

function* inBatches(entries: ReadonlyMap<string, Uint8Array>): Generator<StoreBatch> {
  let batch = new Map<string, Uint8Array>()
  let bytes = 0
  for (const [key, value] of entries) {
    batch.set(key, value)
    bytes += entryBytes(key, value)
    if (bytes < REWRITE_BATCH_BYTES) continue
    yield batch
    batch = new Map()
    bytes = 0
  }
  if (batch.size > 0) yield batch
}

async function writeAt(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  let written = 0
  while (written < bytes.length) {
    const { bytesWritten } = await file.write(bytes, written, bytes.length - written, position + written)
    written += bytesWritten
  }
}

/** Makes a rename survive a power cut. Windows has no such call and needs none. */
async function syncDirectory(directory: string): Promise<void> {
  if (platform === 'win32') return
  const handle = await open(directory, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

function failed(cause: unknown): ClavigerError {
  return new ClavigerError('store_failed', undefined, { cause })
}
