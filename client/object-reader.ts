/**
 * Reading objects: every header judged before anything is opened, bodies chunk by chunk.
 */
import { concat, equalBytes, toHex } from '../shared/bytes.ts'
import type { Dek } from '../shared/crypto/keys.ts'
import { ClavigerError, hasCode } from '../shared/errors.ts'
import type { IdentityId, ObjectId, PageId } from '../shared/ids.ts'
import { idKey } from '../shared/ids.ts'
import { BATCH_ITEMS_MAX } from '../shared/limits.ts'
import { assertRange, openBodyRange, openInlineBody } from '../shared/objects/body.ts'
import type { SignedHeader } from '../shared/objects/header.ts'
import { isTombstone } from '../shared/objects/header.ts'
import type { ObjectMetadata } from '../shared/objects/metadata.ts'
import { openMetadata } from '../shared/objects/metadata.ts'
import type { StoredObject } from '../shared/protocol/messages.ts'
import { readBody, readHashes } from './body-transfer.ts'
import type { DekOpener } from './dek-opener.ts'
import { isBadSeal } from './dek-opener.ts'
import type { GroupContext } from './group-context.ts'
import type { GroupLog } from './group-log.ts'
import type { HeaderVerdict, IndexMark, KnownObject, ObjectIndex } from './object-index.ts'
import type { CachedPage } from './pages.ts'
import { withPatience } from './patience.ts'

/** An object as read: its body is opened when asked for. */
export interface ReadObject {
  readonly id: ObjectId
  readonly version: number
  readonly author: IdentityId
  /** Plaintext bytes. */
  readonly length: number
  readonly metadata: ObjectMetadata
  /** Opens plaintext bytes `[start, end)`, each chunk checked before it is released. */
  readonly read: (start?: number, end?: number) => AsyncIterable<Uint8Array>
}

/** The parts that reading needs from the group. */
export interface ObjectReaderParts {
  readonly context: GroupContext
  readonly log: GroupLog
  readonly index: ObjectIndex
  readonly deks: DekOpener
}

/** Times an object is asked for again because it changed, or its epoch was retired, while its answer was on its way. */
const REFETCHES_MAX = 8

/** One answer of the server, judged, with what was held and open when it was asked for. */
interface Reply {
  readonly stored: readonly (StoredObject | null)[]
  readonly verdicts: readonly (HeaderVerdict | null)[]
  readonly mark: IndexMark
  /** Pages it may refer to by name; those that come with it are added. */
  readonly pages: Map<string, CachedPage>
}

/** One object of an answer, its header judged. */
interface Found {
  readonly signed: SignedHeader
  readonly stored: StoredObject
}

/** One group’s objects, as they are read. */
export class ObjectReader {
  readonly #parts: ObjectReaderParts

  constructor(parts: ObjectReaderParts) {
    this.#parts = parts
  }

  /**
   * Reads objects, one request a thousand.
   *
   * @throws ClavigerError `not_found`, `withheld`, `object_fork`, `dek_invalid`, `page_invalid`, `epoch_unavailable`, … with `data.object`.
   */
  async read(ids: readonly ObjectId[]): Promise<ReadObject[]> {
    const read: ReadObject[] = []
    for (let from = 0; from < ids.length; from += BATCH_ITEMS_MAX)
      read.push(...(await this.#readBatch(ids.slice(from, from + BATCH_ITEMS_MAX))))
    return read
  }

  /** Learns the newest versions of objects, opening nothing. */
  learn(ids: readonly ObjectId[]): Promise<void> {
    const { context, log, index } = this.#parts
    return withPatience(context, async () => {
      log.assertRunning()
      const mark = index.mark(ids)
      const { seq, headers } = await context.connection.request('object.headers', { group: context.group, objects: [...ids] })
      if (seq > log.state.head.seq) await log.sync()
      await index.acceptAll(
        headers.filter((header) => header !== null),
        mark,
      )
    })
  }

  async #readBatch(ids: readonly ObjectId[]): Promise<ReadObject[]> {
    const found = new Map<string, ReadObject>()
    let left = ids
    for (let fetch = 0; left.length > 0; fetch += 1) {
      if (fetch > REFETCHES_MAX) throw new ClavigerError('gave_up', 'the objects changed faster than they could be read')
      for (const object of await this.#fetchAll(left, fetch)) found.set(idKey(object.id), object)
      left = left.filter((id) => !found.has(idKey(id)))
    }
    return ids.flatMap((id) => found.get(idKey(id)) ?? [])
  }

  /** An answer may stop short of what was asked for: the rest is asked for again. */
  async #fetchAll(ids: readonly ObjectId[], fetch: number): Promise<ReadObject[]> {
    const read: ReadObject[] = []
    for (let from = 0; from < ids.length;) {
      const rest = ids.slice(from)
      const answer = await withPatience(this.#parts.context, () => this.#fetch(rest, fetch))
      read.push(...answer.read)
      from += answer.count
    }
    return read
  }

  /** Reads what an answer has, `count` of the first ones, without what was overtaken while it was on its way. */
  async #fetch(ids: readonly ObjectId[], fetch: number): Promise<{ readonly read: ReadObject[]; readonly count: number }> {
    const { context, log, index, deks } = this.#parts
    log.assertRunning()
    const mark = index.mark(ids)
    const pages = new Map(deks.openPages().map((page) => [idKey(page.pageId), page]))
    // An answer may name a page that has been dropped since: asked again, no page is named.
    const openPages: PageId[] = fetch === 0 ? [...pages.values()].map(({ pageId }) => pageId) : []
    const params = { group: context.group, objects: [...ids], openPages }
    const { seq, objects } = await context.connection.request('object.get', params)
    if (objects.length < 1 || objects.length > ids.length)
      throw new ClavigerError('malformed', 'the answer has none of the objects that were asked for, or more')
    if (seq > log.state.head.seq) await log.sync()
    const reply = { stored: objects, mark, pages, verdicts: await this.#judge(objects, mark) }
    const read: ReadObject[] = []
    for (const [position, id] of ids.slice(0, objects.length).entries()) {
      const object = await this.#openOne(id, reply, position)
      if (object !== null) read.push(object)
    }
    return { read, count: objects.length }
  }

  /** The headers of an answer, judged: null where it has none. */
  async #judge(stored: readonly (StoredObject | null)[], mark: IndexMark): Promise<(HeaderVerdict | null)[]> {
    const verdicts = await this.#parts.index.acceptAll(
      stored.flatMap((one) => (one === null ? [] : [one.header])),
      mark,
    )
    const rest = verdicts.values()
    return stored.map((one) => (one === null ? null : (rest.next().value ?? null)))
  }

