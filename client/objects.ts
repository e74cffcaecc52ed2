/**
 * The objects of one group: reading, writing, and writing many at once.
 */
import { ClavigerError } from '../shared/errors.ts'
import type { ObjectId } from '../shared/ids.ts'
import { utf8ToBytes } from '@noble/hashes/utils.js'
import { BATCH_BYTES_MAX, BATCH_ITEMS_MAX, INLINE_BODY_BYTES_MAX, METADATA_BYTES_MAX } from '../shared/limits.ts'
import type { ObjectReaderParts, ReadObject } from './object-reader.ts'
import { ObjectReader } from './object-reader.ts'
import type { BodySource, Draft, ObjectWriterParts, PutOptions, PutReceipt, WriteOutcome } from './object-writer.ts'
import { ObjectWriter } from './object-writer.ts'

/** One object of a `putMany`. */
export interface PutManyItem extends Omit<PutOptions, 'signal'> {
  readonly body: Uint8Array | string
}

/** The parts that objects need from the group. */
export type ObjectsParts = ObjectReaderParts & Omit<ObjectWriterParts, 'learn'>

/** Header, path and seal of one item, with room for metadata. */
const ENVELOPE_BYTES_ESTIMATE = 1500

/** One group’s objects. */
export class Objects {
  readonly #reader: ObjectReader
  readonly #writer: ObjectWriter

  constructor(parts: ObjectsParts) {
    this.#reader = new ObjectReader(parts)
    this.#writer = new ObjectWriter({ ...parts, learn: (object) => this.#reader.learn([object]) })
  }

  /** Writes one object. @throws ClavigerError `version_conflict`, `not_authorised`, `gave_up`. */
  async put(body: BodySource, options: PutOptions = {}): Promise<PutReceipt> {
    return this.#writeOne(await this.#writer.draft(body, options), options.signal)
  }

  /** Deletes an object: a signed tombstone that stays. @throws ClavigerError `not_found`, `version_conflict`. */
  async delete(id: ObjectId, signal?: AbortSignal): Promise<PutReceipt> {
    return this.#writeOne(await this.#writer.draftDeletion(id), signal)
  }

  /**
   * Writes many objects: one signature and one transaction a batch. The next batch is sealed while one is on its way.
   *
   * Each item is accepted or refused by itself.
   *
   * @throws ClavigerError of the first item that was refused: `data.accepted` are the receipts of those that were
   *   written, `data.refused` id and code of the others.
   */
  async putMany(items: readonly PutManyItem[], signal?: AbortSignal): Promise<PutReceipt[]> {
    const outcomes: WriteOutcome[] = []
    let underWay: Promise<WriteOutcome[]> = Promise.resolve([])
    for (const batch of batchesOf(items)) {
      signal?.throwIfAborted()
      const drafts: Draft[] = []
      for (const { body, ...options } of batch) drafts.push(await this.#writer.draft(body, options))
      outcomes.push(...(await underWay))
      underWay = this.#writer.write(drafts, signal)
      // It is awaited in the next round; until then nobody else may be blamed for its failure.
      underWay.catch(() => undefined)
    }
    outcomes.push(...(await underWay))
    return receiptsOf(outcomes)
  }

  /** Reads one object. @throws ClavigerError `not_found`, `withheld`, `object_fork`, `dek_invalid`, `page_invalid`, `epoch_unavailable`. */
  async get(id: ObjectId): Promise<ReadObject> {
    const [object] = await this.getMany([id])
    if (object === undefined) throw new ClavigerError('not_found')
    return object
  }

  /** Reads many objects, in the order asked. */
  async getMany(ids: readonly ObjectId[]): Promise<ReadObject[]> {
    return this.#reader.read(ids)
  }

  async #writeOne(draft: Draft, signal: AbortSignal | undefined): Promise<PutReceipt> {
    const [outcome] = await this.#writer.write([draft], signal)
    if (outcome?.state === 'written') return outcome.receipt
    throw outcome?.error ?? new ClavigerError('internal')
  }
}

function receiptsOf(outcomes: readonly WriteOutcome[]): PutReceipt[] {
  const accepted = outcomes.flatMap((outcome) => (outcome.state === 'written' ? [outcome.receipt] : []))
  const refused = outcomes.flatMap((outcome) => (outcome.state === 'refused' ? [outcome] : []))
  const [first] = refused
  if (first === undefined) return accepted
  const { code, message, data, cause } = first.error
  throw new ClavigerError(code, message, {
    cause,
    data: { ...data, accepted, refused: refused.map(({ object, error }) => ({ id: object, code: error.code })) },
  })
}

/** About what an item adds to its request; what is too long to be stored with its header is uploaded beforehand. */
function requestBytes({ body, name = '', type = '', custom }: PutManyItem): number {
  const bodyBytes = typeof body === 'string' ? utf8ToBytes(body).length : body.length
  // Three bytes a character are the most UTF-8 takes; padding at most doubles what is sealed.
  const metadataBytes = 2 * (3 * (name.length + type.length) + (custom?.length ?? 0))
  return ENVELOPE_BYTES_ESTIMATE + Math.min(metadataBytes, METADATA_BYTES_MAX) + (bodyBytes > INLINE_BODY_BYTES_MAX ? 0 : bodyBytes)
}

/** Items in batches that the server takes in one transaction; an object twice is the caller’s mistake wherever it stands. */
function* batchesOf(items: readonly PutManyItem[]): Generator<PutManyItem[]> {
  let batch: PutManyItem[] = []
  let bytes = 0
  for (const item of items) {
    const size = requestBytes(item)
    if (batch.length === BATCH_ITEMS_MAX || (batch.length > 0 && bytes + size > BATCH_BYTES_MAX)) {
      yield batch
      ;[batch, bytes] = [[], 0]
    }
    batch.push(item)
    bytes += size
  }
  if (batch.length > 0) yield batch
}
