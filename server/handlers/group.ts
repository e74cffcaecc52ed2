/** Groups and their commits. */
import type { Acceptance } from '../referee.ts'
import { listGroups } from '../storage/groups.ts'
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
async function counted({ services: { metrics, relay, audit }, peer }: Call, judge: () => Promise<Acceptance>): Promise<Acceptance> {
  try {
    const accepted = await judge()
    const { group, head } = accepted.after
    relay.advanced(group, { change: accepted.change, seq: head.seq })
    audit.committed(peer, accepted)
    metrics.commits.inc({ result: 'accepted' })
    return accepted
  } catch (error) {
    metrics.commits.inc({ result: 'refused' })
    throw error
  }
}
