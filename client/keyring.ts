/**
 * The epoch secrets a client holds: its own wrap of the current epoch, and older ones through links.
 *
 * Every secret is compared with the commitment in the verified roster before it is used for anything.
 */
import type { EpochSecret } from '../shared/crypto/keys.ts'
import { kemKeyId } from '../shared/crypto/keys.ts'
import { equalBytes, wipe } from '../shared/bytes.ts'
import { ClavigerError, hasCode } from '../shared/errors.ts'
import type { EpochContext } from '../shared/group/epoch.ts'
import { assertEpochSecret, depositKeyPair, openLink, unwrapEpochSecret } from '../shared/group/epoch.ts'
import type { Roster } from '../shared/group/roster.ts'
import { currentEpoch, findEpoch } from '../shared/group/roster.ts'
import type { EpochSealKeys } from '../shared/objects/dek.ts'
import { epochSealKeys } from '../shared/objects/dek.ts'
import type { GroupContext } from './group-context.ts'

/** What a wrap or a commitment of `epoch` is bound to. */
export function epochContext(group: GroupContext['group'], roster: Roster, epoch: number): EpochContext {
  const entry = findEpoch(roster, epoch)
  if (entry === null)
    throw new ClavigerError(epoch <= roster.retiredThrough ? 'epoch_retired' : 'epoch_unavailable', undefined, { data: { epoch } })
  return { suite: roster.suite, group, epoch, seq: entry.seq, parent: entry.parent, commitment: entry.commitment }
}

/** One group’s secrets. */
export class Keyring {
  readonly #context: GroupContext
  readonly #roster: () => Roster
  readonly #secrets: Map<number, EpochSecret>
  readonly #sealKeys = new Map<number, EpochSealKeys>()
  readonly #opening = new Map<number, Promise<EpochSecret>>()
  /** The epoch that was last told to be unavailable. */
  #unavailable: number | null = null

  constructor(context: GroupContext, roster: () => Roster, secrets: Map<number, EpochSecret>) {
    this.#context = context
    this.#roster = roster
    this.#secrets = secrets
  }

  /** Whether the secret is at hand, without asking anybody. */
  holds(epoch: number): boolean {
    return this.#secrets.has(epoch)
  }

  /** The newest epoch whose secret is at hand; null if none is. */
  newestHeld(): number | null {
    return this.#secrets.size === 0 ? null : Math.max(...this.#secrets.keys())
  }

  /**
   * The secret of an epoch that is not retired, opened by one’s wrap or by links if need be.
   *
   * @throws ClavigerError `wrap_invalid`, `stale_epoch`, `epoch_unavailable`, `epoch_retired`.
   */
  async secretOf(epoch: number): Promise<EpochSecret> {
    const held = this.#secrets.get(epoch)
    if (held !== undefined) return held
    const known = this.#opening.get(epoch)
    if (known !== undefined) return known
    const opening = this.#open(epoch).finally(() => this.#opening.delete(epoch))
    this.#opening.set(epoch, opening)
    return opening
  }

