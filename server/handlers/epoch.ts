/** Epoch secrets as the server sees them: wraps and links, which it hands out and never opens. */
import { equalBytes } from '../../shared/bytes.ts'
import type { KemKeyId } from '../../shared/crypto/keys.ts'
import { kemKeyId } from '../../shared/crypto/keys.ts'
import { SUITES } from '../../shared/crypto/suites.ts'
import { ClavigerError, hasCode } from '../../shared/errors.ts'
import type { Roster } from '../../shared/group/roster.ts'
import { findEpoch, recipients } from '../../shared/group/roster.ts'
import type { GroupId } from '../../shared/ids.ts'
import { idKey } from '../../shared/ids.ts'
import { COMMIT_ATTEMPTS_MAX } from '../../shared/limits.ts'
import type { Admission } from '../access.ts'
import { offerLink, readLinks } from '../storage/links.ts'
import { listWrapRequests, offerWrap, readWraps, requestWrap } from '../storage/wraps.ts'
import type { Call, Handlers } from './handler.ts'

type EpochMethod = 'epoch.read' | 'wrap.read' | 'wrap.request' | 'wrap.requests' | 'wrap.offer' | 'link.offer'

export const epochHandlers: Handlers<EpochMethod> = {
  'epoch.read': ({ services: { access, database }, peer }, { group, epoch, recipient, downTo }) =>
    access.read(group, peer, 'holdsKeys', async (admission) => {
      assertOwnKey(admission, recipient)
      const { enc, wraps } = await readWraps(database, group, { epoch, recipients: [recipient] })
      const links = await readLinks(database, group, { epoch, downTo })
      return { enc, wraps: [...(wraps[0] ?? [])], links }
    }),

  'wrap.read': ({ services: { access, database }, peer }, { group, epoch, recipients: asked }) =>
    access.read(group, peer, 'auditsWraps', async () => {
      const { enc, wraps } = await readWraps(database, group, { epoch, recipients: asked })
      return { enc, wraps: wraps.map((own) => [...own]) }
    }),

  'wrap.request': async ({ services: { access, database, relay }, peer }, { group, epoch, recipient }) => {
    const admission = await access.enter(group, peer, 'holdsKeys')
    assertOwnKey(admission, recipient)
    const request = await requestWrap(database, group, { epoch, recipient })
    if (request === 'not-current') throw staleEpoch(admission)
    if (request === 'noted') relay.announce({ type: 'wrap-requested', group, epoch, recipient })
    return {}
  },

  'wrap.requests': ({ services: { access, database }, peer }, { group }) =>
    access.read(group, peer, 'auditsWraps', async ({ state: { roster } }) => {
      // Who asked and was removed meanwhile is no recipient any more.
      const current = new Set(recipients(roster).map(({ key }) => key))
      const asking = await listWrapRequests(database, group, roster.epoch)
      return { epoch: roster.epoch, recipients: asking.filter((recipient) => current.has(idKey(recipient))) }
    }),

  'wrap.offer': (call, { group, epoch, recipient, wrap }) =>
    atHead(call, group, async (admission) => {
      const { roster, head } = admission.state
      if (epoch !== roster.epoch) throw staleEpoch(admission)
      if (!recipients(roster).some(({ kemKeyId: id }) => equalBytes(id, recipient)))
        throw new ClavigerError('not_authorised', 'That key is no recipient of this epoch.')
      assertWrapLength(roster, wrap)
      await offerWrap(call.services.database, group, { epoch, recipient, wrap, seq: head.seq, offerer: call.peer.identity })
      return {}
    }),

  'link.offer': (call, { group, epoch, to, link }) =>
    atHead(call, group, async ({ state }) => {
      const known = findEpoch(state.roster, epoch) !== null && findEpoch(state.roster, to) !== null
      if (!known || to >= epoch)
        throw new ClavigerError('epoch_unavailable', 'A link goes from a newer to an older epoch, both of them not retired.')
      // A link is an epoch secret and its tag, as long as a wrap.
      if (link.length !== SUITES[state.roster.suite].wrapBytes) throw new ClavigerError('malformed', 'the link has a wrong length')
      await offerLink(call.services.database, group, { epoch, to, link, seq: state.head.seq, offerer: call.peer.identity })
      return {}
    }),
}

/** Runs what asserts the head it was judged at; a commit in between only makes it be judged again. */
async function atHead<T>(
  { services: { access, groups }, peer }: Call,
  group: GroupId,
  run: (admission: Admission) => Promise<T>,
): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    const admission = await access.enter(group, peer, 'auditsWraps')
    try {
      return await run(admission)
    } catch (error) {
      if (!hasCode(error, 'stale_head') || attempt === COMMIT_ATTEMPTS_MAX) throw error
      await groups.refresh(group)
    }
  }
}

/** Handing out wraps of others would show whom an epoch was given to under which key, to those who have no use for it. */
function assertOwnKey({ standing }: Admission, recipient: KemKeyId): void {
  const own = standing.kind === 'member' ? standing.member.kemKey : standing.invite.kemKey
  if (!equalBytes(kemKeyId(own), recipient)) throw new ClavigerError('not_authorised', 'Only one’s own wraps are read here.')
}

function assertWrapLength(roster: Roster, wrap: Uint8Array): void {
  const { nEnc, wrapBytes } = SUITES[roster.suite]
  if (wrap.length !== wrapBytes && wrap.length !== nEnc + wrapBytes) throw new ClavigerError('malformed', 'the wrap has a wrong length')
}

function staleEpoch({ state: { head, roster } }: Admission): ClavigerError {
  return new ClavigerError('stale_epoch', undefined, { data: { ...head, epoch: roster.epoch } })
}
