/**
 * Joining with a token (DESIGN’s eight steps): everything the server says is judged against what the token pins, and the
 * joiner’s own commit is signed by the invite key and by the joiner.
 */
import { equalBytes } from '../shared/bytes.ts'
import { kemKeyId } from '../shared/crypto/keys.ts'
import { ClavigerError, hasCode } from '../shared/errors.ts'
import { decodeCards } from '../shared/group/card.ts'
import { unwrapEpochSecret } from '../shared/group/epoch.ts'
import type { GroupState } from '../shared/group/fold.ts'
import { applyCommit } from '../shared/group/fold.ts'
import type { InviteKeys, InviteToken } from '../shared/group/invite.ts'
import { inviteKeys } from '../shared/group/invite.ts'
import { signJoinRequest } from '../shared/group/join-request.ts'
import type { Roster } from '../shared/group/roster.ts'
import { currentEpoch, findActive, findInvite, holdsKeys, isActive, sameBytes } from '../shared/group/roster.ts'
import { safetyNumber, safetyParty } from '../shared/group/safety-number.ts'
import { openSnapshotAt } from '../shared/group/snapshot.ts'
import type { IdentityId } from '../shared/ids.ts'
import { Committer } from './committer.ts'
import type { Connection } from './connection.ts'
import type { GroupContext } from './group-context.ts'
import type { OpenedLog } from './group-log.ts'
import { GroupLog } from './group-log.ts'
import { InvitedLine } from './invited-line.ts'
import { epochContext, Keyring } from './keyring.ts'
import { pause, withPatience } from './patience.ts'

/** How often an approve-mode joiner looks whether an admin has approved. */
const APPROVAL_POLL_MS = 500

/** Shown to whoever waits for an admin. */
export interface WaitingJoiner {
  /** For each admin, the sixty digits that this admin sees for the request: to be compared over a channel both trust. */
  readonly safetyNumbers: readonly { readonly admin: IdentityId; readonly number: string }[]
}

export interface JoinParts {
  readonly context: Omit<GroupContext, 'connection'> & { readonly connection: Connection }
  readonly token: InviteToken
  /** What the store has of the group, if this client was in it before: it does not go behind that. */
  readonly known: OpenedLog | null
  readonly signal: AbortSignal | undefined
  /** Called once the request of an approve-mode joiner waits. */
  readonly onWaiting: ((waiting: WaitingJoiner) => void) | undefined
}

/** Joins the group of a token; of an approve-mode invite it waits for an admin. @returns the log as joined. */
export async function joinGroup(parts: JoinParts): Promise<OpenedLog> {
  const { token, known, signal } = parts
  const keys = await inviteKeys(token.secret, 1)
  const { connection, group, store } = parts.context
  const context = { ...parts.context, connection: new InvitedLine({ connection, group, keys, signal }) }
  try {
    const opened = known ?? (await withPatience(context, () => trustedLog(context, token), signal))
    return await new Joining({ ...parts, context }, keys, opened).run()
  } catch (error) {
    // Nothing is left of a group that was not joined, unless it may have been: then the journal says so.
    if (known === null && (await store.loadPending()) === null) await store.erase()
    throw error
  }
}

/** The log from the commit that the token names. */
async function trustedLog(context: GroupContext, token: InviteToken): Promise<OpenedLog> {
  const state = await trustedState(context, token)
  return { state, heads: new Map([[state.head.seq, state.head.hash]]), verified: null }
}

/** The group at the commit that the token names: by its roster’s hash, or folded from the genesis. */
async function trustedState({ connection, group }: GroupContext, token: InviteToken): Promise<GroupState> {
  const { snapshot } = await connection.request('log.snapshot', { kind: 'at', group, seq: token.at.seq })
  if (snapshot !== null) return openSnapshotAt(token.at, snapshot, group)
  return foldFromGenesis({ connection, group }, token)
}

async function foldFromGenesis({ connection, group }: Pick<GroupContext, 'connection' | 'group'>, token: InviteToken): Promise<GroupState> {
  let state: GroupState | null = null
  while (state === null || state.head.seq < token.at.seq) {
    const { commits } = await connection.request('log.read', { group, from: state === null ? 0 : state.head.seq + 1 })
    if (commits.length === 0) throw new ClavigerError('invite_invalid', 'the log ends before the commit that the token names')
    for (const bytes of commits) {
      if (state === null || state.head.seq < token.at.seq) ({ state } = await applyCommit(state, bytes))
    }
  }
  const isPinned = sameBytes(state.group, group) && sameBytes(state.head.hash, token.at.hash)
  if (!isPinned) throw new ClavigerError('invite_invalid', 'the server shows another group than the token names')
  return state
}

/** The roster must hold this invite with exactly the keys that the token gives. */
function assertInvite(roster: Roster, keys: InviteKeys): Roster['invites'][number] {
  const invite = findInvite(roster, keys.id)
  if (invite === null || !equalBytes(invite.signingKey, keys.signer.publicKey) || !equalBytes(invite.kemKey, keys.kem.publicKey)) {
    throw new ClavigerError('invite_invalid')
  }
  return invite
}