  /** The secret of the current epoch if one of one’s own wraps opens; asks nobody for help. */
  async tryCurrent(): Promise<EpochSecret | null> {
    const { epoch } = currentEpoch(this.#roster())
    return this.#secrets.get(epoch) ?? (await this.#tryWraps(epochContext(this.#context.group, this.#roster(), epoch)))
  }

  /** The keys an epoch seals DEKs and pages with. */
  async sealKeysOf(epoch: number): Promise<EpochSealKeys> {
    const known = this.#sealKeys.get(epoch)
    if (known !== undefined) return known
    const secret = await this.secretOf(epoch)
    // Retired meanwhile, it has been wiped: what it would give opens nothing.
    if (!this.#isLive(epoch)) throw new ClavigerError('epoch_retired', undefined, { data: { epoch } })
    const keys = epochSealKeys(secret, { group: this.#context.group, epoch })
    this.#sealKeys.set(epoch, keys)
    return keys
  }

  /** Takes a secret that this client made or got through an invite; the caller has checked it. */
  async add(epoch: number, secret: EpochSecret): Promise<void> {
    if (!this.#isLive(epoch)) return
    this.#secrets.set(epoch, secret)
    await this.#context.store.saveSecrets(new Map([[epoch, secret]]))
  }

  /** Erases the secrets of retired epochs. */
  async eraseThrough(epoch: number): Promise<void> {
    const retired = [...this.#secrets.keys()].filter((held) => held <= epoch)
    for (const old of retired) {
      const secret = this.#secrets.get(old)
      if (secret !== undefined) wipe(secret)
      this.#secrets.delete(old)
      this.#sealKeys.delete(old)
    }
    if (retired.length > 0) await this.#context.store.saveSecrets(new Map(retired.map((old) => [old, null])))
  }

  async #open(epoch: number): Promise<EpochSecret> {
    const roster = this.#roster()
    const at = epochContext(this.#context.group, roster, epoch)
    if (epoch === roster.epoch) return (await this.#tryWraps(at)) ?? this.#askForHelp(epoch)
    if (![...this.#secrets.keys()].some((held) => held > epoch)) await this.secretOf(roster.epoch)
    await this.#followLinks(epoch)
    // A stranded epoch may be linked from the current one alone.
    const isMissing = !this.#secrets.has(epoch) && !this.#secrets.has(roster.epoch)
    if (isMissing && (await this.tryCurrent()) !== null) await this.#followLinks(epoch)
    // What nobody has linked may still be open to whoever was a recipient then.
    const opened = this.#secrets.get(epoch) ?? (await this.#tryWraps(at))
    if (opened === null) throw new ClavigerError('epoch_unavailable', undefined, { data: { epoch } })
    return opened
  }

  /** Tries every wrap that was offered for this client; the commitment decides which is good. */
  async #tryWraps(at: EpochContext): Promise<EpochSecret | null> {
    const { connection, group, identity, counters } = this.#context
    const recipient = kemKeyId(identity.kem.publicKey)
    const { enc, wraps } = await connection.request('epoch.read', { group, epoch: at.epoch, recipient, downTo: at.epoch })
    for (const wrap of wraps) {
      try {
        const secret = await unwrapEpochSecret(identity.kem, at, { enc, wrap })
        counters.wrapsOpened += 1
        await this.#assertDepositKey(secret, at)
        await this.add(at.epoch, secret)
        return secret
      } catch (error) {
        if (!hasCode(error, 'wrap_invalid')) throw error
      }
    }
    return null
  }

  /**
   * Any member’s client helps; until then the group stays readable on the last epoch that is held.
   *
   * @throws ClavigerError `wrap_invalid`; `stale_epoch` if a newer epoch is current, which may well open.
   */
  async #askForHelp(epoch: number): Promise<never> {
    const { connection, group, identity, emit } = this.#context
    await connection.request('wrap.request', { group, epoch, recipient: kemKeyId(identity.kem.publicKey) })
    const error = new ClavigerError('wrap_invalid', undefined, { data: { epoch } })
    if (this.#unavailable !== epoch) emit({ type: 'epoch-unavailable', epoch, error })
    this.#unavailable = epoch
    throw error
  }

  /** A deposit key that is not derived from the secret would let its maker read what others deposit. */
  async #assertDepositKey(secret: EpochSecret, at: EpochContext): Promise<void> {
    const { publicKey } = await depositKeyPair(secret, at)
    const claimed = findEpoch(this.#roster(), at.epoch)?.depositKey
    if (claimed !== undefined && equalBytes(publicKey, claimed)) return
    const error = new ClavigerError('rekey_invalid', undefined, { data: { epoch: at.epoch } })
    this.#context.emit({ type: 'bad-item', signer: null, error })
  }

  /** Opens links downwards until `epoch` is held or nothing more opens. */
  async #followLinks(epoch: number): Promise<void> {
    const { connection, group, identity } = this.#context
    // From the newest that is held: a stranded epoch may be linked from there alone.
    const from = Math.max(...this.#secrets.keys())
    const recipient = kemKeyId(identity.kem.publicKey)
    const { links } = await connection.request('epoch.read', { group, epoch: from, recipient, downTo: epoch })
    const newestFirst = links.toSorted((left, right) => right.epoch - left.epoch)
    const opened = new Map<number, EpochSecret>()
    for (const { epoch: newer, to, link } of newestFirst) {
      const secret = this.#secrets.get(newer) ?? opened.get(newer)
      if (secret === undefined || opened.has(to) || this.#secrets.has(to)) continue
      const older = this.#tryLink(secret, link, { newer, to })
      if (older !== null) opened.set(to, older)
    }
    // What has been retired while the answer was on its way is not kept.
    const live = new Map([...opened].filter(([older]) => this.#isLive(older)))
    for (const [older, secret] of live) this.#secrets.set(older, secret)
    if (live.size > 0) await this.#context.store.saveSecrets(live)
  }

  #isLive(epoch: number): boolean {
    return epoch > this.#roster().retiredThrough
  }

  /** Null for a link that does not open to what the roster committed to: several may be offered. */
  #tryLink(secret: EpochSecret, link: Uint8Array, { newer, to }: { newer: number; to: number }): EpochSecret | null {
    const entry = findEpoch(this.#roster(), to)
    if (entry === null) return null
    try {
      const older = openLink(secret, link, { group: this.#context.group, epoch: newer, to })
      assertEpochSecret(older, entry)
      this.#context.counters.linksOpened += 1
      return older
    } catch (error) {
      if (!hasCode(error, 'decryption_failed', 'wrap_invalid')) throw error
      return null
    }
  }
}
