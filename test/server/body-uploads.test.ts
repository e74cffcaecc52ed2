import { describe, expect, it } from 'vitest'
import { asBodyId, asGroupId } from '../../shared/ids.ts'
import { BODY_PART_BYTES } from '../../shared/limits.ts'
import type { Params } from '../../shared/protocol/messages.ts'
import { BodyUploads } from '../../server/body-uploads.ts'
import type { Peer } from '../../server/peer.ts'
import { ManualClock } from '../support/manual-clock.ts'
import { openStage } from '../support/session-stage.ts'

async function peerAndEnd(): Promise<{ peer: Peer; end: () => void }> {
  const { peer, transport } = await openStage()
  return { peer, end: () => transport.disconnect() }
}

function frame(part: number, offset = 0, bytes = 1, last = false): Params<'body.write'> {
  return {
    group: asGroupId(new Uint8Array(32)),
    bodyId: asBodyId(new Uint8Array(16)),
    part,
    offset,
    data: new Uint8Array(bytes).fill(part),
    last,
  }
}

describe('parts on their way in', () => {
  it('a part in one frame is whole at once and takes no room', async () => {
    const { peer } = await peerAndEnd()
    const uploads = new BodyUploads(new ManualClock())
    for (let part = 0; part < 100; part += 1) expect(uploads.gather(peer, frame(part, 0, 10, true))).toHaveLength(10)
  })

  it('a part is whole when its frames join from the start to the last', async () => {
    const { peer } = await peerAndEnd()
    const uploads = new BodyUploads(new ManualClock())
    expect(uploads.gather(peer, frame(3, BODY_PART_BYTES - 5, 5, true))).toBe(null)
    expect(uploads.gather(peer, frame(3, 0, BODY_PART_BYTES - 5))).toEqual(new Uint8Array(BODY_PART_BYTES).fill(3))
  })

  it('a part has at most 256 frames', async () => {
    const { peer } = await peerAndEnd()
    const uploads = new BodyUploads(new ManualClock())
    for (let count = 0; count < 256; count += 1) expect(uploads.gather(peer, frame(0, 1 + 2 * count))).toBe(null)
    expect(uploads.gather(peer, frame(0, 1))).toBe(null)
    expect(() => uploads.gather(peer, frame(0, 0))).toThrow(expect.objectContaining({ code: 'limit_exceeded' }))
  })

  it('a part that nobody goes on with for a minute is given up, and its room is free', async () => {
    const { peer } = await peerAndEnd()
    const clock = new ManualClock()
    const uploads = new BodyUploads(clock)
    for (let part = 0; part < 8; part += 1) uploads.gather(peer, frame(part))
    clock.advance(30_000)
    uploads.gather(peer, frame(0, 1))
    clock.advance(30_001)
    uploads.sweep()
    for (let part = 8; part < 15; part += 1) expect(uploads.gather(peer, frame(part))).toBe(null)
    expect(() => uploads.gather(peer, frame(15))).toThrow(expect.objectContaining({ code: 'limit_exceeded' }))
    expect(uploads.gather(peer, frame(0, 2, 1, true))).toHaveLength(3)
  })

  it('nothing is kept for a session that has ended', async () => {
    const { peer, end } = await peerAndEnd()
    const uploads = new BodyUploads(new ManualClock())
    uploads.gather(peer, frame(0))
    end()
    uploads.remove(peer)
    expect(() => uploads.gather(peer, frame(1))).toThrow(expect.objectContaining({ code: 'closed' }))
  })

  it('what all sessions have unfinished is bounded, and freed with them', async () => {
    const uploads = new BodyUploads(new ManualClock())
    const peers = await Promise.all(Array.from({ length: 33 }, () => peerAndEnd()))
    for (const { peer } of peers.slice(0, 32)) for (let part = 0; part < 8; part += 1) uploads.gather(peer, frame(part))
    const [first, last] = [peers[0]?.peer, peers[32]?.peer]
    if (first === undefined || last === undefined) throw new Error('33 peers')
    expect(() => uploads.gather(last, frame(0))).toThrow(expect.objectContaining({ code: 'rate_limited' }))
    uploads.remove(first)
    expect(uploads.gather(last, frame(0))).toBe(null)
  })
})
