/** Bodies too large for an object’s row: up in parts, down in any span. */
import type { Params } from '../../shared/protocol/messages.ts'
import type { Call, Handlers } from './handler.ts'

type BodyMethod = 'body.begin' | 'body.write' | 'body.complete' | 'body.read' | 'body.hashes'

export const bodyHandlers: Handlers<BodyMethod> = {
  'body.begin': async ({ services: { access, bodies }, peer }, { group, bodyId }) => {
    await access.enter(group, peer, 'writesObjects')
    return { partsPresent: [...(await bodies.begin({ group, bodyId }, { owner: peer.identity }))] }
  },

  'body.write': async ({ services: { access, bodies, uploads }, peer }, frame) => {
    const { group, bodyId, part } = frame
    await access.enter(group, peer, 'writesObjects')
    const data = uploads.gather(peer, frame)
    if (data === null) return { durable: false }
    await bodies.writePart({ group, bodyId }, { part, data, owner: peer.identity })
    return { durable: true }
  },

  'body.complete': async ({ services: { access, bodies }, peer }, { group, bodyId, hashes }) => {
    await access.enter(group, peer, 'writesObjects')
    await bodies.complete({ group, bodyId }, { hashes, owner: peer.identity })
    return {}
  },

  'body.read': (call, params) => readSpan(call, params, 'read'),
  'body.hashes': (call, params) => readSpan(call, params, 'readHashes'),
}

function readSpan(
  { services: { access, bodies }, peer }: Call,
  { group, bodyId, offset, bytes }: Params<'body.read'>,
  from: 'read' | 'readHashes',
): Promise<{ data: Uint8Array }> {
  return access.read(group, peer, 'readsObjects', async () => ({ data: await bodies[from]({ group, bodyId }, { offset, bytes }) }))
}
