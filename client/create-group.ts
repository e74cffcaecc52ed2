/** Creating a group: its genesis, kept before it is sent, and sent until the outcome is known. */
import type { EpochSecret } from '../shared/crypto/keys.ts'
import { ClavigerError, hasCode } from '../shared/errors.ts'
import { epochPublic, generateEpochSecret, wrapEpochSecret } from '../shared/group/epoch.ts'
import type { Fold, GroupState } from '../shared/group/fold.ts'
import { applyCommit } from '../shared/group/fold.ts'
import { planCommit, signCommit } from '../shared/group/plan-commit.ts'
import { recipients } from '../shared/group/roster.ts'
import { COMMIT_ATTEMPTS_MAX } from '../shared/limits.ts'
import type { Params } from '../shared/protocol/messages.ts'
import type { Connection } from './connection.ts'
import type { OpenedLog } from './group-log.ts'
import type { GroupStore } from './group-store.ts'
import type { Identity } from './identity.ts'
import { epochContext } from './keyring.ts'

/** A group that is about to be created. */
export interface Genesis {
  readonly fold: Fold
  readonly secret: EpochSecret
  readonly enc: Uint8Array
  readonly wraps: Uint8Array[]
}

/** Plans, signs and seals a genesis. @param time - milliseconds since 1970. */
export async function planGenesis(identity: Identity, time: number): Promise<Genesis> {
  const secret = generateEpochSecret()
  const rekey = { ...(await epochPublic(secret, { suite: 1, epoch: 0 })), link: null }
  const { payload } = planCommit(null, identity.signer, { time, ops: [{ type: 'create', cards: [...identity.cards] }], rekey })
  const fold = await applyCommit(null, (await signCommit(payload, [identity.signer])).bytes)
  const { state } = fold
  const { enc, wraps } = await wrapEpochSecret(secret, epochContext(state.group, state.roster, 0), recipients(state.roster))
  return { fold, secret, enc, wraps: wraps.filter((wrap) => wrap !== null) }
}

/** Creates a group. The secret is kept before the group exists, or a crash could leave one that nobody can open. */
export async function createGroup(connection: Connection, store: GroupStore, genesis: Genesis): Promise<OpenedLog> {
  const { state, commit } = genesis.fold
  await store.savePending({ commit: commit.bytes, epoch: 0, secret: genesis.secret })
  await store.saveSecrets(new Map([[0, genesis.secret]]))
  await store.saveState(state, null)
  try {
    await sendGenesis(connection, { commit: commit.bytes, enc: genesis.enc, wraps: genesis.wraps })
  } catch (error) {
    // Where it is not known whether the server has it, the next start finds out.
    if (error instanceof ClavigerError && !isUnknownOutcome(error)) await store.erase()
    throw error
  }
  await store.savePending(null)
  return newLog(state)
}

/** A log of which nothing but its first state is known. */
export function newLog(state: GroupState): OpenedLog {
  return { state, heads: new Map([[state.head.seq, state.head.hash]]), verified: null }
}

/** The same bytes again if an answer is lost. */
async function sendGenesis(connection: Connection, params: Params<'group.create'>): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await connection.request('group.create', params)
      return
    } catch (error) {
      // The id is the hash of our own bytes: if it exists already, it is by us and only the answer was lost.
      if (attempt > 1 && hasCode(error, 'group_exists')) return
      const isPassing = hasCode(error, 'disconnected', 'timeout', 'server_unavailable', 'server_draining')
      if (attempt === COMMIT_ATTEMPTS_MAX || !isPassing) throw error
      await connection.whenOpen()
    }
  }
}

/** Whether a request that failed may have been carried out all the same. */
function isUnknownOutcome(error: ClavigerError): boolean {
  return hasCode(error, 'disconnected', 'timeout', 'closed', 'server_unavailable', 'server_draining', 'internal')
}
