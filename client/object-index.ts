/**
 * The object headers a client knows: every one judged before it is kept, none replaced by an older or a forked one.
 */
import { toHex } from '../shared/bytes.ts'
import { ClavigerError, hasCode } from '../shared/errors.ts'
import type { Roster } from '../shared/group/roster.ts'
import { findMember } from '../shared/group/roster.ts'
import type { GroupId, ObjectId } from '../shared/ids.ts'
import type { SignedHeader } from '../shared/objects/header.ts'
import { decodeEnvelope, isTombstone } from '../shared/objects/header.ts'
import { acceptHeader, judgeSuccessor } from '../shared/objects/header-rules.ts'
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
  /** Whether the author had been removed already when this client first saw this version. */
  readonly isLate: boolean
}

/** One group’s known headers. */
export class ObjectIndex {
  readonly #context: GroupContext
  readonly #log: GroupLog
  readonly #known = new Map<string, KnownObject>()

  constructor(context: GroupContext, log: GroupLog, envelopes: ReadonlyMap<string, Uint8Array>) {
    this.#context = context
    this.#log = log
    for (const [key, envelope] of envelopes) this.#known.set(key, describe(decodeEnvelope(envelope), false))
  }

  /** What is known of an object; null if nothing is. */
  get(object: Uint8Array): KnownObject | null {
    return this.#known.get(toHex(object)) ?? null
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
  async acceptFeed(envelopes: readonly { envelope: Uint8Array; epochFloor: number }[], cursor: Cursor): Promise<SignedHeader[]> {
    const news: SignedHeader[] = []
    for (const { envelope, epochFloor } of envelopes) {
      const signed = await this.#acceptOrReport(envelope, epochFloor)
      if (signed !== null) news.push(signed)
    }
    await this.#context.store.saveHeaders(new Map(news.map((signed) => [toHex(signed.header.object), signed.bytes])), cursor)
    return news
  }

  /**
   * Judges one header that was asked for and keeps it.
   *
   * @throws ClavigerError `object_fork`, `bad_head`, `not_authorised`, `invalid_signature`, `rule_violated`.
   */
  async accept(envelope: Uint8Array): Promise<SignedHeader> {
    const signed = decodeEnvelope(envelope)
    if (await this.#judge(signed, 0)) await this.#context.store.saveHeaders(new Map([[toHex(signed.header.object), signed.bytes]]), null)
    return signed
  }

  /** Keeps what this client wrote itself. */
  async keepOwn(signed: readonly SignedHeader[]): Promise<void> {
    for (const header of signed) this.#keep(header)
    await this.#context.store.saveHeaders(new Map(signed.map((header) => [toHex(header.header.object), header.bytes])), null)
  }

  async #acceptOrReport(envelope: Uint8Array, epochFloor: number): Promise<SignedHeader | null> {
    let signer: GroupId | null = null
    try {
      const signed = decodeEnvelope(envelope)
      signer = signed.header.group
      return (await this.#judge(signed, epochFloor)) ? signed : null
    } catch (error) {
      if (!(error instanceof ClavigerError) || hasCode(error, 'disconnected', 'timeout', 'closed')) throw error
      this.#context.emit({ type: 'bad-item', signer: signer === null ? null : decodeEnvelope(envelope).header.author, error })
      return null
    }
  }

  /** Whether the header is news; it is kept if so. */
  async #judge(signed: SignedHeader, epochFloor: number): Promise<boolean> {
    const { header } = signed
    const known = this.get(header.object)
    if (known !== null && known.version === header.version && toHex(known.hash) === toHex(signed.hash)) return false
    if (header.at.seq > this.#log.state.head.seq) await this.#log.sync()
    if (header.epoch < epochFloor) throw new ClavigerError('stale_epoch', 'the header was written after this client accepted a newer epoch')
    this.#context.counters.headersChecked += 1
    await acceptHeader(this.#context.group, this.#log.state.roster, signed)
    await this.#log.assertContains(header.at)
    if (judgeSuccessor(known === null ? null : decodeEnvelope(known.envelope), signed) === 'same') return false
    this.#keep(signed)
    return true
  }

  #keep(signed: SignedHeader): void {
    const key = toHex(signed.header.object)
    const known = this.#known.get(key)
    if (known !== undefined && known.version >= signed.header.version) return
    this.#known.set(key, describe(signed, wasRemoved(this.#log.state.roster, signed)))
  }
}

function describe(signed: SignedHeader, isLate: boolean): KnownObject {
  const { header, hash, bytes } = signed
  return { id: header.object, version: header.version, hash, isDeleted: isTombstone(header), envelope: bytes, isLate }
}

function wasRemoved(roster: Roster, { header }: SignedHeader): boolean {
  return findMember(roster, header.author)?.state === 'removed'
}
