/** Signed heads: each member’s word on where the log stands. */
import { equalBytes } from '../../shared/bytes.ts'
import { ClavigerError } from '../../shared/errors.ts'
import { decodeSignedHead, verifySignedHead } from '../../shared/group/signed-head.ts'
import { listSignedHeads, storeSignedHead } from '../storage/heads.ts'
import { MEMBERS_MAX } from '../../shared/limits.ts'
import type { Handlers } from './handler.ts'

type HeadMethod = 'head.sign' | 'head.list'

export const headHandlers: Handlers<HeadMethod> = {
  'head.sign': async ({ services: { access, database, hashes, relay }, peer }, { group, head: bytes }) => {
    const head = decodeSignedHead(bytes)
    const { state } = await access.enterAt(group, peer, 'isMember', head.at.seq)
    if (!equalBytes(head.member, peer.identity)) throw new ClavigerError('not_authorised', 'A session signs for itself only.')
    await verifySignedHead(group, state.roster, head)
    await hashes.assertContains(state, head.at, peer.identity)
    const isNewest = await storeSignedHead(database, group, { principal: peer.identity, seq: head.at.seq, bytes })
    if (isNewest) relay.announce({ type: 'signed-head', group, head: bytes })
    return {}
  },

  'head.list': ({ services: { access, database }, peer }, { group }) =>
    access.read(group, peer, 'isMember', async () => ({ heads: await listSignedHeads(database, group, MEMBERS_MAX) })),
}
