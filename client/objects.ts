/**
 * Reading and writing objects: fresh DEK with every write, compare-and-set on versions, nothing released unchecked.
 */
import { concat, equalBytes, wipe } from '../shared/bytes.ts'
import type { Dek } from '../shared/crypto/keys.ts'
import { randomBytes } from '../shared/crypto/public-crypto.ts'
import { utf8ToBytes } from '@noble/hashes/utils.js'
import { ClavigerError, hasCode, isErrorCode } from '../shared/errors.ts'
import type { GroupState } from '../shared/group/fold.ts'
import type { BodyId, IdentityId, ObjectId } from '../shared/ids.ts'
import { asObjectId, OBJECT_ID_BYTES, PROFILE_OBJECT_ID } from '../shared/ids.ts'
import { BATCH_BYTES_MAX, BATCH_ITEMS_MAX, COMMIT_ATTEMPTS_MAX, INLINE_BODY_BYTES_MAX } from '../shared/limits.ts'
import { openBodyRange, openInlineBody, sealBody, sealInlineBody } from '../shared/objects/body.ts'
import type { BodySummary } from '../shared/objects/body.ts'
import { checkDek, dekCommitment, generateDek, openDek, sealDek } from '../shared/objects/dek.ts'
import type { EpochSealKeys } from '../shared/objects/dek.ts'
import type { Header, SignedHeader } from '../shared/objects/header.ts'
import { decodeEnvelope, TOMBSTONE_FIELDS } from '../shared/objects/header.ts'
import { needsVouching } from '../shared/objects/header-rules.ts'
import { issueHeaders } from '../shared/objects/header-signing.ts'
import type { ObjectMetadata } from '../shared/objects/metadata.ts'
import { openMetadata, sealMetadata } from '../shared/objects/metadata.ts'
import { dekForHeader, openPage } from '../shared/objects/page-seal.ts'
import type { DekSource, PutItem, StoredObject } from '../shared/protocol/messages.ts'
import { completeBody, readBody, readHashes, uploadBody } from './body-transfer.ts'
import type { GroupContext } from './group-context.ts'
import type { GroupLog } from './group-log.ts'
import type { Keyring } from './keyring.ts'
import type { KnownObject, ObjectIndex } from './object-index.ts'
import { OpenPages } from './pages.ts'

/** What can be stored. */
export type BodySource = Uint8Array | string | AsyncIterable<Uint8Array>

/** How to write one object. */
export interface PutOptions {
  /** An existing object to write a new version of; a new object otherwise. */
  readonly id?: ObjectId
  readonly name?: string
  /** A media type, RFC 6838. */
  readonly type?: string
  /** The app’s own data, sealed with the name. */
  readonly custom?: Uint8Array
  /** Refuse with `version_conflict` unless this is the latest version. Default: the one this client knows. */
  readonly ifVersion?: number
  readonly signal?: AbortSignal
}

/** A write that was acknowledged. */
export interface PutReceipt {
  readonly id: ObjectId
  readonly version: number
}

/** One object of a `putMany`. */
export interface PutManyItem extends Omit<PutOptions, 'signal'> {
  readonly body: Uint8Array | string
}

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

/** A body that is sealed and waits for its header. */
interface Draft {
  readonly object: ObjectId
  readonly version: number
  readonly previous: Uint8Array | null
  /** Null in a deletion. */
  readonly content: DraftContent | null
}

interface DraftContent {
  readonly dek: Dek
  readonly summary: BodySummary
  readonly metadata: Uint8Array
  readonly inline: Uint8Array | null
  readonly bodyId: BodyId | null
}

/** The parts that writes need from the group. */
export interface ObjectsParts {
  readonly context: GroupContext
  readonly log: GroupLog
  readonly keyring: Keyring
  readonly index: ObjectIndex
  /** Opens the epoch that is owed, if one is. */
  readonly settle: () => Promise<void>
}

/** One group’s objects. */
export class Objects {
  readonly #parts: ObjectsParts
  readonly #pages = new OpenPages()

