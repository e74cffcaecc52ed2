/**
 * Where a client keeps what it must not lose: a small ordered map of byte strings with atomic, durable batches.
 *
 * Values are kept as they are, epoch secrets and an identity’s seeds among them: a store is as safe as the place it is in.
 * Implementations: memory-store.ts and node/file-store.ts; one suite of tests runs over all.
 */
import { isBytes } from '../shared/bytes.ts'
import { STORE_BATCH_BYTES_MAX, STORE_KEY_CHARACTERS_MAX } from '../shared/limits.ts'

/** Values by key; null deletes. */
export type StoreBatch = ReadonlyMap<string, Uint8Array | null>

/** A durable map. After `close` every other method rejects with `closed`. */
export interface Store {
  /** The value of `key`, or null. The caller owns the array. */
  get(key: string): Promise<Uint8Array | null>
  /** All entries whose keys start with `prefix`, in ascending order of UTF-16 code units. The caller owns the arrays. */
  getAll(prefix: string): Promise<ReadonlyMap<string, Uint8Array>>
  /**
   * Writes all of `batch` or nothing. What it resolves for survives a crash; reads see it from then on.
   * Batches take effect in the order of the calls.
   *
   * @throws TypeError for a key or value that is none, RangeError past the limits.
   */
  write(batch: StoreBatch): Promise<void>
  /** Waits for the writes under way and lets go of files and locks. Again: nothing. */
  close(): Promise<void>
}

/**
 * A copy of `batch` that its caller cannot change any more.
 *
 * @throws TypeError or RangeError as `Store.write` does.
 */
export function copyBatch(batch: StoreBatch): Map<string, Uint8Array | null> {
  const copy = new Map<string, Uint8Array | null>()
  for (const [key, value] of batch) {
    assertKey(key)
    if (value !== null && !isBytes(value)) throw new TypeError(`value of ${key} must be a Uint8Array or null`)
    copy.set(key, value === null ? null : Uint8Array.from(value))
  }
  const bytes = batchBytes(copy)
  if (bytes > STORE_BATCH_BYTES_MAX) throw new RangeError(`batch must be at most ${STORE_BATCH_BYTES_MAX} bytes, got ${bytes}`)
  return copy
}

/** What `batch` counts against its limit: at least as many bytes as any store writes for it. */
export function batchBytes(batch: StoreBatch): number {
  let bytes = 0
  for (const [key, value] of batch) bytes += entryBytes(key, value)
  return bytes
}

/** What one entry counts: three bytes a character are the most UTF-8 takes, 16 are for lengths. */
export function entryBytes(key: string, value: Uint8Array | null): number {
  return 3 * key.length + (value?.length ?? 0) + 16
}

/** Applies `batch` to `entries` in place. */
export function applyBatch(entries: Map<string, Uint8Array>, batch: StoreBatch): void {
  for (const [key, value] of batch) {
    if (value === null) entries.delete(key)
    else entries.set(key, value)
  }
}

/** Copies of the entries whose keys start with `prefix`, sorted. */
export function selectPrefix(entries: ReadonlyMap<string, Uint8Array>, prefix: string): Map<string, Uint8Array> {
  const selected: [string, Uint8Array][] = []
  for (const [key, value] of entries) if (key.startsWith(prefix)) selected.push([key, Uint8Array.from(value)])
  return new Map(selected.sort(([left], [right]) => (left < right ? -1 : 1)))
}

function assertKey(key: unknown): void {
  if (typeof key !== 'string' || key === '') throw new TypeError('key must be a string that is not empty')
  if (key.length > STORE_KEY_CHARACTERS_MAX)
    throw new RangeError(`key must be at most ${STORE_KEY_CHARACTERS_MAX} characters, got ${key.length}`)
  if (/\p{Surrogate}/u.test(key)) throw new TypeError('key must be well-formed Unicode')
}
