/**
 * Writing objects: a fresh DEK with every write, compare-and-set on versions, each item with an outcome of its own.
 *
 * What is sealed once is sent as it is, however often others are first: a newer head or epoch costs a new header and a
 * new seal of the DEK. A lost acknowledgement is recognised by the hashes of the headers that were sent.
 */
import { utf8ToBytes } from '@noble/hashes/utils.js'
import { toHex, wipe } from '../shared/bytes.ts'
import type { Dek } from '../shared/crypto/keys.ts'
import { randomBytes } from '../shared/crypto/public-crypto.ts'
import { ClavigerError, hasCode, isErrorCode } from '../shared/errors.ts'
import type { GroupState } from '../shared/group/fold.ts'
import { canWrite, findActive } from '../shared/group/roster.ts'
import type { BodyId, ObjectId } from '../shared/ids.ts'
import { asObjectId, idKey, OBJECT_ID_BYTES, PROFILE_OBJECT_ID } from '../shared/ids.ts'
import { COMMIT_ATTEMPTS_MAX, INLINE_BODY_BYTES_MAX } from '../shared/limits.ts'
import type { BodySummary } from '../shared/objects/body.ts'
import { sealBody, sealInlineBody } from '../shared/objects/body.ts'
import type { EpochSealKeys } from '../shared/objects/dek.ts'
import { dekCommitment, generateDek, sealDek } from '../shared/objects/dek.ts'
import type { Header, SignedHeader } from '../shared/objects/header.ts'
import { decodeEnvelope, TOMBSTONE_FIELDS } from '../shared/objects/header.ts'
import { issueHeaders } from '../shared/objects/header-signing.ts'
import type { ObjectMetadata } from '../shared/objects/metadata.ts'
import { sealMetadata } from '../shared/objects/metadata.ts'
import type { PutItem, PutResult } from '../shared/protocol/messages.ts'
import { uploadBody } from './body-transfer.ts'
import type { GroupContext } from './group-context.ts'
import type { GroupLog } from './group-log.ts'
import type { Keyring } from './keyring.ts'
import type { IndexMark, KnownObject, ObjectIndex } from './object-index.ts'
import { Patience } from './patience.ts'

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

/** A write that is sealed and waits for its header. */
export interface Draft {
  readonly object: ObjectId
  readonly version: number
  readonly previous: Uint8Array | null
  /** Null in a deletion. */
  readonly content: DraftContent | null
  /** Hashes of the headers that were sent for it: by them its acknowledgement is recognised. */
  readonly sent: Set<string>
}

interface DraftContent {
  readonly dek: Dek
  readonly summary: BodySummary
  readonly metadata: Uint8Array
  readonly inline: Uint8Array | null
  readonly bodyId: BodyId | null
}

/** What became of one draft. */
export type WriteOutcome =
  | { readonly state: 'written'; readonly receipt: PutReceipt }
  | { readonly state: 'refused'; readonly object: ObjectId; readonly error: ClavigerError }

/** What a try was answered, and what was held when it was sent. */
interface Answer {
  readonly signed: readonly SignedHeader[]
  readonly results: readonly PutResult[]
  readonly mark: IndexMark
  readonly outcomes: Map<Draft, WriteOutcome>
}

/** The parts that writes need from the group. */
export interface ObjectWriterParts {
  readonly context: GroupContext
  readonly log: GroupLog
  readonly keyring: Keyring
  readonly index: ObjectIndex
  /** Opens the epoch that is owed, if one is. */
  readonly settle: () => Promise<void>
  /** Learns the newest version of an object. */
  readonly learn: (object: ObjectId) => Promise<void>
}

/** One group’s objects, as they are written. */
export class ObjectWriter {
  readonly #parts: ObjectWriterParts

  constructor(parts: ObjectWriterParts) {
    this.#parts = parts
  }