  constructor(parts: ObjectsParts) {
    this.#parts = parts
  }

  /** Forgets what was opened under retired epochs. */
  dropThrough(epoch: number): void {
    this.#pages.dropThrough(epoch)
  }

  // ——— Writing ———

  /** Writes one object. @throws ClavigerError `version_conflict`, `not_authorised`, `gave_up`. */
  async put(body: BodySource, options: PutOptions = {}): Promise<PutReceipt> {
    const draft = await this.#draft(body, options)
    return this.#write([draft], options.signal).then((receipts) => only(receipts))
  }

  /** Writes many objects: one signature and one transaction a batch. The next batch is sealed while one is on its way. */
  async putMany(items: readonly PutManyItem[], signal?: AbortSignal): Promise<PutReceipt[]> {
    const receipts: PutReceipt[] = []
    let underWay: Promise<PutReceipt[]> = Promise.resolve([])
    for (const batch of batchesOf(items)) {
      signal?.throwIfAborted()
      const drafts: Draft[] = []
      for (const { body, ...options } of batch) drafts.push(await this.#draft(body, options))
      receipts.push(...(await underWay))
      underWay = this.#write(drafts, signal)
      // It is awaited in the next round; until then nobody else may be blamed for its failure.
      underWay.catch(() => undefined)
    }
    receipts.push(...(await underWay))
    return receipts
  }

  /** Deletes an object: a signed tombstone that stays. */
  async delete(id: ObjectId, signal?: AbortSignal): Promise<PutReceipt> {
    const known = this.#parts.index.get(id)
    if (known === null || known.isDeleted) throw new ClavigerError('not_found')
    return only(await this.#write([{ object: id, version: known.version + 1, previous: known.hash, content: null }], signal))
  }

  async #draft(body: BodySource, options: PutOptions): Promise<Draft> {
    const object = options.id ?? asObjectId(randomBytes(OBJECT_ID_BYTES))
    const known = await this.#latest(object, options)
    const version = (known?.version ?? 0) + 1
    const content = await this.#sealContent(body, { object, generation: version }, options)
    return { object, version, previous: known?.hash ?? null, content }
  }

  async #latest(object: ObjectId, { id, ifVersion }: PutOptions): Promise<KnownObject | null> {
    let known = this.#parts.index.get(object)
    if (known === null && id !== undefined && !equalBytes(id, PROFILE_OBJECT_ID)) {
      await this.#fetch([object])
      known = this.#parts.index.get(object)
      if (known === null) throw new ClavigerError('not_found')
    }
    if (ifVersion !== undefined && (known?.version ?? 0) !== ifVersion) throw new ClavigerError('version_conflict', undefined, { data: { version: known?.version ?? 0 } })
    return known
  }

