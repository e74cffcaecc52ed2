/** Groups and their commits. */
import { findMember } from '../../shared/group/roster.ts'
import type { Acceptance } from '../referee.ts'
import { listGroups } from '../storage/groups.ts'
import { removeJoinRequests, removeJoinRequestsThrough } from '../storage/join-requests.ts'
import type { Call, Handlers } from './handler.ts'

type GroupMethod = 'group.list' | 'group.create' | 'commit.submit'

export const groupHandlers: Handlers<GroupMethod> = {
  'group.list': async ({ services: { database }, peer }) => ({ groups: await listGroups(database, peer.identity) }),

  'group.create': async (call, params) => {
    const accepted = await counted(call, () => call.services.referee.create(call.peer, params))
    return { group: accepted.after.group, change: accepted.change }
  },

  'commit.submit': async (call, params) => {
    const accepted = await counted(call, () => call.services.referee.submit(call.peer, params))
    return { head: accepted.after.head, change: accepted.change }
  },
}

/** Tells everybody about an accepted commit, and the metrics about every one. */
async function counted(
  { services: { database, metrics, relay, audit, log, retired, statuses }, peer }: Call,
  judge: () => Promise<Acceptance>,
): Promise<Acceptance> {
  try {
    const accepted = await judge()
    const { group, head } = accepted.after
    statuses.changed(group)
    relay.advanced(group, { change: accepted.change, seq: head.seq })
    audit.inviteUsed(peer, accepted)
    if (accepted.commit.payload.ops.some(({ type }) => type === 'retire-epoch')) retired.note()
    await dropAnsweredRequests(database, accepted).catch((error: unknown) => log.error({}, 'join requests were not dropped', error))
    metrics.commits.inc({ result: 'accepted' })
    return accepted
  } catch (error) {
    metrics.commits.inc({ result: 'refused' })
    throw error
  }
}

/** Requests of whoever is a member now, and those through invites that are dead now, wait for nothing any more. */
async function dropAnsweredRequests(database: Call['services']['database'], { before, after }: Acceptance): Promise<void> {
  if (before === null) return
  const joined = after.roster.members.filter(({ id, state }) => state === 'active' && findMember(before.roster, id)?.state !== 'active')
  const dead = after.roster.invites.filter((invite, index) => invite.state !== 'live' && before.roster.invites[index]?.state === 'live')
  for (const { id } of joined) await removeJoinRequests(database, after.group, id)
  if (dead.length > 0)
    await removeJoinRequestsThrough(
      database,
      after.group,
      dead.map(({ id }) => id),
    )
}