  /** Seals a new object, or the next version of `options.id`; big bodies are uploaded. @throws ClavigerError `not_found`, `version_conflict`. */
  async draft(body: BodySource, options: PutOptions): Promise<Draft> {
    const object = options.id ?? asObjectId(randomBytes(OBJECT_ID_BYTES))
    const known = options.id === undefined ? null : await this.#latest(options.id, options.ifVersion)
    const version = (known?.version ?? 0) + 1
    const content = await this.#sealContent(body, { object, generation: version }, options)
    return { object, version, previous: known?.hash ?? null, content, sent: new Set() }
  }

  /** A deletion. @throws ClavigerError `not_found`. */
  async draftDeletion(object: ObjectId): Promise<Draft> {
    const known = await this.#latest(object, undefined)
    if (known === null || known.isDeleted) throw new ClavigerError('not_found', undefined, { data: { object } })
    return { object, version: known.version + 1, previous: known.hash, content: null, sent: new Set() }
  }

  /**
   * Signs and sends drafts of different objects, in one transaction, until each has its outcome.
   *
   * @throws ClavigerError if it cannot be known or done for any of them: `disconnected`, `server_unavailable`, `gave_up`, …
   */
  async write(drafts: readonly Draft[], signal?: AbortSignal): Promise<WriteOutcome[]> {
    const outcomes = new Map<Draft, WriteOutcome>()
    const patience = new Patience(this.#parts.context, signal)
    let [tries, overtaken] = [0, 0]
    for (let left = drafts; left.length > 0; left = drafts.filter((draft) => !outcomes.has(draft))) {
      signal?.throwIfAborted()
      try {
        if (tries > 0) await this.#parts.log.sync()
        tries += 1
        await this.#send(left, outcomes, signal)
      } catch (error) {
        if (!hasCode(error, 'stale_head', 'stale_epoch', 'rekey_owed')) await patience.outlast(error)
        else if ((overtaken += 1) >= COMMIT_ATTEMPTS_MAX) throw new ClavigerError('gave_up', undefined, { cause: error })
      }
    }
    return drafts.flatMap((draft) => outcomes.get(draft) ?? [])
  }

  // ——— Sealing ———

  async #latest(object: ObjectId, ifVersion: number | undefined): Promise<KnownObject | null> {
    const { index, learn } = this.#parts
    if (index.get(object) === null) await learn(object)
    const known = index.get(object)
    // The profile is the one object whose id is known before it is first written.
    if (known === null && idKey(object) !== idKey(PROFILE_OBJECT_ID)) throw new ClavigerError('not_found', undefined, { data: { object } })
    const version = known?.version ?? 0
    if (ifVersion !== undefined && version !== ifVersion)
      throw new ClavigerError('version_conflict', undefined, { data: { object, version, header: known?.envelope ?? null } })
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
    const bodyId = await uploadBody(context, { chunks: sealing.chunks, hashes: () => sealing.summary().hashes, signal: options.signal })
    return { dek, summary: sealing.summary(), metadata, inline: null, bodyId }
  }

  // ——— Sending ———

