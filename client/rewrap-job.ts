/**
 * The rewrap job of an admin’s client: moves every DEK from under old epochs to pages under the current one, reads
 * everything back, and retires the old epochs. At an unchanged epoch the same pass is compaction.
 *
 * Ranges are independent and idempotent: after a crash, or a second removal in mid-job, any admin simply runs it again.
 */
import { compareBytes, equalBytes, toHex } from '../shared/bytes.ts'
import { randomBytes, sha256 } from '../shared/crypto/public-crypto.ts'
import { ClavigerError, hasCode } from '../shared/errors.ts'
import { asPageId, OBJECT_ID_BYTES } from '../shared/ids.ts'
import { RANGE_PAGES_MAX } from '../shared/limits.ts'
import { checkDek, openDek } from '../shared/objects/dek.ts'
import { decodeEnvelope } from '../shared/objects/header.ts'
import type { Pair } from '../shared/objects/page.ts'
import { decodeEntries, decodePairs, encodePairs, ENTRY_BYTES, pairKey } from '../shared/objects/page.ts'
import { dekAt, openPage } from '../shared/objects/page-seal.ts'
import type { RangeDek, RangePage } from '../shared/objects/rewrap.ts'
import { planRange } from '../shared/objects/rewrap.ts'
import type { KeyPageRow, LooseDekRow, Result } from '../shared/protocol/messages.ts'
import type { Committer } from './committer.ts'
import { isBadSeal } from './dek-opener.ts'
import type { GroupLog } from './group-log.ts'
import type { Keyring } from './keyring.ts'
import { withPatience } from './patience.ts'
import type { SealRepairParts } from './seal-repair.ts'
import { SealRepair } from './seal-repair.ts'
import type { PageRun } from './rewrap-runs.ts'
import { isWithin, runsOf } from './rewrap-runs.ts'

/** 50 pages: 12 800 DEKs, 1 MB. */
const PAGES_PER_RANGE = 50
/** Times a job starts over because others were faster. */
const PASSES_MAX = 32

type Range = Result<'pages.range'>

/** What a job did. */
export interface RewrapOutcome {
  readonly epoch: number
  /** DEKs that this client moved or took in. */
  readonly rewrapped: number
  /** The newest retired epoch afterwards, −1 if none. */
  readonly retiredThrough: number
  /** DEKs that opened for nobody or came too late; listed, not kept. */
  readonly unopenable: number
}

export interface RewrapParts extends SealRepairParts {
  readonly log: GroupLog
  readonly keyring: Keyring
  readonly committer: Committer
  /** Opens the epoch that is owed, if one is. */
  readonly settle: () => Promise<void>
}

/** One group’s rewrap job; at most one runs at a time. */
export class RewrapJob {
  readonly #parts: RewrapParts
  /** Hash of each page this client sealed, by page id: compared when reading back. */
  readonly #sealed = new Map<string, Uint8Array>()
  readonly #repair: SealRepair
  #running: Promise<RewrapOutcome> | null = null
  #compacting: Promise<number> | null = null
  #rewrapped = 0

  constructor(parts: RewrapParts) {
    this.#parts = parts
    this.#repair = new SealRepair(parts)
  }

