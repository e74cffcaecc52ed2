import { describe, expect, test } from 'vitest'
import { sealCommit } from '../../client/committer.ts'
import type { SecretSource } from '../../client/committer.ts'
import type { KemPublicKey } from '../../shared/crypto/keys.ts'
import { unwrapEpochSecret } from '../../shared/group/epoch.ts'
import type { GroupState } from '../../shared/group/fold.ts'
import { applyCommit } from '../../shared/group/fold.ts'
import { recipients } from '../../shared/group/roster.ts'
import { epochContext, inviteOf, inviteOp, Log, ops } from '../support/forge.ts'
import { people } from '../support/people.ts'

/** The order-one point: X25519 with it gives zeros, which is an error in every backend. */
const BLOCKING_KEY = new Uint8Array(32) as KemPublicKey

const { alice, bob, carol, dave } = await people('alice', 'bob', 'carol', 'dave')

async function groupOfFour(): Promise<{ log: Log; secrets: SecretSource }> {
  const log = await Log.found(alice)
  await log.commit({ author: alice, ops: [ops.add(bob, 'member'), ops.add(carol, 'member'), ops.add(dave, 'member')] })
  const secretOf = (): Promise<typeof log.secret> => Promise.resolve(log.secret)
  return { log, secrets: { secretOf, linkFrom: async () => ({ epoch: log.roster.epoch, secret: log.secret }) } }
}

/** The state as if a key had slipped past every check. */
function withBlockingKey(state: GroupState, who: 'member' | 'invite', id: Uint8Array): GroupState {
  const spoilt = <Entry extends { readonly id: Uint8Array }>(entry: Entry): Entry =>
    String(entry.id) === String(id) ? { ...entry, kemKey: BLOCKING_KEY } : entry
  const { members, invites } = state.roster
  return {
    ...state,
    roster: {
      ...state.roster,
      members: who === 'member' ? members.map(spoilt) : members,
      invites: who === 'invite' ? invites.map(spoilt) : invites,
    },
  }
}

describe('A74: a recipient whose key cannot be sealed to', () => {
  test('does not block the removal of another member: it goes out in the same commit', async () => {
    const { log, secrets } = await groupOfFour()
    const state = withBlockingKey(log.state, 'member', bob.id)
    const intent = { ops: [ops.remove(carol)], rekey: true, time: log.roster.logTime + 1, signers: [alice.signer], group: state.group }
    const { commit, params, secret } = await sealCommit(state, intent, secrets)
    expect(commit.payload.ops).toEqual([ops.remove(carol), ops.remove(bob)])
    const { state: after } = await applyCommit(state, commit.bytes)
    expect(recipients(after.roster).map(({ principal }) => principal)).toEqual([alice.id, dave.id])
    expect(params.wraps).toHaveLength(2)
    const [, wrap] = params.wraps
    const opened = await unwrapEpochSecret(dave.kemPrivateKey, epochContext(after, after.roster.epoch), {
      enc: params.enc,
      wrap: wrap ?? new Uint8Array(0),
    })
    expect(opened).toEqual(secret)
  })

  test('is closed if it is an invite', async () => {
    const { log, secrets } = await groupOfFour()
    const invite = await inviteOf('blocking')
    await log.commit({ author: alice, ops: [await inviteOp(log.state, alice, invite)] })
    const state = withBlockingKey(log.state, 'invite', invite.id)
    const intent = { ops: [], rekey: true, time: log.roster.logTime + 1, signers: [alice.signer], group: state.group }
    const { commit, params } = await sealCommit(state, intent, secrets)
    expect(commit.payload.ops).toEqual([ops.revoke(invite)])
    expect(params.wraps).toHaveLength(4)
  })

  test('keeps a member from opening an epoch that only an admin can clear, and says so', async () => {
    const { log, secrets } = await groupOfFour()
    await log.commit({ author: dave, ops: [ops.leave()] })
    const state = withBlockingKey(log.state, 'member', bob.id)
    const intent = { ops: [], rekey: true, time: log.roster.logTime + 1, signers: [carol.signer], group: state.group }
    await expect(sealCommit(state, intent, secrets)).rejects.toMatchObject({ code: 'not_authorised' })
  })
})