  /** Null if the object has to be asked for again. */
  async #openOne(id: ObjectId, reply: Reply, position: number): Promise<ReadObject | null> {
    const [stored, verdict] = [reply.stored[position] ?? null, reply.verdicts[position] ?? null]
    try {
      if (stored === null || verdict === null) throw new ClavigerError(isMissed(reply.mark.get(toHex(id))) ? 'withheld' : 'not_found')
      if (verdict.state === 'overtaken') return null
      if (verdict.state === 'refused') throw verdict.error
      const { signed } = verdict
      if (!equalBytes(signed.header.object, id))
        throw new ClavigerError('object_fork', 'the server shows another object under this id', { data: { offered: stored.header } })
      if (isTombstone(signed.header)) throw new ClavigerError('not_found')
      return await this.#open({ signed, stored }, reply)
    } catch (error) {
      // Retired while the answer was on its way: the DEK is sealed under a newer epoch by now.
      if (hasCode(error, 'epoch_retired')) return null
      throw error instanceof ClavigerError ? withObject(error, id) : error
    }
  }

  async #open(found: Found, { pages }: Reply): Promise<ReadObject> {
    const { header } = found.signed
    const dek = await this.#dekOf(found, pages)
    const { object: id, version, author, bodyLength, generation } = header
    const metadata = openMetadata(dek, { group: this.#parts.context.group, object: id, generation }, header.metadata)
    return { id, version, author, length: bodyLength, metadata, read: (start, end) => this.#readBody({ ...found, dek }, start, end) }
  }

  /** The DEK of a verified header from wherever it is sealed, or from a superseded seal if that one is bad. */
  async #dekOf({ signed, stored }: Found, pages: Map<string, CachedPage>): Promise<Dek> {
    const { context, deks } = this.#parts
    try {
      return await deks.open(signed, stored.dek, pages)
    } catch (error) {
      if (!isBadSeal(error)) throw error
      // Whoever can only read cannot heal: the others are to know.
      context.emit({ type: 'bad-item', signer: null, error: withObject(error, signed.header.object) })
      const dek = await deks.openSuperseded(signed)
      if (dek === null) throw error
      await this.#heal(signed, dek)
      return dek
    }
  }

  async #heal(signed: SignedHeader, dek: Dek): Promise<void> {
    try {
      await this.#parts.deks.reseal(signed, dek)
    } catch (error) {
      // A reader cannot heal, and the next one who can will.
      if (!(error instanceof ClavigerError)) throw error
    }
  }

  // ——— Bodies ———

  async *#readBody(
    { signed, stored, dek }: Found & { readonly dek: Dek },
    start = 0,
    end: number = signed.header.bodyLength,
  ): AsyncGenerator<Uint8Array> {
    const { context, log } = this.#parts
    const { header } = signed
    assertRange(start, end, header.bodyLength)
    const secret = {
      dek,
      context: { group: context.group, object: header.object, generation: header.generation },
      suite: log.state.roster.suite,
    }
    if (stored.body !== null) {
      const plain = await openInlineBody(secret, header, stored.body)
      yield plain.subarray(start, end)
      return
    }
    const { bodyId } = stored
    if (bodyId === null) throw new ClavigerError('body_invalid')
    const body = await readHashes(context, { bodyId, header, suite: secret.suite })
    yield* openBodyRange({ secret, body, read: (offset, bytes) => readBody(context, bodyId, { offset, bytes }) }, start, end)
  }
}

/** Whether an object that is not shown should be. */
function isMissed(held: KnownObject | undefined): boolean {
  return held !== undefined && !held.isDeleted
}

/** Collects a body in memory. */
export async function collect(pieces: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const all: Uint8Array[] = []
  for await (const piece of pieces) all.push(piece)
  return concat(...all)
}

/** The same error, naming the object it is about. */
function withObject(error: ClavigerError, object: ObjectId): ClavigerError {
  return new ClavigerError(error.code, error.message, { cause: error.cause ?? error, data: { object, ...error.data } })
}
