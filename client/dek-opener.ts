/**
 * Opening DEKs wherever they are sealed, alone or in a page, and healing a bad seal from a superseded one.
 */
import type { Dek } from '../shared/crypto/keys.ts'
import { ClavigerError, hasCode } from '../shared/errors.ts'
import { canWrite, findActive } from '../shared/group/roster.ts'
import { idKey } from '../shared/ids.ts'
import { checkDek, openDek, sealDek } from '../shared/objects/dek.ts'
import type { SignedHeader } from '../shared/objects/header.ts'
import { needsVouching } from '../shared/objects/header-rules.ts'
import { dekForHeader, openPage } from '../shared/objects/page-seal.ts'
import type { DekSource } from '../shared/protocol/messages.ts'
import type { GroupContext } from './group-context.ts'
import type { GroupLog } from './group-log.ts'
import type { Keyring } from './keyring.ts'
import type { ObjectIndex } from './object-index.ts'
import type { CachedPage } from './pages.ts'
import { OpenPages } from './pages.ts'

/** The parts that opening needs from the group. */
export interface DekOpenerParts {
  readonly context: GroupContext
  readonly log: GroupLog
  readonly keyring: Keyring
  readonly index: ObjectIndex
}

/** Whether a seal or page does not hold what it must: another one may. */
export function isBadSeal(error: unknown): error is ClavigerError {
  return hasCode(error, 'dek_invalid', 'page_invalid', 'decryption_failed', 'malformed')
}

/** One group’s DEKs. */
export class DekOpener {
  readonly #parts: DekOpenerParts
  readonly #pages = new OpenPages()

  constructor(parts: DekOpenerParts) {
    this.#parts = parts
  }

  /** Pages that are open: the server need not send them again. */
  openPages(): CachedPage[] {
    return this.#pages.all()
  }

  /** Forgets what was opened under retired epochs. */
  dropThrough(epoch: number): void {
    this.#pages.dropThrough(epoch)
  }

  /**
   * The DEK of a verified header, checked against what its author committed to.
   *
   * @param pages - those that `source` may name; the page that it brings is added.
   * @throws ClavigerError `dek_invalid`, `page_invalid`, `decryption_failed`, `malformed` for a bad seal; `epoch_retired`, `epoch_unavailable`.
   */
  async open(signed: SignedHeader, source: DekSource | null, pages: Map<string, CachedPage>): Promise<Dek> {
    const { keyring, log, index } = this.#parts
    const { object, generation } = signed.header
    if (source === null) throw new ClavigerError('dek_invalid', 'the DEK of this version is lost', { data: { object, generation } })
    if (source.kind === 'loose') {
      const dek = openDek(await keyring.sealKeysOf(source.epoch), { object, generation }, source.seal)
      checkDek(dek, signed.header)
      this.#assertVouched(signed)
      return dek
    }
    const page = source.kind === 'known' ? this.#namedPage(source, pages) : await this.#openPage(source, pages)
    // A page that was open when it was asked for is wiped when its epoch is retired.
    if (page.epoch <= log.state.roster.retiredThrough) throw new ClavigerError('epoch_retired')
    const dek = dekForHeader(page, signed)
    index.vouch(signed)
    return dek
  }

  /** The DEK of a verified header from the newest superseded seal that is good; null if none is. */
  async openSuperseded(signed: SignedHeader): Promise<Dek | null> {
    const { context } = this.#parts
    const { object, generation } = signed.header
    const { deks } = await context.connection.request('dek.fallback', { group: context.group, object, generation })
    for (const source of deks) {
      const dek = await this.open(signed, source, new Map()).catch((error: unknown) => {
        if (error instanceof ClavigerError) return null
        throw error
      })
      if (dek !== null) return dek
    }
    return null
  }

  /**
   * Seals a DEK loose again, for everybody.
   *
   * @throws ClavigerError `not_authorised`; `rekey_owed`, `stale_head`, … : nothing is sealed under an epoch that is to end, or
   *   has ended meanwhile.
   */
  async reseal({ header }: SignedHeader, dek: Dek): Promise<void> {
    const { context, keyring, log } = this.#parts
    const { state } = log
    const { head, roster } = state
    const { object, generation } = header
    const keys = await keyring.sealKeysOf(roster.epoch)
    const me = findActive(roster, context.identity.id)
    if (me === null || !canWrite(me.role)) throw new ClavigerError('not_authorised')
    if (roster.rekeyOwed) throw new ClavigerError('rekey_owed')
    if (log.state !== state) throw new ClavigerError('stale_head')
    const seal = sealDek(keys, header, dek)
    await context.connection.request('dek.reseal', { group: context.group, seq: head.seq, epoch: roster.epoch, object, generation, seal })
  }

  #namedPage({ pageId }: Extract<DekSource, { kind: 'known' }>, pages: Map<string, CachedPage>): CachedPage {
    this.#pages.touch(pageId)
    const page = pages.get(idKey(pageId))
    if (page === undefined) throw new ClavigerError('page_invalid')
    return page
  }

  async #openPage(source: Extract<DekSource, { kind: 'page' }>, pages: Map<string, CachedPage>): Promise<CachedPage> {
    const page = { ...openPage(await this.#parts.keyring.sealKeysOf(source.epoch), source), epoch: source.epoch }
    this.#pages.add(page)
    pages.set(idKey(page.pageId), page)
    return page
  }

  /**
   * A header of a retired epoch counts only through a page, or if this client saw it while its epoch was live: an ex-member
   * who kept that epoch’s secret could have made it since.
   */
  #assertVouched(signed: SignedHeader): void {
    const { log, index } = this.#parts
    const isVouched = index.get(signed.header.object)?.isVouched === true
    if (needsVouching(log.state.roster, signed.header) && !isVouched) throw new ClavigerError('page_invalid')
  }
}
