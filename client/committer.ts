/**
 * Making commits: plan on the accepted head, seal what the plan needs, journal, send, and try again when others were first.
 *
 * Nothing in the client changes before the acknowledgement. A lost acknowledgement is recognised by the commit’s hash in
 * the log; what was signed once is only ever sent again, never signed anew.
 */
import type { EpochSecret } from '../shared/crypto/keys.ts'
import { asEpochSecret } from '../shared/crypto/keys.ts'
import type { Signer } from '../shared/crypto/signature.ts'
import { ClavigerError, hasCode } from '../shared/errors.ts'
import type { Commit, CommitPayload, Op, Rekey } from '../shared/group/commit.ts'
import { decodeCommit } from '../shared/group/commit.ts'
import type { EpochContext } from '../shared/group/epoch.ts'
import { epochPublic, generateEpochSecret, sealLink, wrapAlone, wrapEpochSecret } from '../shared/group/epoch.ts'
import type { GroupState } from '../shared/group/fold.ts'
import { linkHash } from '../shared/group/link-hash.ts'
import type { CommitPlan } from '../shared/group/plan-commit.ts'
import { planCommit, signCommit } from '../shared/group/plan-commit.ts'
import type { Recipient, Roster } from '../shared/group/roster.ts'
import { findMember, recipients, sameBytes } from '../shared/group/roster.ts'
import { COMMIT_ATTEMPTS_MAX, CLOCK_SKEW_MS_MAX } from '../shared/limits.ts'
import type { Params } from '../shared/protocol/messages.ts'
import type { GroupContext } from './group-context.ts'
import type { GroupLog } from './group-log.ts'
import type { Keyring } from './keyring.ts'
import { epochContext } from './keyring.ts'
import { Patience, pause, withPatience } from './patience.ts'
import { Serial } from './serial.ts'

/** What to do at a given state. */
export interface Intent {
  readonly ops: readonly Op[]
  readonly rekey: boolean
  /** Keys that sign besides or instead of the member’s own. */
  readonly signers?: readonly Signer[]
}

/** Decides what to do on top of a state; null if nothing is left to do. Called again whenever others were first. */
export type Planner = (state: GroupState) => Intent | null | Promise<Intent | null>

/** A signed commit with what travels beside it, and the secret of the epoch it opens. */
export interface SealedCommit {
  readonly commit: Commit
  readonly params: Omit<Params<'commit.submit'>, 'group'>
  readonly secret: EpochSecret | null
}

/** The parts that making commits needs from the group. */
export interface CommitterParts {
  readonly context: GroupContext
  readonly log: GroupLog
  readonly keyring: Keyring
  /** Told of each commit that the server has acknowledged, before the log has it: where it stands in the count of changes. */
  readonly acknowledged?: (at: { readonly change: number; readonly epoch: number; readonly seq: number }) => void
}

/** One group’s commits by this client, one at a time. */
export class Committer {
  readonly #context: GroupContext
  readonly #log: GroupLog
  readonly #keyring: Keyring
  readonly #acknowledged: NonNullable<CommitterParts['acknowledged']>
  readonly #serial = new Serial()

  constructor({ context, log, keyring, acknowledged = () => undefined }: CommitterParts) {
    this.#context = context
    this.#log = log
    this.#keyring = keyring
    this.#acknowledged = acknowledged
  }

  /**
   * Commits what `plan` wants, planning again for each newer head.
   *
   * @returns the accepted commit, or null if nothing was left to do.
   * @throws ClavigerError of the broken rule, `unverified`, or `gave_up`.
   */
  commit(plan: Planner): Promise<Commit | null> {
    return this.#serial.run(async () => {
      for (let attempt = 0; attempt < COMMIT_ATTEMPTS_MAX; attempt += 1) {
        this.#log.assertRunning()
        const { state } = this.#log
        const intent = await plan(state)
        if (intent === null) return null
        this.#assertVerified(intent)
        const done = await this.#attempt(state, intent)
        if (done !== null) return done
        // Many who start over at once would go on meeting; a random while thins them out.
        await pause(contentionMs(attempt) * this.#context.random())
        await withPatience(this.#context, () => this.#log.sync())
      }
      throw new ClavigerError('gave_up')
    })
  }

