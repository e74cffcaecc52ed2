/**
 * The object headers a client knows: every one judged before it is kept, none replaced by an older or a forked one.
 */
import { equalBytes, toHex } from '../shared/bytes.ts'
import { sha256 } from '../shared/crypto/public-crypto.ts'
import { ClavigerError, hasCode } from '../shared/errors.ts'
import type { IdentityId, ObjectId } from '../shared/ids.ts'
import type { SignedHeader } from '../shared/objects/header.ts'
import { decodeEnvelope, isTombstone } from '../shared/objects/header.ts'
import { acceptHeader, judgeSuccessor, needsVouching } from '../shared/objects/header-rules.ts'
import type { GroupContext } from './group-context.ts'
import type { Cursor } from './group-store.ts'
import type { GroupLog } from './group-log.ts'

/** What is known of one object. */
export interface KnownObject {
  readonly id: ObjectId
  readonly version: number
  readonly hash: Uint8Array
  readonly isDeleted: boolean
  /** The envelope, kept as evidence and for continuity. */
  readonly envelope: Uint8Array
  /** Seen while its epoch was not retired, or named by a page of a live epoch since. */
  readonly isVouched: boolean
}

/** What the store has of a group’s objects. */
export interface KeptObjects {
  /** Envelopes by object. */
  readonly headers: ReadonlyMap<string, Uint8Array>
  /** Hashes of headers that came too late. */
  readonly late: Iterable<string>
  readonly cursor: Cursor
}

/** What was held of some objects when they were asked for, by object. */
export type IndexMark = ReadonlyMap<string, KnownObject>

/** What became of a header that was asked for. */
export type HeaderVerdict =
  | { readonly state: 'held'; readonly signed: SignedHeader }
  /** It was current when it was asked for; a newer version has come in since. */
  | { readonly state: 'overtaken' }
  | { readonly state: 'refused'; readonly error: ClavigerError }

/** Own envelopes remembered until the feed shows them: a few batches. */
const OWN_ENVELOPES_MAX = 8192

/** One group’s known headers. */
export class ObjectIndex {
  readonly #context: GroupContext
  readonly #log: GroupLog
  readonly #known = new Map<string, KnownObject>()
  /** Hashes of headers that turned up after a newer epoch than theirs had been accepted: perhaps backdated, never taken. */
  readonly #late: Set<string>
  /** Envelopes this client wrote and will be shown again. */
  readonly #own = new Set<string>()
  /** The epoch up to which the feed has been read: what was written before it is known, or comes too late. */
  #epochFloor: number

  constructor(context: GroupContext, log: GroupLog, kept: KeptObjects) {
    this.#context = context
    this.#log = log
    this.#late = new Set(kept.late)
    this.#epochFloor = kept.cursor.epoch
    for (const [key, envelope] of kept.headers) this.#known.set(key, this.#describe(decodeEnvelope(envelope)))
  }

  /** What is known of an object; null if nothing is. */
  get(object: Uint8Array): KnownObject | null {
    return this.#known.get(toHex(object)) ?? null
  }

  /** A page of a live epoch names this header. */
  vouch({ header, hash }: SignedHeader): void {
    const known = this.get(header.object)
    if (known !== null && !known.isVouched && equalBytes(known.hash, hash))
      this.#known.set(toHex(header.object), { ...known, isVouched: true })
  }

