/**
 * Checking and healing what nobody notices until it is needed: wraps of open invites and absent members, and links.
 *
 * Wraps and links are derandomised, so any holder of an epoch secret can tell good ones and make them anew.
 */
import { equalBytes } from '../shared/bytes.ts'
import type { KemKeyId } from '../shared/crypto/keys.ts'
import { kemKeyId } from '../shared/crypto/keys.ts'
import { ClavigerError, hasCode } from '../shared/errors.ts'
import { isGoodWrap, sealLink, wrapAlone } from '../shared/group/epoch.ts'
import type { Recipient, Roster } from '../shared/group/roster.ts'
import { currentEpoch, findActive, holdsKeys, recipients } from '../shared/group/roster.ts'
import { idKey } from '../shared/ids.ts'
import type { GroupContext } from './group-context.ts'
import type { GroupLog } from './group-log.ts'
import type { Keyring } from './keyring.ts'
import { epochContext } from './keyring.ts'

/** Members whose wraps each client checks on a new epoch, besides all open invites. */
const AUDITED_MEMBERS = 8

export interface WrapCareParts {
  readonly context: GroupContext
  readonly log: GroupLog
  readonly keyring: Keyring
  /** Told of an epoch that some recipient cannot be given. */
  readonly unfit: (epoch: number) => void
}

/** One group’s wraps and links, looked after by this client. */
export class WrapCare {
  readonly #parts: WrapCareParts

  constructor(parts: WrapCareParts) {
    this.#parts = parts
  }

  /** Wraps the current epoch for a recipient who found no good wrap. */
  async help(epoch: number, recipient: KemKeyId): Promise<void> {
    const { context, log, keyring } = this.#parts
    // A roster that came from a snapshot may name recipients that nobody has admitted.
    if (!log.isVerified) return
    log.assertRunning()
    const { roster } = log.state
    const needy = recipients(roster).find(({ kemKeyId }) => idKey(kemKeyId) === idKey(recipient))
    if (needy === undefined || epoch !== roster.epoch || (await keyring.tryCurrent()) === null) return
    if (await this.#heal(epoch, needy)) context.emit({ type: 'healed', epoch, wraps: 1 })
  }

  /** Checks the wraps of open invites and of a few random members, and heals the bad ones: nobody notices until it is needed. */
  async audit(): Promise<void> {
    const { context, log, keyring } = this.#parts
    if (!this.#holdsKeys()) return
    const { roster } = log.state
    const { epoch } = currentEpoch(roster)
    // Also where others cannot be helped yet: one’s own wrap must not turn out bad only when it is needed.
    const secret = await keyring.secretOf(epoch)
    if (!log.isVerified) return
    await this.#offerLinks(epoch)
    const audited = this.#sample(roster)
    const at = epochContext(context.group, roster, epoch)
    const { enc, wraps } = await context.connection.request('wrap.read', {
      group: context.group,
      epoch,
      recipients: audited.map(({ kemKeyId }) => kemKeyId),
    })
    let healed = 0
    for (const [position, recipient] of audited.entries()) {
      const offered = wraps[position] ?? []
      const verdicts = await Promise.all(offered.map((wrap) => isGoodWrap(secret, at, { recipient, stored: { enc, wrap } })))
      if (verdicts.some(Boolean)) continue
      if (await this.#heal(epoch, recipient)) healed += 1
    }
    if (healed > 0) context.emit({ type: 'healed', epoch, wraps: healed })
  }

  #sample(roster: Roster): Recipient[] {
    const everybody = recipients(roster)
    const invites = new Set(roster.invites.map(({ id }) => idKey(id)))
    const isInvite = ({ principal }: Recipient): boolean => invites.has(idKey(principal))
    const members = everybody.filter((recipient) => !isInvite(recipient))
    const picked = members
      .map((member) => ({ member, order: this.#parts.context.random() }))
      .toSorted((left, right) => left.order - right.order)
    return [...everybody.filter(isInvite), ...picked.slice(0, AUDITED_MEMBERS).map(({ member }) => member)]
  }

  /** @returns false if there is no room for another wrap; if none of those is good, others have filled it with garbage. */
  async #heal(epoch: number, recipient: Recipient): Promise<boolean> {
    const { context, log, keyring } = this.#parts
    const { group, connection } = context
    const [secret, at] = [await keyring.secretOf(epoch), epochContext(group, log.state.roster, epoch)]
    try {
      await connection.request('wrap.offer', { group, epoch, recipient: recipient.kemKeyId, wrap: await wrapAlone(secret, at, recipient) })
      return true
    } catch (error) {
      if (!hasCode(error, 'limit_exceeded')) throw error
      const { enc, wraps } = await connection.request('wrap.read', { group, epoch, recipients: [recipient.kemKeyId] })
      const verdicts = await Promise.all((wraps[0] ?? []).map((wrap) => isGoodWrap(secret, at, { recipient, stored: { enc, wrap } })))
      if (!verdicts.some(Boolean)) this.#crowdedOut(epoch, recipient)
      return false
    }
  }

  #crowdedOut(epoch: number, { principal }: Recipient): void {
    const data = { epoch, recipient: principal }
    const error = new ClavigerError('wrap_invalid', 'every wrap of a recipient is bad, and there is no room for a good one', { data })
    this.#parts.context.emit({ type: 'bad-item', signer: null, error })
    this.#parts.unfit(epoch)
  }

  /** Supplies links to what this client holds and no link leads to: skipped epochs, garbage that a commit named, links that are gone. */
  async #offerLinks(epoch: number): Promise<void> {
    const { context, log, keyring } = this.#parts
    const { group, connection, identity } = context
    const held = log.state.roster.epochs.map((entry) => entry.epoch).filter((older) => older < epoch && keyring.holds(older))
    const [oldest] = held
    if (oldest === undefined) return
    const { links } = await connection.request('epoch.read', { group, epoch, recipient: kemKeyId(identity.kem.publicKey), downTo: oldest })
    const reached = await this.#reachedBy(links, epoch)
    for (const to of held.filter((older) => !reached.has(older))) {
      const link = sealLink(await keyring.secretOf(epoch), await keyring.secretOf(to), { group, epoch, to })
      await connection.request('link.offer', { group, epoch, to, link })
    }
  }

  /** The epochs that good links lead to. Every holder of two epochs makes the same link between them. */
  async #reachedBy(links: readonly { epoch: number; to: number; link: Uint8Array }[], from: number): Promise<ReadonlySet<number>> {
    const { context, keyring } = this.#parts
    const reached = new Set([from])
    for (const { epoch, to, link } of links.toSorted((left, right) => right.epoch - left.epoch)) {
      if (!reached.has(epoch) || reached.has(to) || !keyring.holds(epoch) || !keyring.holds(to)) continue
      const good = sealLink(await keyring.secretOf(epoch), await keyring.secretOf(to), { group: context.group, epoch, to })
      if (equalBytes(link, good)) reached.add(to)
    }
    return reached
  }

  async answerRequests(): Promise<void> {
    const { context } = this.#parts
    const { epoch, recipients: waiting } = await context.connection.request('wrap.requests', { group: context.group })
    for (const recipient of waiting) await this.help(epoch, recipient)
  }

  #holdsKeys(): boolean {
    const { context, log } = this.#parts
    const me = findActive(log.state.roster, context.identity.id)
    return me !== null && holdsKeys(me.role)
  }
}