  async #sealContent(body: BodySource, name: { object: ObjectId; generation: number }, options: PutOptions): Promise<DraftContent> {
    const { context, log } = this.#parts
    const dek = generateDek()
    const of = { group: context.group, ...name }
    const secret = { dek, context: of, suite: log.state.roster.suite }
    const metadata = sealMetadata(dek, of, metadataOf(options))
    const small = smallBody(body)
    if (small !== null) {
      const { sealed, ...summary } = await sealInlineBody(secret, small)
      return { dek, summary, metadata, inline: sealed, bodyId: null }
    }
    const sealing = sealBody(secret, piecesOf(body))
    const bodyId = await uploadBody(context, sealing.chunks, options.signal)
    const summary = sealing.summary()
    await completeBody(context, bodyId, summary.hashes)
    return { dek, summary, metadata, inline: null, bodyId }
  }

  /** Signs and sends drafts; a newer head or epoch only costs new headers and seals, bodies stay as they are. */
  async #write(drafts: readonly Draft[], signal?: AbortSignal): Promise<PutReceipt[]> {
    const { log, context } = this.#parts
    for (let attempt = 0; attempt < COMMIT_ATTEMPTS_MAX; attempt += 1) {
      signal?.throwIfAborted()
      log.assertRunning()
      if (log.state.roster.rekeyOwed) await this.#parts.settle()
      try {
        return await this.#send(drafts)
      } catch (error) {
        if (!hasCode(error, 'stale_head', 'stale_epoch', 'rekey_owed', 'disconnected', 'timeout', 'server_unavailable', 'server_draining')) throw error
        await context.connection.whenOpen(signal === undefined ? {} : { signal })
        await log.sync()
      }
    }
    throw new ClavigerError('gave_up')
  }

  async #send(drafts: readonly Draft[]): Promise<PutReceipt[]> {
    const { context, log, keyring, index } = this.#parts
    const state = log.state
    const epoch = state.roster.epoch
    const keys = await keyring.sealKeysOf(epoch)
    const headers = drafts.map((draft) => this.#headerOf(draft, state))
    const signed = await issueHeaders(context.identity.signer, headers)
    const items = drafts.map((draft, position) => putItem(draft, keys, signed[position]?.bytes ?? new Uint8Array(0)))
    const { results } = await context.connection.request('object.put', { group: context.group, seq: state.head.seq, epoch, items })
    const accepted: SignedHeader[] = []
    let refusal: ClavigerError | null = null
    for (const [position, result] of results.entries()) {
      const own = signed[position]
      if (own === undefined) continue
      if (result.state === 'accepted' || (await this.#isOurs(own, result.data))) accepted.push(own)
      else refusal ??= new ClavigerError(isErrorCode(result.code) ? result.code : 'internal', result.message, { data: result.data })
    }
    await index.keepOwn(accepted)
    if (refusal !== null) throw refusal
    for (const { content } of drafts) if (content !== null) wipe(content.dek)
    return accepted.map(({ header }) => ({ id: header.object, version: header.version }))
  }

  /** Whether a version conflict is with what we ourselves wrote before the answer was lost. */
  async #isOurs(own: SignedHeader, data: Readonly<Record<string, unknown>>): Promise<boolean> {
    const current = data['header']
    if (!(current instanceof Uint8Array)) return false
    const { header } = await this.#parts.index.accept(current)
    const isSame = header.version === own.header.version && equalBytes(header.author, own.header.author)
    if (header.dekCommitment === null || own.header.dekCommitment === null) return isSame && header.dekCommitment === own.header.dekCommitment
    return isSame && equalBytes(header.dekCommitment, own.header.dekCommitment)
  }

  #headerOf({ object, version, previous, content }: Draft, state: GroupState): Header {
    const { context } = this.#parts
    const base = { v: 1, group: context.group, object, version, generation: version, epoch: state.roster.epoch, at: state.head, author: context.identity.id, previous } as const
    if (content === null) return { ...base, ...TOMBSTONE_FIELDS }
    const { dek, summary, metadata } = content
    const commitment = dekCommitment(dek, { group: context.group, object, generation: version })
    return { ...base, dekCommitment: commitment, bodyHash: summary.bodyHash, bodyLength: summary.length, metadata }
  }

  // ——— Reading ———

  /** Reads one object. @throws ClavigerError `not_found`, `withheld`, `object_fork`, `dek_invalid`, `page_invalid`, `epoch_unavailable`. */
  async get(id: ObjectId): Promise<ReadObject> {
    const [object] = await this.getMany([id])
    if (object === undefined) throw new ClavigerError('not_found')
    return object
  }

  /** Reads many objects in one request a thousand. */
  async getMany(ids: readonly ObjectId[]): Promise<ReadObject[]> {
    const read: ReadObject[] = []
    for (let from = 0; from < ids.length; from += BATCH_ITEMS_MAX) {
      const batch = ids.slice(from, from + BATCH_ITEMS_MAX)
      const stored = await this.#fetch(batch)
      for (const [position, id] of batch.entries()) read.push(await this.#open(id, stored[position] ?? null))
    }
    return read
  }

  async #fetch(objects: readonly ObjectId[]): Promise<(StoredObject | null)[]> {
    const { context, log, index } = this.#parts
    log.assertRunning()
    const reply = await context.connection.request('object.get', { group: context.group, objects: [...objects], openPages: this.#pages.ids() })
    if (reply.seq > log.state.head.seq) await log.sync()
    await index.acceptAll(reply.objects.flatMap((stored) => (stored === null ? [] : [stored.header])))
    return reply.objects
  }

  async #open(id: ObjectId, stored: StoredObject | null): Promise<ReadObject> {
    const known = this.#parts.index.get(id)
    if (stored === null) throw new ClavigerError(known === null || known.isDeleted ? 'not_found' : 'withheld', undefined, { data: { object: id } })
    const signed = decodeEnvelope(stored.header)
    if (!equalBytes(signed.header.object, id)) throw new ClavigerError('object_fork')
    if (known !== null && known.version > signed.header.version) throw new ClavigerError('object_fork', 'the server offers an older version', { data: { held: known.envelope, offered: stored.header } })
    if (signed.header.dekCommitment === null) throw new ClavigerError('not_found')
    const dek = await this.#dekOf(signed, stored)
    const { group } = this.#parts.context
    const of = { group, object: id, generation: signed.header.generation }
    const metadata = openMetadata(dek, of, signed.header.metadata)
    const { version, author, bodyLength } = signed.header
    return { id, version, author, length: bodyLength, metadata, read: (start, end) => this.#readBody({ signed, stored, dek }, start, end) }
  }

  /** The DEK of a verified header from wherever it is sealed, or from a superseded seal if that one is bad. */
  async #dekOf(signed: SignedHeader, stored: StoredObject): Promise<Dek> {
    try {
      return await this.#openSource(signed, stored.dek)
    } catch (error) {
      if (!hasCode(error, 'dek_invalid', 'page_invalid', 'decryption_failed', 'malformed')) throw error
      const healed = await this.#fallback(signed)
      if (healed === null) throw error
      return healed
    }
  }

  async #openSource(signed: SignedHeader, source: DekSource | null): Promise<Dek> {
    const { keyring } = this.#parts
    const { object, generation } = signed.header
    if (source === null) throw new ClavigerError('dek_invalid', 'the DEK of this version is lost', { data: { object, generation } })
    if (source.kind === 'loose') {
      const dek = openDek(await keyring.sealKeysOf(source.epoch), { object, generation }, source.seal)
      checkDek(dek, signed.header)
      this.#assertVouched(signed)
      return dek
    }
    const page = source.kind === 'known' ? this.#pages.get(source.pageId) : await this.#openPage(source)
    if (page === null) throw new ClavigerError('page_invalid')
    const dek = dekForHeader(page, signed)
    this.#parts.index.vouch(signed)
    return dek
  }

  /**
   * A header of a retired epoch counts only through a page, or if this client saw it while its epoch was live: an ex-member
   * who kept that epoch’s secret could have made it since.
   */
  #assertVouched(signed: SignedHeader): void {
    const isVouched = this.#parts.index.get(signed.header.object)?.isVouched === true
    if (needsVouching(this.#parts.log.state.roster, signed.header) && !isVouched) throw new ClavigerError('page_invalid')
  }

  async #openPage(source: Extract<DekSource, { kind: 'page' }>) {
    const cached = this.#pages.get(source.pageId)
    if (cached !== null && cached.epoch === source.epoch) return cached
    const page = { ...openPage(await this.#parts.keyring.sealKeysOf(source.epoch), source), epoch: source.epoch }
    this.#pages.add(page)
    return page
  }

  /** Tries the superseded seals and, where one is good, seals the DEK loose again for everybody. */
  async #fallback(signed: SignedHeader): Promise<Dek | null> {
    const { context, log } = this.#parts
    const { object, generation } = signed.header
    const { deks } = await context.connection.request('dek.fallback', { group: context.group, object, generation })
    for (const source of deks) {
      const dek = await this.#openSource(signed, source).catch((error: unknown) => {
        if (error instanceof ClavigerError) return null
        throw error
      })
      if (dek === null) continue
      await this.#reseal(signed, dek, log.state)
      return dek
    }
    return null
  }

  async #reseal({ header }: SignedHeader, dek: Dek, state: GroupState): Promise<void> {
    const { context, keyring } = this.#parts
    const { epoch } = state.roster
    const seal = sealDek(await keyring.sealKeysOf(epoch), header, dek)
    try {
      const { object, generation } = header
      await context.connection.request('dek.reseal', { group: context.group, seq: state.head.seq, epoch, object, generation, seal })
    } catch (error) {
      // A reader cannot heal, and the next one who can will.
      if (!(error instanceof ClavigerError)) throw error
    }
  }

  async *#readBody({ signed, stored, dek }: { signed: SignedHeader; stored: StoredObject; dek: Dek }, start?: number, end?: number): AsyncGenerator<Uint8Array> {
    const { context, log } = this.#parts
    const { header } = signed
    const secret = { dek, context: { group: context.group, object: header.object, generation: header.generation }, suite: log.state.roster.suite }
    if (stored.body !== null) {
      const plain = await openInlineBody(secret, header, stored.body)
      yield plain.subarray(start ?? 0, end ?? plain.length)
      return
    }
    const { bodyId } = stored
    if (bodyId === null) throw new ClavigerError('body_invalid')
    const body = await readHashes(context, { bodyId, header, suite: secret.suite })
    yield* openBodyRange({ secret, body, read: (offset, bytes) => readBody(context, bodyId, { offset, bytes }) }, start, end)
  }
}