  /** One try; drafts whose outcome is known afterwards are in `outcomes`. */
  async #send(drafts: readonly Draft[], outcomes: Map<Draft, WriteOutcome>, signal: AbortSignal | undefined): Promise<void> {
    const { context, log, keyring } = this.#parts
    log.assertRunning()
    if (log.state.roster.rekeyOwed) await this.#parts.settle()
    const state = log.state
    const { epoch } = state.roster
    this.#assertMaySeal(state)
    const keys = await keyring.sealKeysOf(epoch)
    const signed = await this.#sign(drafts, state)
    // Whoever was removed meanwhile holds this epoch: nothing is sealed under it any more, not even to be refused.
    if (log.state !== state) throw new ClavigerError('stale_head')
    const items = drafts.map((draft, position) => putItem(draft, keys, signed[position]))
    const options = signal === undefined ? {} : { signal }
    const mark = this.#parts.index.mark(drafts.map(({ object }) => object))
    const { results } = await context.connection.request('object.put', { group: context.group, seq: state.head.seq, epoch, items }, options)
    if (results.length !== drafts.length)
      throw new ClavigerError('malformed', 'the answer has another number of results than items were sent')
    await this.#conclude(drafts, { signed, results, outcomes, mark })
  }

  /** While an epoch is owed nothing is sealed under the one before. */
  #assertMaySeal({ roster }: GroupState): void {
    const me = findActive(roster, this.#parts.context.identity.id)
    if (me === null || !canWrite(me.role)) throw new ClavigerError('not_authorised')
    if (roster.rekeyOwed) throw new ClavigerError('rekey_owed')
  }

  async #sign(drafts: readonly Draft[], state: GroupState): Promise<SignedHeader[]> {
    const { signer } = this.#parts.context.identity
    const signed = await issueHeaders(
      signer,
      drafts.map((draft) => this.#headerOf(draft, state)),
    )
    for (const [position, draft] of drafts.entries()) {
      const hash = signed[position]?.hash
      if (hash !== undefined) draft.sent.add(toHex(hash))
    }
    return signed
  }

  #headerOf({ object, version, previous, content }: Draft, state: GroupState): Header {
    const { group, identity } = this.#parts.context
    const base = {
      v: 1,
      group,
      object,
      version,
      generation: version,
      epoch: state.roster.epoch,
      at: state.head,
      author: identity.id,
      previous,
    } as const
    if (content === null) return { ...base, ...TOMBSTONE_FIELDS }
    const { dek, summary, metadata } = content
    const commitment = dekCommitment(dek, { group, object, generation: version })
    return { ...base, dekCommitment: commitment, bodyHash: summary.bodyHash, bodyLength: summary.length, metadata }
  }

  async #conclude(drafts: readonly Draft[], { signed, results, outcomes, mark }: Answer): Promise<void> {
    const accepted = signed.filter((_, position) => results[position]?.state === 'accepted')
    await this.#parts.index.keepOwn(accepted)
    for (const [position, draft] of drafts.entries()) {
      const result = results[position]
      if (result === undefined) continue
      const outcome = result.state === 'accepted' ? written(draft) : await this.#judgeRefusal(draft, result, mark)
      outcomes.set(draft, outcome)
      if (draft.content !== null) wipe(draft.content.dek)
    }
  }

  /** A refusal, or the news that an earlier try was accepted and only its acknowledgement was lost. */
  async #judgeRefusal(
    draft: Draft,
    { code, message, data }: Extract<PutResult, { state: 'refused' }>,
    mark: IndexMark,
  ): Promise<WriteOutcome> {
    const { index } = this.#parts
    const { object } = draft
    const refused = (error: ClavigerError): WriteOutcome => ({ state: 'refused', object, error })
    const current = code === 'version_conflict' ? data['header'] : null
    if (current instanceof Uint8Array) {
      const [verdict] = await index.acceptAll([current], mark)
      // A current version that does not hold is worse news than the conflict.
      if (verdict?.state === 'refused') return refused(verdict.error)
      if (isOnTopOfOurs(draft, decodeEnvelope(current))) return written(draft)
    }
    return refused(new ClavigerError(isErrorCode(code) ? code : 'internal', message, { data: { object, ...data } }))
  }
}

/** Whether the current version is what we sent, or follows it. */
function isOnTopOfOurs({ version, sent }: Draft, { header, hash }: SignedHeader): boolean {
  if (header.version === version) return sent.has(toHex(hash))
  return header.version === version + 1 && header.previous !== null && sent.has(toHex(header.previous))
}

function written({ object, version }: Draft): WriteOutcome {
  return { state: 'written', receipt: { id: object, version } }
}

function putItem({ object, version, content }: Draft, keys: EpochSealKeys, signed: SignedHeader | undefined): PutItem {
  if (signed === undefined) throw new TypeError('every draft has been signed')
  if (content === null) return { header: signed.bytes, seal: null, body: null, bodyId: null }
  return {
    header: signed.bytes,
    seal: sealDek(keys, { object, generation: version }, content.dek),
    body: content.inline,
    bodyId: content.bodyId,
  }
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