type JoiningParts = Pick<JoinParts, 'token' | 'signal' | 'onWaiting'> & { readonly context: GroupContext }

/** One attempt to join, from a trusted state to membership. */
class Joining {
  readonly #parts: JoiningParts
  readonly #keys: InviteKeys
  readonly #log: GroupLog
  readonly #keyring: Keyring
  readonly #committer: Committer

  constructor(parts: JoiningParts, keys: InviteKeys, opened: OpenedLog) {
    this.#parts = parts
    this.#keys = keys
    this.#log = new GroupLog(parts.context, opened, () => Promise.resolve())
    this.#keyring = new Keyring(parts.context, () => this.#log.state.roster, new Map())
    this.#committer = new Committer({ context: parts.context, log: this.#log, keyring: this.#keyring })
  }

  async run(): Promise<OpenedLog> {
    const { context, token, signal } = this.#parts
    await withPatience(context, () => this.#log.sync(), signal)
    await withPatience(context, () => this.#log.assertContains(token.at), signal)
    const { roster } = this.#log.state
    const invite = assertInvite(roster, this.#keys)
    if (findActive(roster, context.identity.id) === null) {
      this.#assertLive(roster)
      if (invite.mode === 'approve') await this.#waitForApproval()
      else await withPatience(context, () => this.#join(), signal)
    }
    return this.#log.opened
  }

  async #join(): Promise<void> {
    const { context } = this.#parts
    const { identity } = context
    const signers = [this.#keys.signer, identity.signer]
    await this.#committer.commit(async ({ roster }) => {
      this.#parts.signal?.throwIfAborted()
      if (findActive(roster, identity.id) !== null) return null
      const invite = this.#assertLive(roster)
      if (holdsKeys(invite.role)) await this.#openByInvite(roster)
      return { ops: [{ type: 'join', cards: [...identity.cards] }], rekey: false, signers }
    })
  }

  #assertLive(roster: Roster): Roster['invites'][number] {
    const invite = findInvite(roster, this.#keys.id)
    if (invite?.state !== 'live') throw new ClavigerError('invite_spent')
    if (invite.expiresAt < Math.max(roster.logTime, this.#parts.context.connection.serverTime())) throw new ClavigerError('invite_expired')
    return invite
  }

  /** The current epoch’s secret, by the wrap that was made for the invite. */
  async #openByInvite(roster: Roster): Promise<void> {
    const { context } = this.#parts
    const { epoch } = currentEpoch(roster)
    if (this.#keyring.holds(epoch)) return
    const { enc, wraps } = await context.connection.request('epoch.read', {
      group: context.group,
      epoch,
      recipient: kemKeyId(this.#keys.kem.publicKey),
      downTo: epoch,
    })
    for (const wrap of wraps) {
      try {
        const secret = await unwrapEpochSecret(this.#keys.kem, epochContext(context.group, roster, epoch), { enc, wrap })
        context.counters.wrapsOpened += 1
        await this.#keyring.add(epoch, secret)
        return
      } catch (error) {
        if (!hasCode(error, 'wrap_invalid')) throw error
      }
    }
    throw new ClavigerError('wrap_invalid', undefined, { data: { epoch } })
  }

  async #waitForApproval(): Promise<void> {
    const { context, signal, onWaiting } = this.#parts
    const { group, identity, connection } = context
    const statement = { group, invite: this.#keys.id, cards: [...identity.cards], at: this.#log.state.head }
    const request = await signJoinRequest(statement, { invite: this.#keys.signer, joiner: identity.signer })
    await withPatience(context, () => connection.request('join.request', { group, request }), signal)
    onWaiting?.({ safetyNumbers: this.#safetyNumbers() })
    while (findActive(this.#log.state.roster, identity.id) === null) {
      this.#assertLive(this.#log.state.roster)
      await pause(APPROVAL_POLL_MS, signal)
      await withPatience(context, () => this.#log.sync(), signal)
    }
    this.#assertOwnCard()
  }

  #safetyNumbers(): WaitingJoiner['safetyNumbers'] {
    const { group, identity } = this.#parts.context
    const me = safetyParty(decodeCards(identity.cards))
    const admins = this.#log.state.roster.members.filter((member) => isActive(member) && member.role === 'admin')
    return admins.map((admin) => ({ admin: admin.id, number: safetyNumber(group, me, admin) }))
  }

  /** An admin may have been shown another card of this identity: keys that are not ours must not stand for us. */
  #assertOwnCard(): void {
    const { identity } = this.#parts.context
    const me = findActive(this.#log.state.roster, identity.id)
    const isOwn = me !== null && equalBytes(me.signingKey, identity.signer.publicKey) && equalBytes(me.kemKey, identity.kem.publicKey)
    if (!isOwn) throw new ClavigerError('invalid_key', 'the card that was approved is not this client’s')
  }
}