/** Collects a body in memory. */
export async function collect(pieces: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const all: Uint8Array[] = []
  for await (const piece of pieces) all.push(piece)
  return concat(...all)
}

function putItem({ object, version, content }: Draft, keys: EpochSealKeys, header: Uint8Array): PutItem {
  if (content === null) return { header, seal: null, body: null, bodyId: null }
  return { header, seal: sealDek(keys, { object, generation: version }, content.dek), body: content.inline, bodyId: content.bodyId }
}

function metadataOf({ name, type, custom }: PutOptions): ObjectMetadata {
  return { ...(name === undefined ? {} : { name }), ...(type === undefined ? {} : { type }), ...(custom === undefined ? {} : { custom }) }
}

/** The body in one piece if it is small enough to be stored with its header. */
function smallBody(body: BodySource): Uint8Array | null {
  if (typeof body !== 'string' && !(body instanceof Uint8Array)) return null
  const bytes = typeof body === 'string' ? utf8ToBytes(body) : body
  return bytes.length <= INLINE_BODY_BYTES_MAX ? bytes : null
}

function piecesOf(body: BodySource): AsyncIterable<Uint8Array> | Iterable<Uint8Array> {
  if (typeof body === 'string') return [utf8ToBytes(body)]
  return body instanceof Uint8Array ? [body] : body
}

/** Items in batches that the server takes in one transaction. */
function* batchesOf(items: readonly PutManyItem[]): Generator<PutManyItem[]> {
  let batch: PutManyItem[] = []
  let bytes = 0
  for (const item of items) {
    const size = item.body.length + ENVELOPE_BYTES_ESTIMATE
    if (batch.length === BATCH_ITEMS_MAX || (batch.length > 0 && bytes + size > BATCH_BYTES_MAX)) {
      yield batch
      ;[batch, bytes] = [[], 0]
    }
    batch.push(item)
    bytes += size
  }
  if (batch.length > 0) yield batch
}

/** Header, path and seal of one item, with room for metadata. */
const ENVELOPE_BYTES_ESTIMATE = 1500

function only(receipts: readonly PutReceipt[]): PutReceipt {
  const [receipt] = receipts
  if (receipt === undefined) throw new ClavigerError('internal')
  return receipt
}

