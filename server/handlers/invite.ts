/** Invites: proving to hold one, and asking to be let in. */
import { equalBytes } from '../../shared/bytes.ts'
import { verifySignature } from '../../shared/crypto/signature.ts'
import { ClavigerError, hasCode } from '../../shared/errors.ts'
import type { GroupState } from '../../shared/group/fold.ts'
import { inviteSessionMessage } from '../../shared/group/invite-proof.ts'
import { verifyJoinRequest } from '../../shared/group/join-request.ts'
import { findInvite, findMember } from '../../shared/group/roster.ts'
import type { GroupId, InviteId } from '../../shared/ids.ts'
import { idKey } from '../../shared/ids.ts'
import type { InviteEntry } from '../access.ts'
import type { Groups } from '../groups.ts'
import { listJoinRequests, storeJoinRequest } from '../storage/join-requests.ts'
import type { Call, Handlers } from './handler.ts'

type InviteMethod = 'invite.open' | 'join.request' | 'join.requests'

/** Invites one session may have open: more are not needed to join groups one after the other. */
const OPEN_INVITES_MAX = 64

export const inviteHandlers: Handlers<InviteMethod> = {
  'invite.open': async (call, { group, invite, signature }) => {
    const { services, peer } = call
    const { state, entry } = await findInviteAt(services.groups, group, invite)
    const message = inviteSessionMessage(peer.binding, group, invite)
    if (!(await verifySignature(entry.signingKey, message, signature))) throw new ClavigerError('invite_invalid')
    assertUsable(call, state, entry)
    if (peer.inviteByGroup.size >= OPEN_INVITES_MAX) throw new ClavigerError('limit_exceeded')
    peer.inviteByGroup.set(idKey(group), invite)
    services.audit.inviteOpened(group, peer, invite)
    return { head: state.head }
  },

  'join.request': async ({ services: { access, database, relay }, peer }, { group, request: bytes }) => {
    const { state, standing } = await access.enter(group, peer, 'readsLog')
    if (standing.kind !== 'guest') throw new ClavigerError('already_member')
    const request = await verifyJoinRequest(group, state.roster, bytes)
    const isOwn = equalBytes(request.invite, standing.invite.id) && equalBytes(request.cards.identity, peer.identity)
    if (!isOwn) throw new ClavigerError('not_authorised', 'A session asks for itself, through the invite it has opened.')
    const isNew = await storeJoinRequest(database, group, {
      requestHash: request.hash,
      invite: request.invite,
      identity: peer.identity,
      bytes,
    })
    if (isNew) relay.joinRequested(group, { hash: request.hash, request: bytes })
    return {}
  },

  'join.requests': ({ services: { access, database }, peer }, { group }) =>
    access.read(group, peer, 'administers', async () => ({ requests: await listJoinRequests(database, group) })),
}

/** The invite and the state it is in. Whoever does not hold its key is not told whether there is such a group, or what has become of the invite. */
async function findInviteAt(groups: Groups, group: GroupId, id: InviteId): Promise<{ state: GroupState; entry: InviteEntry }> {
  try {
    // A token is often older than the state this process has.
    const cached = await groups.state(group)
    const state = findInvite(cached.roster, id)?.state === 'live' ? cached : await groups.refresh(group)
    const entry = findInvite(state.roster, id)
    if (entry === null) throw new ClavigerError('invite_invalid')
    return { state, entry }
  } catch (error) {
    throw hasCode(error, 'unknown_group') ? new ClavigerError('invite_invalid') : error
  }
}

/** Whether the invite opens anything for this session. */
function assertUsable({ services: { clock }, peer }: Call, { roster }: GroupState, invite: InviteEntry): void {
  if (invite.state !== 'live') throw new ClavigerError('invite_spent')
  if (invite.expiresAt < clock.now()) throw new ClavigerError('invite_expired')
  if (findMember(roster, peer.identity)?.state === 'removed') throw new ClavigerError('not_a_member')
}
