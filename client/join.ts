/**
 * Joining with a token (DESIGN’s eight steps): everything the server says is judged against what the token pins, and the
 * joiner’s own commit is signed by the invite key and by the joiner.
 */
import { equalBytes } from '../shared/bytes.ts'
import { kemKeyId } from '../shared/crypto/keys.ts'
import { asSignature } from '../shared/crypto/keys.ts'
import { ClavigerError, hasCode } from '../shared/errors.ts'
import { unwrapEpochSecret } from '../shared/group/epoch.ts'
import type { GroupState } from '../shared/group/fold.ts'
import { applyCommit } from '../shared/group/fold.ts'
import type { InviteKeys, InviteToken } from '../shared/group/invite.ts'
import { inviteKeys } from '../shared/group/invite.ts'
import { inviteSessionMessage } from '../shared/group/invite-proof.ts'
import { signJoinRequest } from '../shared/group/join-request.ts'
import type { Roster } from '../shared/group/roster.ts'
import { currentEpoch, findActive, findInvite, holdsKeys, sameBytes } from '../shared/group/roster.ts'
import { openSnapshotAt } from '../shared/group/snapshot.ts'
import type { CommitHash } from '../shared/ids.ts'
import { Committer } from './committer.ts'
import type { GroupContext } from './group-context.ts'
import type { OpenedLog } from './group-log.ts'
import { GroupLog } from './group-log.ts'
import { epochContext, Keyring } from './keyring.ts'

/** How often an approve-mode joiner looks whether an admin has approved. */
const APPROVAL_POLL_MS = 1000

export interface JoinParts {
  readonly context: GroupContext
  readonly token: InviteToken
  readonly signal: AbortSignal | undefined
}

/** Joins the group of a token; of an approve-mode invite it waits for an admin. @returns the log as joined. */
export async function joinGroup(parts: JoinParts): Promise<OpenedLog> {
  const { context, token } = parts
  const keys = await inviteKeys(token.secret, 1)
  const stop = context.connection.on('open', () => void openInvite(context, keys).catch(() => undefined))
  try {
    await context.connection.whenOpen()
    await openInvite(context, keys)
    const state = await trustedState(context, token)
    assertInvite(state.roster, keys)
    const joining = new Joining(parts, keys, state)
    return await joining.run()
  } finally {
    stop()
  }
}

/** Lets this session read the log and the invite’s wrap. */
async function openInvite({ connection, group }: GroupContext, keys: InviteKeys): Promise<void> {
  const { session } = connection
  if (session === null) throw new ClavigerError('disconnected')
  const signature = asSignature(await keys.signer.sign(inviteSessionMessage(session, group, keys.id)))
  await connection.request('invite.open', { group, invite: keys.id, signature }, { session: session.number })
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
function assertInvite(roster: Roster, keys: InviteKeys): void {
  const invite = findInvite(roster, keys.id)
  const fits = invite !== null && equalBytes(invite.signingKey, keys.signer.publicKey) && equalBytes(invite.kemKey, keys.kem.publicKey)
  if (!fits) throw new ClavigerError('invite_invalid')
}

/** One attempt to join, from a trusted state to membership. */
class Joining {
  readonly #parts: JoinParts
  readonly #keys: InviteKeys
  readonly #heads: Map<number, CommitHash>
  readonly #log: GroupLog
  readonly #keyring: Keyring
  readonly #committer: Committer

  constructor(parts: JoinParts, keys: InviteKeys, state: GroupState) {
    this.#parts = parts
    this.#keys = keys
    this.#heads = new Map([[state.head.seq, state.head.hash]])
    this.#log = new GroupLog(parts.context, { state, heads: this.#heads, verified: null }, () => Promise.resolve())
    this.#keyring = new Keyring(parts.context, () => this.#log.state.roster, new Map())
    this.#committer = new Committer(parts.context, this.#log, this.#keyring)
  }

  async run(): Promise<OpenedLog> {
    const { context } = this.#parts
    await this.#log.sync()
    const invite = findInvite(this.#log.state.roster, this.#keys.id)
    if (findActive(this.#log.state.roster, context.identity.id) === null) {
      if (invite?.mode === 'approve') await this.#waitForApproval()
      else await this.#join()
    }
    return { state: this.#log.state, heads: this.#heads, verified: null }
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
    const { enc, wraps } = await context.connection.request('epoch.read', { group: context.group, epoch, recipient: kemKeyId(this.#keys.kem.publicKey), downTo: epoch })
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
    const { context, signal } = this.#parts
    const { group, identity, connection } = context
    const statement = { group, invite: this.#keys.id, cards: [...identity.cards], at: this.#log.state.head }
    const request = await signJoinRequest(statement, { invite: this.#keys.signer, joiner: identity.signer })
    await connection.request('join.request', { group, request })
    while (findActive(this.#log.state.roster, identity.id) === null) {
      this.#assertLive(this.#log.state.roster)
      await pause(APPROVAL_POLL_MS, signal)
      await this.#log.sync()
    }
  }
}

function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  signal?.throwIfAborted()
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms)
    signal?.addEventListener('abort', () => {
      clearTimeout(timer)
      reject(signal.reason)
    }, { once: true })
  })
}
