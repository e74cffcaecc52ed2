/**
 * Bad seals as a rewrap job meets them: what superseded seals still open is sealed again, the rest is listed as unopenable.
 */
import { ClavigerError } from '../shared/errors.ts'
import { BATCH_ITEMS_MAX } from '../shared/limits.ts'
import { decodeEnvelope } from '../shared/objects/header.ts'
import type { Pair } from '../shared/objects/page.ts'
import { pairKey } from '../shared/objects/page.ts'
import type { DekOpener } from './dek-opener.ts'
import type { GroupContext } from './group-context.ts'
import type { ObjectIndex } from './object-index.ts'

/** DEKs healed at once: half of what a connection has in flight. */
const HEALED_AT_ONCE = 16

/** The parts that repairs need from the group. */
export interface SealRepairParts {
  readonly context: GroupContext
  readonly index: ObjectIndex
  readonly deks: DekOpener
}

/** The repairs of one client. */
export class SealRepair {
  readonly #parts: SealRepairParts
  /** DEKs this client has listed. */
  readonly #lost = new Set<string>()

  constructor(parts: SealRepairParts) {
    this.#parts = parts
  }

  /** How many DEKs this client has listed as unopenable. */
  get listed(): number {
    return this.#lost.size
  }

  /** Fetches and judges the headers of objects this client has not seen in that version. */
  async learn(rows: readonly Pair[]): Promise<void> {
    const { context, index } = this.#parts
    const unknown = rows.filter(({ object, generation }) => (index.get(object)?.version ?? 0) < generation).map(({ object }) => object)
    for (let from = 0; from < unknown.length; from += BATCH_ITEMS_MAX) {
      const objects = unknown.slice(from, from + BATCH_ITEMS_MAX)
      const mark = index.mark(objects)
      const { headers } = await context.connection.request('object.headers', { group: context.group, objects })
      const verdicts = await index.acceptAll(
        headers.filter((header) => header !== null),
        mark,
      )
      for (const verdict of verdicts)
        if (verdict.state === 'refused') context.emit({ type: 'bad-item', signer: null, error: verdict.error })
    }
  }

  /**
   * Seals again what superseded seals still open, and lists the rest: one bad seal must not block retiring for ever.
   *
   * @throws ClavigerError `page_conflict` if anything was healed: the range has to be read again.
   */
  async healOrReport(epoch: number, bad: readonly Pair[]): Promise<void> {
    const news = bad.filter((pair) => !this.#lost.has(pairKey(pair)))
    await this.learn(news)
    const lost = await this.#healAll(news)
    await this.#report(epoch, lost)
    if (lost.length < news.length) throw new ClavigerError('page_conflict')
  }

  /** @returns what could not be healed. */
  async #healAll(bad: readonly Pair[]): Promise<Pair[]> {
    const lost: Pair[] = []
    for (let from = 0; from < bad.length; from += HEALED_AT_ONCE) {
      const some = bad.slice(from, from + HEALED_AT_ONCE)
      const healed = await Promise.all(some.map((pair) => this.#heal(pair)))
      lost.push(...some.filter((_, index) => healed[index] !== true))
    }
    return lost
  }

  async #report(epoch: number, lost: readonly Pair[]): Promise<void> {
    const { context } = this.#parts
    for (let from = 0; from < lost.length; from += BATCH_ITEMS_MAX) {
      const deks = lost.slice(from, from + BATCH_ITEMS_MAX).map(({ object, generation }) => ({ object, generation }))
      await context.connection.request('dek.report', { group: context.group, epoch, deks })
      for (const pair of deks) this.#lost.add(pairKey(pair))
    }
  }

  async #heal({ object, generation }: Pair): Promise<boolean> {
    const { index, deks } = this.#parts
    const known = index.get(object)
    if (known === null || known.version !== generation || !known.isVouched) return false
    const signed = decodeEnvelope(known.envelope)
    const dek = await deks.openSuperseded(signed)
    if (dek === null) return false
    await deks.reseal(signed, dek)
    return true
  }
}
