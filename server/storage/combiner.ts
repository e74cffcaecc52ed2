/**
 * Combines writes: one transaction in flight for each group, and what arrives meanwhile goes together into the next.
 *
 * The writes of one group queue on one row anyway; combined, they queue here and share a trip and a sync to disk.
 */
import type { GroupId } from '../../shared/ids.ts'
import { idKey } from '../../shared/ids.ts'
import { COMBINED_BYTES_MAX, COMBINED_WRITES_MAX } from '../../shared/limits.ts'
import type { Database } from './database.ts'
import type { WriteItem, WriteRequest, WriteResult } from './writes.ts'
import { writeObjects } from './writes.ts'
import { ClavigerError } from '../../shared/errors.ts'

/** What a transaction wrote, told once it is committed and before its requests are answered. */
export interface CommittedWrites {
  readonly group: GroupId
  readonly seq: number
  /** In order of change. */
  readonly written: readonly { readonly item: WriteItem; readonly change: number }[]
}

interface Waiting {
  readonly request: WriteRequest
  readonly bytes: number
  readonly resolve: (results: readonly WriteResult[]) => void
  readonly reject: (error: unknown) => void
}

/** Bytes a row costs beside what the client chose. */
const ROW_BYTES = 128

/** The writes of one process. */
export class WriteCombiner {
  readonly #database: Database
  readonly #onCommitted: (committed: CommittedWrites) => void
  readonly #waitingByGroup = new Map<string, Waiting[]>()
  readonly #running = new Map<string, Promise<void>>()

  constructor(database: Database, onCommitted: (committed: CommittedWrites) => void = () => undefined) {
    this.#database = database
    this.#onCommitted = onCommitted
  }

  /** As `writeObjects`, in the order of the calls of each group. */
  write(request: WriteRequest): Promise<readonly WriteResult[]> {
    return new Promise((resolve, reject) => {
      const key = idKey(request.group)
      const waiting = this.#waitingByGroup.get(key) ?? []
      waiting.push({ request, bytes: requestBytes(request), resolve, reject })
      this.#waitingByGroup.set(key, waiting)
      if (!this.#running.has(key)) this.#running.set(key, this.#drain(key))
    })
  }

  /** Waits until nothing is under way. */
  async settle(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running.values())
  }

  /** Never rejects: each failure goes to its own requests. */
  async #drain(key: string): Promise<void> {
    const waiting = this.#waitingByGroup.get(key) ?? []
    while (waiting.length > 0) await this.#writeTogether(takeCompatible(waiting))
    this.#waitingByGroup.delete(key)
    this.#running.delete(key)
  }

  async #writeTogether(taken: readonly Waiting[]): Promise<void> {
    const [first] = taken
    if (first === undefined) return
    let results: readonly WriteResult[]
    try {
      const items = taken.flatMap(({ request }) => request.items)
      results = await writeObjects(this.#database, { ...first.request, items })
    } catch (error) {
      // What the database refuses as a whole may be the fault of one request: find out which, each alone.
      if (taken.length > 1 && !(error instanceof ClavigerError)) for (const one of taken) await this.#writeTogether([one])
      else for (const { reject } of taken) reject(error)
      return
    }
    this.#answer(taken, results)
  }

  #answer(taken: readonly Waiting[], results: readonly WriteResult[]): void {
    this.#tell(taken, results)
    let from = 0
    for (const { request, resolve } of taken) {
      resolve(results.slice(from, from + request.items.length))
      from += request.items.length
    }
  }

  #tell(taken: readonly Waiting[], results: readonly WriteResult[]): void {
    const [first] = taken
    if (first === undefined) return
    const items = taken.flatMap(({ request }) => request.items)
    const written = items.flatMap((item, index) => {
      const result = results[index]
      return result?.state === 'accepted' ? [{ item, change: result.change }] : []
    })
    if (written.length > 0) this.#onCommitted({ group: first.request.group, seq: first.request.seq, written })
  }
}

/** Takes from the front, in order, what may share a transaction: one fence, no object twice, within the bounds. */
function takeCompatible(waiting: Waiting[]): readonly Waiting[] {
  const [first] = waiting
  if (first === undefined) return []
  const objects = new Set<string>()
  let bytes = 0
  let count = 0
  for (const { request, ...next } of waiting) {
    const keys = request.items.map(({ object }) => idKey(object))
    const isFirst = count === 0
    const fits = objects.size + keys.length <= COMBINED_WRITES_MAX && bytes + next.bytes <= COMBINED_BYTES_MAX
    const isSameFence = request.seq === first.request.seq && request.epoch === first.request.epoch
    if (!isFirst && !(fits && isSameFence && keys.every((key) => !objects.has(key)))) break
    for (const key of keys) objects.add(key)
    bytes += next.bytes
    count += 1
  }
  return waiting.splice(0, count)
}

function requestBytes({ items }: WriteRequest): number {
  return items.reduce((sum, { header, body, seal }) => sum + ROW_BYTES + header.length + (body?.length ?? 0) + (seal?.length ?? 0), 0)
}