  /** Every known object that is not deleted. */
  *live(): Generator<KnownObject> {
    for (const object of this.#known.values()) if (!object.isDeleted) yield object
  }

  /**
   * Judges headers and keeps those that hold, with the cursor they came with; the others are told as `bad-item`.
   *
   * @param epochFloor - headers of an older epoch are refused: they cannot have been written since this client accepted it.
   * @returns the headers that were news.
   */
  async acceptFeed(envelopes: readonly { envelope: Uint8Array; epochFloor: number }[], cursor: Cursor | null): Promise<SignedHeader[]> {
    const news: SignedHeader[] = []
    const others = envelopes.filter(({ envelope }) => !this.#own.delete(fingerprint(envelope)))
    const arrived = others.map(({ envelope, epochFloor }) => ({ decoded: decode(envelope), epochFloor }))
    try {
      await this.#learnHeads(arrived.map(({ decoded }) => decoded))
      for (const { decoded, epochFloor } of arrived) {
        const signed = await this.#acceptOrReport(decoded, epochFloor)
        if (signed !== null) news.push(signed)
      }
    } catch (error) {
      // They are held already and will be no news when the batch comes again.
      await this.#save(news, null)
      throw error
    }
    await this.#save(news, cursor)
    return news
  }

  /** What is held of some objects now: to be taken before they are asked for. */
  mark(objects: readonly Uint8Array[]): IndexMark {
    return new Map(
      objects.flatMap((object) => {
        const known = this.get(object)
        return known === null ? [] : [[toHex(object), known] as const]
      }),
    )
  }

  /**
   * Judges headers that were asked for and keeps those that hold, in one batch.
   *
   * An answer shows what was current when it was read: a version between the one held then and the one held now is neither
   * news nor a fork.
   */
  async acceptAll(envelopes: readonly Uint8Array[], mark: IndexMark): Promise<HeaderVerdict[]> {
    const verdicts: HeaderVerdict[] = []
    const news: SignedHeader[] = []
    const arrived = envelopes.map(decode)
    await this.#learnHeads(arrived)
    try {
      for (const decoded of arrived) verdicts.push(await this.#acceptOne(decoded, mark, news))
    } finally {
      // What was kept is in the store too, whatever is wrong with the others.
      if (news.length > 0) await this.#save(news, null)
    }
    return verdicts
  }

  async #acceptOne(decoded: Decoded, mark: IndexMark, news: SignedHeader[]): Promise<HeaderVerdict> {
    try {
      const signed = present(decoded)
      if (this.#isOvertaken(signed, mark)) return { state: 'overtaken' }
      if (await this.#judge(signed, this.#epochFloor)) news.push(signed)
      return this.#isOvertaken(signed, mark) ? { state: 'overtaken' } : { state: 'held', signed }
    } catch (error) {
      if (!(error instanceof ClavigerError) || isPassing(error)) throw error
      return { state: 'refused', error }
    }
  }

  /** Whether it is what was held when it was asked for, or later, and older than what is held now. */
  #isOvertaken({ header, hash }: SignedHeader, mark: IndexMark): boolean {
    const { object, version } = header
    if (version >= (this.get(object)?.version ?? 0)) return false
    const held = mark.get(toHex(object))
    return held === undefined || version > held.version || equalBytes(hash, held.hash)
  }

  /** Keeps what this client wrote itself. */
  async keepOwn(signed: readonly SignedHeader[]): Promise<void> {
    for (const header of signed) {
      this.#keep(header)
      this.#own.add(fingerprint(header.bytes))
    }
    for (const oldest of this.#own) {
      if (this.#own.size <= OWN_ENVELOPES_MAX) break
      this.#own.delete(oldest)
    }
    await this.#save(signed, null)
  }

  async #save(news: readonly SignedHeader[], cursor: Cursor | null): Promise<void> {
    // What is held, which may be newer by now: the store never goes back.
    const held = news.map(({ header, bytes }) => [toHex(header.object), this.get(header.object)?.envelope ?? bytes] as const)
    await this.#context.store.saveHeaders(new Map(held), cursor)
    this.#epochFloor = Math.max(this.#epochFloor, cursor?.epoch ?? 0)
  }

  async #acceptOrReport(decoded: Decoded, epochFloor: number): Promise<SignedHeader | null> {
    let signer: IdentityId | null = null
    try {
      const signed = present(decoded)
      signer = signed.header.author
      // A reader or writer that was faster than the feed knows a later version already.
      if (signed.header.version < (this.get(signed.header.object)?.version ?? 0)) return null
      return (await this.#judge(signed, epochFloor)) ? signed : null
    } catch (error) {
      if (!(error instanceof ClavigerError) || isPassing(error)) throw error
      this.#context.emit({ type: 'bad-item', signer, error })
      return null
    }
  }

  /** Learns the heads that headers name, those of what is held already left out. */
  async #learnHeads(arrived: readonly Decoded[]): Promise<void> {
    const unheld = arrived.flatMap(({ signed }) => (signed === null || this.#isHeld(signed) ? [] : [signed.header.at.seq]))
    await this.#log.learnHeads(unheld)
  }

  #isHeld({ header, hash }: SignedHeader): boolean {
    const known = this.get(header.object)
    return known !== null && known.version === header.version && equalBytes(known.hash, hash)
  }

  /** Whether the header is news; it is kept if so. */
  async #judge(signed: SignedHeader, epochFloor: number): Promise<boolean> {
    const { header } = signed
    if (this.#isHeld(signed)) return false
    const known = this.get(header.object)
    if (header.at.seq > this.#log.state.head.seq) await this.#log.sync()
    if (this.#late.has(toHex(signed.hash))) throw lateError()
    this.#context.counters.headersChecked += 1
    await acceptHeader(this.#context.group, this.#log.state.roster, signed)
    if (header.epoch < epochFloor) await this.#refuseLate(signed)
    await this.#log.assertContains(header.at)
    // Looked up again: another version may have been kept while this one was being judged, and a fork must not pass beside it.
    const held = this.get(header.object)
    if (held !== null && held !== known && held.version > header.version) return false
    if (judgeSuccessor(held === null ? null : decodeEnvelope(held.envelope), signed) === 'same') return false
    this.#keep(signed)
    return true
  }

  /** Remembered only for what an author has signed, so that nobody else can fill the store. */
  async #refuseLate({ hash }: SignedHeader): Promise<never> {
    this.#late.add(toHex(hash))
    await this.#context.store.saveLate(toHex(hash))
    throw lateError()
  }

  #keep(signed: SignedHeader): void {
    const key = toHex(signed.header.object)
    const known = this.#known.get(key)
    if (known !== undefined && known.version >= signed.header.version) return
    this.#known.set(key, this.#describe(signed))
  }

  #describe(signed: SignedHeader): KnownObject {
    const { header, hash, bytes } = signed
    const isVouched = !needsVouching(this.#log.state.roster, header)
    return { id: header.object, version: header.version, hash, isDeleted: isTombstone(header), envelope: bytes, isVouched }
  }
}

/** An envelope as it came, or what is wrong with it. */
type Decoded = { readonly signed: SignedHeader } | { readonly signed: null; readonly error: ClavigerError }

function decode(envelope: Uint8Array): Decoded {
  try {
    return { signed: decodeEnvelope(envelope) }
  } catch (error) {
    if (!(error instanceof ClavigerError)) throw error
    return { signed: null, error }
  }
}

function present(decoded: Decoded): SignedHeader {
  if (decoded.signed === null) throw decoded.error
  return decoded.signed
}

function lateError(): ClavigerError {
  return new ClavigerError('stale_epoch', 'the header turned up after this client had accepted a newer epoch')
}

/** Says nothing about the item: it will be judged another time. */
function isPassing(error: ClavigerError): boolean {
  return hasCode(
    error,
    'disconnected',
    'timeout',
    'closed',
    'server_unavailable',
    'server_draining',
    'rate_limited',
    'internal',
    'group_stopped',
  )
}

/** Tells envelopes apart faster than decoding them. */
function fingerprint(envelope: Uint8Array): string {
  return toHex(sha256(envelope).subarray(0, 16))
}
