/** Invites: proving to hold one, and asking to be let in. */
import { equalBytes } from '../../shared/bytes.ts'
import { verifySignature } from '../../shared/crypto/signature.ts'
import { ClavigerError } from '../../shared/errors.ts'
import type { GroupState } from '../../shared/group/fold.ts'
import { inviteSessionMessage } from '../../shared/group/invite-proof.ts'
import { verifyJoinRequest } from '../../shared/group/join-request.ts'
import { findInvite, findMember } from '../../shared/group/roster.ts'
import type { InviteId } from '../../shared/ids.ts'
import { idKey } from '../../shared/ids.ts'
import type { InviteEntry } from '../access.ts'
import { listJoinRequests, storeJoinRequest } from '../storage/join-requests.ts'
import type { Call, Handlers } from './handler.ts'

type InviteMethod = 'invite.open' | 'join.request' | 'join.requests'

/** Invites one session may have open: more are not needed to join groups one after the other. */
const OPEN_INVITES_MAX = 64

export const inviteHandlers: Handlers<InviteMethod> = {
  'invite.open': async (call, { group, invite, signature }) => {
    const { services, peer } = call
    // A token is often older than the state this process has.
    const cached = await services.groups.state(group)
    const state = findInvite(cached.roster, invite)?.state === 'live' ? cached : await services.groups.refresh(group)
    const entry = findUsable(call, state, invite)
    const message = inviteSessionMessage(peer.binding, group, invite)
    if (!(await verifySignature(entry.signingKey, message, signature))) throw new ClavigerError('invite_invalid')
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
    const isNew = await storeJoinRequest(database, group, { requestHash: request.hash, invite: request.invite, identity: peer.identity, bytes })
    if (isNew) relay.joinRequested(group, { hash: request.hash, request: bytes })
    return {}
  },

  'join.requests': ({ services: { access, database }, peer }, { group }) =>
    access.read(group, peer, 'administers', async () => ({ requests: await listJoinRequests(database, group) })),
}

/** The invite, if it opens anything for this session. */
function findUsable({ services: { clock }, peer }: Call, { roster }: GroupState, id: InviteId): InviteEntry {
  const invite = findInvite(roster, id)
  if (invite === null) throw new ClavigerError('invite_invalid')
  if (invite.state !== 'live') throw new ClavigerError('invite_spent')
  if (invite.expiresAt < clock.now()) throw new ClavigerError('invite_expired')
  if (findMember(roster, peer.identity)?.state === 'removed') throw new ClavigerError('not_a_member')
  return invite
}