  /** Runs until nothing is sealed under an old epoch and the old epochs are retired; joins a run under way. */
  run(): Promise<RewrapOutcome> {
    this.#running ??= this.#runToEnd().finally(() => {
      this.#running = null
    })
    return this.#running
  }

  /** Takes loose DEKs into pages and drops dead ones, at the current epoch; after a run under way. Joins a compaction under way. */
  compact(): Promise<number> {
    this.#compacting ??= this.#compactToEnd().finally(() => {
      this.#compacting = null
    })
    return this.#compacting
  }

  async #compactToEnd(): Promise<number> {
    await this.#running?.catch(() => undefined)
    const before = this.#rewrapped
    await this.#insist(async () => {
      await this.#pass(this.#parts.log.state.roster.epoch, true)
      return true
    })
    return this.#rewrapped - before
  }

  async #runToEnd(): Promise<RewrapOutcome> {
    const [rewrapped, unopenable] = [this.#rewrapped, this.#repair.listed]
    let epoch = -1
    await this.#insist(async () => {
      ;({ epoch } = this.#parts.log.state.roster)
      // A removal that came while the last step was under way has moved the goal.
      return (await this.#moveTo(epoch)) && epoch === this.#parts.log.state.roster.epoch
    })
    const { retiredThrough } = this.#parts.log.state.roster
    return { epoch, rewrapped: this.#rewrapped - rewrapped, unopenable: this.#repair.listed - unopenable, retiredThrough }
  }

  /** Runs passes until one says that nothing is left; others may be faster, and connections break. */
  async #insist(pass: () => Promise<boolean>): Promise<void> {
    for (let count = 0; count < PASSES_MAX; count += 1) {
      try {
        if (await pass()) return
      } catch (error) {
        if (
          !hasCode(
            error,
            'stale_epoch',
            'stale_head',
            'rekey_owed',
            'version_conflict',
            'not_retirable',
            'page_conflict',
            'disconnected',
            'timeout',
            'server_unavailable',
            'server_draining',
            'rate_limited',
          )
        )
          throw error
        // What is to be healed cannot be sealed under an epoch that is to end.
        if (error.code === 'rekey_owed') await this.#parts.settle()
      }
      await this.#catchUp()
    }
    throw new ClavigerError('gave_up')
  }

  /** Comes back to the newest head, however often the connection is lost on the way. */
  #catchUp(): Promise<void> {
    return withPatience(this.#parts.context, () => this.#parts.log.sync())
  }

  /** One pass to `epoch`, reading back and retiring; false if something is left to do. */
  async #moveTo(epoch: number): Promise<boolean> {
    const { context } = this.#parts
    await context.connection.request('rewrap.start', { group: context.group, epoch })
    await this.#pass(epoch, false)
    const status = await context.connection.request('rewrap.status', { group: context.group })
    if (status.epoch !== epoch || status.oldPages > 0 || status.oldLoose > 0) return false
    if (!(await this.#readBack(epoch))) return false
    await this.#retire(epoch - 1)
    return true
  }

  async #pass(epoch: number, isCompaction: boolean): Promise<void> {
    const { context } = this.#parts
    for (let lo: Uint8Array | null = new Uint8Array(0); lo !== null;) {
      const range: Range = await context.connection.request('pages.range', { group: context.group, lo, pages: PAGES_PER_RANGE })
      if (range.epoch !== epoch) throw new ClavigerError('stale_epoch')
      for (const run of runsOf(range, { epoch, isCompaction })) await this.#replace(epoch, run, range)
      lo = onwards(lo, range.next)
    }
  }

  /** Replaces one contiguous run of pages. */
  async #replace(epoch: number, run: PageRun, range: Range): Promise<void> {
    const { context, keyring, log } = this.#parts
    if ([...run.pages, ...run.loose].some((row) => row.epoch > epoch)) throw new ClavigerError('stale_epoch')
    const { dead } = range
    const refused: Pair[] = []
    const pages = await this.#openPages(run.pages)
    const loose = await this.#openLoose(run.loose, refused)
    const keys = await keyring.sealKeysOf(epoch)
    // Once a newer epoch has been accepted nothing goes under this one, least of all what was written since.
    if (log.state.roster.epoch !== epoch) throw new ClavigerError('stale_epoch')
    if (log.state.roster.rekeyOwed) throw new ClavigerError('rekey_owed')
    const plan = planRange({ keys, pages, loose, dead, newPageId: () => asPageId(randomBytes(OBJECT_ID_BYTES)) })
    const { needed, superfluous } = splitByNeed(refused, dead)
    await this.#repair.healOrReport(epoch, [...needed, ...decodePairs(plan.unopenable)])
    const absorbed = withPairs(plan.absorbed, superfluous)
    const wanted = { group: context.group, epoch, replaced: [...plan.replaced], absorbed, pages: [...plan.pages] }
    const progress = await context.connection.request('pages.replace', wanted)
    for (const page of plan.pages) this.#sealed.set(toHex(page.pageId), pageHash(page))
    this.#rewrapped += plan.pages.reduce((sum, page) => sum + countOf(page.entries), 0)
    // A compaction has no goal to come nearer to.
    if (progress.total > 0) context.emit({ type: 'rewrap-progress', ...progress })
  }

  async #openPages(rows: readonly KeyPageRow[]): Promise<RangePage[]> {
    const opened: RangePage[] = []
    for (const row of rows) opened.push({ ...row, deks: await this.#tryPage(row) })
    return opened
  }

  /** Null for a page that does not open: its DEKs are listed, so that one bad seal does not block retiring for ever. */
  async #tryPage(row: KeyPageRow): Promise<Uint8Array | null> {
    if (row.entries.length === 0) return new Uint8Array(0)
    try {
      return openPage(await this.#parts.keyring.sealKeysOf(row.epoch), row).deks
    } catch (error) {
      if (!hasCode(error, 'decryption_failed', 'malformed')) throw error
      return null
    }
  }

  /** Opens loose DEKs whose header this client vouches for; the others go to `refused`. */
  async #openLoose(rows: readonly LooseDekRow[], refused: Pair[]): Promise<RangeDek[]> {
    await this.#repair.learn(rows)
    const opened: RangeDek[] = []
    for (const row of rows) {
      const dek = await this.#tryLoose(row)
      if (dek === null) refused.push({ object: row.object, generation: row.generation })
      else opened.push(dek)
    }
    return opened
  }

  async #tryLoose({ object, generation, epoch, seal }: LooseDekRow): Promise<RangeDek | null> {
    const known = this.#parts.index.get(object)
    // A version that turned up after its epoch had ended may be backdated by a removed member: listed, not vouched for.
    if (known === null || known.version < generation || !known.isVouched) return null
    try {
      const dek = openDek(await this.#parts.keyring.sealKeysOf(epoch), { object, generation }, seal)
      return { object, generation, headerHash: known.hash, dek }
    } catch (error) {
      if (!hasCode(error, 'decryption_failed')) throw error
      return null
    }
  }

  // ——— Reading back ———

  /**
   * Reads every page back: what this client sealed must be the same bytes, what others sealed must hold the right DEKs. A
   * page that fails is taken apart.
   *
   * @returns whether all was well.
   */
  async #readBack(epoch: number): Promise<boolean> {
    const { context } = this.#parts
    let isWell = true
    for (let lo: Uint8Array | null = new Uint8Array(0); lo !== null;) {
      const range: Range = await context.connection.request('pages.range', { group: context.group, lo, pages: RANGE_PAGES_MAX })
      for (const page of range.pages) {
        if (page.entries.length === 0 || (await this.#isGood(epoch, page))) continue
        isWell = false
        await this.#takeApart(epoch, page, range)
      }
      lo = onwards(lo, range.next)
    }
    return isWell
  }

  async #isGood(epoch: number, page: KeyPageRow): Promise<boolean> {
    if (page.epoch !== epoch) throw new ClavigerError('stale_epoch')
    const sealed = this.#sealed.get(toHex(page.pageId))
    if (sealed !== undefined) return equalBytes(sealed, pageHash(page))
    try {
      await this.#checkForeignPage(page)
      return true
    } catch (error) {
      if (!isBadSeal(error)) throw error
      return false
    }
  }

  /** Another admin’s page: each DEK is compared with the commitment its author signed. */
  async #checkForeignPage(row: KeyPageRow): Promise<void> {
    const page = openPage(await this.#parts.keyring.sealKeysOf(row.epoch), row)
    const entries = decodeEntries(row.entries)
    await this.#repair.learn(entries)
    for (const [position, entry] of entries.entries()) {
      const known = this.#parts.index.get(entry.object)
      // Only a version that is gone may be unknown: nothing needs its DEK.
      if (known === null || known.version !== entry.generation) continue
      const signed = decodeEnvelope(known.envelope)
      if (!equalBytes(signed.hash, entry.headerHash)) throw new ClavigerError('page_invalid')
      checkDek(dekAt(page, position), signed.header)
    }
    this.#sealed.set(toHex(row.pageId), pageHash(row))
  }

  /** Replaces a bad page by what superseded seals, or the page itself, still open of it. */
  async #takeApart(epoch: number, page: KeyPageRow, range: Range): Promise<void> {
    const dead = new Set(decodePairs(range.dead).map(pairKey))
    const loose = new Set(range.loose.map(pairKey))
    const needed = decodeEntries(page.entries).filter((entry) => !dead.has(pairKey(entry)) && !loose.has(pairKey(entry)))
    this.#sealed.delete(toHex(page.pageId))
    await this.#repair.healOrReport(epoch, needed)
    await this.#replace(epoch, { pages: [page], loose: range.loose.filter(({ object }) => isWithin(object, page)) }, range)
  }

  async #retire(through: number): Promise<void> {
    await this.#parts.committer.commit(({ roster }) =>
      roster.retiredThrough >= through ? null : { ops: [{ type: 'retire-epoch', through }], rekey: false },
    )
  }
}

/** What nobody needs goes, whether or not it opens: a dead seal can be neither healed nor listed. */
function splitByNeed(refused: readonly Pair[], dead: Uint8Array): { readonly needed: Pair[]; readonly superfluous: Pair[] } {
  const deadKeys = new Set(refused.length === 0 ? [] : decodePairs(dead).map(pairKey))
  return {
    needed: refused.filter((pair) => !deadKeys.has(pairKey(pair))),
    superfluous: refused.filter((pair) => deadKeys.has(pairKey(pair))),
  }
}

function withPairs(packed: Uint8Array, more: readonly Pair[]): Uint8Array {
  return more.length === 0 ? packed : encodePairs([...decodePairs(packed), ...more])
}

/** Where the next range starts: always further on, whatever the server says. */
function onwards(lo: Uint8Array, next: Uint8Array | null): Uint8Array | null {
  if (next !== null && compareBytes(next, lo) <= 0) throw new ClavigerError('page_conflict')
  return next
}

function pageHash({ entries, sealed }: Pick<KeyPageRow, 'entries' | 'sealed'>): Uint8Array {
  return sha256(entries, sealed)
}

function countOf(entries: Uint8Array): number {
  return entries.length / ENTRY_BYTES
}