  /** After a restart: keeps the secret of a commit whose acknowledgement was lost, if the log has it. */
  recoverPending(): Promise<void> {
    // In line with the others: what is in the journal while a commit is on its way is not for us.
    return this.#serial.run(async () => {
      const pending = await this.#context.store.loadPending()
      if (pending === null) return
      const commit = decodeCommit(pending.commit)
      if (await this.#isInLog(commit)) await this.#keep(pending.epoch, pending.secret === null ? null : asEpochSecret(pending.secret))
      await this.#context.store.savePending(null)
    })
  }

  /** One try; null if somebody else was first. */
  async #attempt(state: GroupState, intent: Intent): Promise<Commit | null> {
    const { group, store } = this.#context
    const sealed = await this.#seal(state, intent)
    // What was sealed for recipients who have been removed meanwhile is not even sent.
    if (this.#log.state !== state) return null
    const epoch = sealed.secret === null ? null : sealed.commit.payload.epoch
    await store.savePending({ commit: sealed.commit.bytes, epoch, secret: sealed.secret })
    try {
      await this.#send({ group, ...sealed.params }, sealed.commit)
      await this.#keep(epoch, sealed.secret)
      await this.#log.receive(sealed.commit.bytes)
      await store.savePending(null)
      return sealed.commit
    } catch (error) {
      // Whether the server has it is not known: the journal says so after a restart.
      if (!(error instanceof ClavigerError) || hasCode(error, 'closed', 'disconnected', 'timeout', 'server_unavailable', 'server_draining'))
        throw error
      await store.savePending(null)
      if (!hasCode(error, 'stale_head', 'stale_epoch')) throw error
      return null
    }
  }

  /** Sends until there is an answer: the same bytes again, or the log, tells whether a lost one was a yes. */
  async #send(params: Params<'commit.submit'>, commit: Commit): Promise<void> {
    const patience = new Patience(this.#context)
    const { epoch, seq } = commit.payload
    for (;;) {
      try {
        const { change } = await this.#context.connection.request('commit.submit', params)
        return this.#acknowledged({ change, epoch, seq })
      } catch (error) {
        if (hasCode(error, 'stale_head') && (await withPatience(this.#context, () => this.#isInLog(commit)))) return
        await patience.outlast(error)
      }
    }
  }

  async #isInLog(commit: Commit): Promise<boolean> {
    await this.#log.sync()
    if (this.#log.state.head.seq < commit.payload.seq) return false
    try {
      await this.#log.assertContains({ seq: commit.payload.seq, hash: commit.hash })
      return true
    } catch (error) {
      if (hasCode(error, 'bad_head')) return false
      throw error
    }
  }

  async #keep(epoch: number | null, secret: EpochSecret | null): Promise<void> {
    if (epoch !== null && secret !== null) await this.#keyring.add(epoch, secret)
  }

  /** A client that has not folded the whole log must not decide who is in it. */
  #assertVerified(intent: Intent): void {
    const decides =
      intent.rekey || intent.ops.some((op) => op.type === 'add' || op.type === 'approve' || op.type === 'invite' || op.type === 'set-role')
    if (decides && !this.#log.isVerified) throw new ClavigerError('unverified')
  }

  async #seal(state: GroupState, intent: Intent): Promise<SealedCommit> {
    const { identity, connection, group, now } = this.#context
    const time = claimedTime(now(), connection.serverTime())
    const signers = intent.signers ?? [identity.signer]
    const secrets = { secretOf: (epoch: number) => this.#keyring.secretOf(epoch), linkFrom: () => this.#linkFrom(state.roster.epoch) }
    return sealCommit(state, { ...intent, time, signers, group }, secrets)
  }

  /** The newest epoch this client can open: links go from the new one to it. */
  async #linkFrom(current: number): Promise<{ epoch: number; secret: EpochSecret } | null> {
    try {
      return { epoch: current, secret: await this.#keyring.secretOf(current) }
    } catch (error) {
      if (!hasCode(error, 'wrap_invalid', 'stale_epoch')) throw error
      const epoch = this.#keyring.newestHeld()
      return epoch === null ? null : { epoch, secret: await this.#keyring.secretOf(epoch) }
    }
  }
}

/** Where a plan gets secrets from. */
export interface SecretSource {
  readonly secretOf: (epoch: number) => Promise<EpochSecret>
  readonly linkFrom: () => Promise<{ epoch: number; secret: EpochSecret } | null>
}

/** An intent with all it needs to be sealed and signed. */
export interface SealableIntent extends Intent {
  readonly time: number
  readonly signers: readonly Signer[]
  readonly group: GroupContext['group']
}

/** Plans, seals and signs one commit. Recipients whose key cannot be sealed to are removed in the same commit. */
export async function sealCommit(state: GroupState, intent: SealableIntent, secrets: SecretSource): Promise<SealedCommit> {
  const rekeyed = intent.rekey ? await planRekey(state, intent.group, secrets) : null
  const [author] = intent.signers
  if (author === undefined) throw new TypeError('a commit needs a signer')
  const plan = planCommit(state, author, { time: intent.time, ops: intent.ops, rekey: rekeyed?.rekey ?? null })
  const sealed = await sealWraps(plan, intent.group, rekeyed?.secret ?? null, secrets)
  if (sealed.unsealable.length > 0) {
    return sealCommit(state, { ...intent, ops: [...intent.ops, ...removalsOf(state.roster, sealed.unsealable)] }, secrets)
  }
  const commit = await signCommit(plan.payload, intent.signers)
  const params = { commit: commit.bytes, enc: sealed.enc, wraps: sealed.wraps, link: rekeyed?.link ?? null }
  return { commit, params, secret: rekeyed?.secret ?? null }
}

interface PlannedRekey {
  readonly secret: EpochSecret
  readonly rekey: Rekey
  readonly link: Uint8Array | null
}

async function planRekey(state: GroupState, group: GroupContext['group'], secrets: SecretSource): Promise<PlannedRekey> {
  const epoch = state.roster.epoch + 1
  const secret = generateEpochSecret()
  const older = await secrets.linkFrom()
  const link = older === null ? null : sealLink(secret, older.secret, { group, epoch, to: older.epoch })
  const named = older === null || link === null ? null : { to: older.epoch, hash: linkHash(link) }
  return { secret, link, rekey: { ...(await epochPublic(secret, { suite: state.roster.suite, epoch })), link: named } }
}

interface SealedWraps {
  readonly enc: Uint8Array
  readonly wraps: Uint8Array[]
  readonly unsealable: readonly Recipient[]
}

async function sealWraps(
  plan: CommitPlan,
  group: GroupContext['group'],
  secret: EpochSecret | null,
  secrets: SecretSource,
): Promise<SealedWraps> {
  const { roster, newRecipients } = plan.transition
  if (secret !== null) {
    const everybody = recipients(roster)
    const { enc, wraps } = await wrapEpochSecret(secret, contextOf(plan.payload, roster, group), everybody)
    return { enc, wraps: wraps.filter((wrap) => wrap !== null), unsealable: everybody.filter((_, index) => wraps[index] === null) }
  }
  if (newRecipients.length === 0) return { enc: new Uint8Array(0), wraps: [], unsealable: [] }
  const current = await secrets.secretOf(roster.epoch)
  const at = epochContext(group, roster, roster.epoch)
  const wraps: Uint8Array[] = []
  for (const recipient of newRecipients) wraps.push(await wrapAlone(current, at, recipient))
  return { enc: new Uint8Array(0), wraps, unsealable: [] }
}

function contextOf(payload: CommitPayload, roster: Roster, group: GroupContext['group']): EpochContext {
  return epochContext(group, roster, payload.epoch)
}

function removalsOf(roster: Roster, unsealable: readonly Recipient[]): Op[] {
  return unsealable.map(({ principal }) => {
    const member = findMember(roster, principal)
    if (member !== null) return { type: 'remove', member: member.id }
    const invite = roster.invites.find(({ id }) => sameBytes(id, principal))
    if (invite === undefined) throw new ClavigerError('invalid_key')
    return { type: 'revoke-invite', invite: invite.id }
  })
}

/** How long at most the loser of `attempt` (from 0) waits before the next one, in ms: longer the more there seem to be. */
function contentionMs(attempt: number): number {
  return Math.min(5 * 2 ** attempt, 1000)
}

/** One’s own clock, kept within what an honest server accepts: the claim is never a right. */
export function claimedTime(now: number, serverTime: number): number {
  const slack = CLOCK_SKEW_MS_MAX / 2
  return Math.floor(Math.min(Math.max(now, serverTime - slack), serverTime + slack))
}
