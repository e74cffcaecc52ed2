import { describe, expect, it } from 'vitest'
import { encodeCanonical } from '../../shared/codec.ts'
import { ClavigerError } from '../../shared/errors.ts'
import { FRAME_BYTES_UNAUTHENTICATED_MAX, FRAME_ITEMS_MAX, HANDSHAKE_MS_MAX, HEARTBEAT_MS } from '../../shared/limits.ts'
import { OutboundBudget } from '../../server/outbound-budget.ts'
import { frameOf, framePayload } from '../../server/frame.ts'
import { asGroupId } from '../../shared/ids.ts'
import { ALICE, CLAIM, openStage, request, stage, turn } from '../support/session-stage.ts'

describe('greeting', () => {
  it('starts with a fresh nonce and the server’s time', async () => {
    const [one, two] = [stage(), stage()]
    await turn()
    const [hello, other] = [one.transport.of('hello')[0], two.transport.of('hello')[0]]
    expect(hello?.nonce).toHaveLength(32)
    expect(hello?.nonce).not.toEqual(other?.nonce)
    expect(hello?.time).toBe(one.clock.now())
  })

  it('opens when the claim is good, and says welcome before any reply', async () => {
    const { transport, opened, session } = stage()
    transport.receive(CLAIM)
    transport.receive(request(1))
    await turn()
    expect(session.state).toBe('open')
    expect(opened[0]?.identity).toEqual(ALICE.identity)
    expect(transport.sent.map((frame) => frame.type)).toEqual(['hello', 'welcome', 'reply'])
  })

  it('hands the nonce and the dialled authority to authentication', async () => {
    const seen: unknown[] = []
    const { transport } = stage({
      authenticate: async ({ binding, address }) => {
        seen.push(binding.host, address, binding.nonce)
        return ALICE
      },
    })
    transport.receive(CLAIM)
    await turn()
    expect(seen).toEqual(['claviger.test', '192.0.2.1', transport.of('hello')[0]?.nonce])
  })

  it('refuses requests before authentication', async () => {
    const { transport } = stage()
    transport.receive(request(1))
    await turn()
    expect(transport.of('error')[0]).toMatchObject({ id: null, code: 'unauthenticated' })
    expect(transport.closedFor).toBe('unauthenticated')
  })

  it('closes with the reason when the claim is refused', async () => {
    const refused = stage({
      authenticate: async () => {
        throw new ClavigerError('authentication_failed')
      },
    })
    refused.transport.receive(CLAIM)
    await turn()
    expect(refused.transport.of('error')[0]?.code).toBe('authentication_failed')
    expect(refused.transport.closedFor).toBe('unauthenticated')
    expect(refused.closed).toEqual([null])
  })

  it('tells a database failure during authentication apart from a refusal, so that the client comes back', async () => {
    const broken = stage({
      authenticate: async () => {
        throw new ClavigerError('server_unavailable')
      },
    })
    broken.transport.receive(CLAIM)
    await turn()
    expect(broken.transport.of('error')[0]?.code).toBe('server_unavailable')
    expect(broken.transport.closedFor).toBe('internal')
  })

  it('closes whoever does not authenticate in time', () => {
    const { transport, clock, session } = stage()
    clock.advance(HANDSHAKE_MS_MAX)
    session.tick()
    expect(transport.closedFor).toBe(null)
    clock.advance(1)
    session.tick()
    expect(transport.closedFor).toBe('handshakeTimeout')
  })

  it('the deadline also holds while a claim is being verified', async () => {
    const { transport, clock, session } = stage({ authenticate: () => new Promise(() => undefined) })
    transport.receive(CLAIM)
    await turn()
    clock.advance(HANDSHAKE_MS_MAX + 1)
    session.tick()
    expect(transport.closedFor).toBe('handshakeTimeout')
  })

  it('a claim that is verified after the connection broke opens nothing', async () => {
    let finish = (): void => undefined
    const { transport, opened, closed } = stage({ authenticate: () => new Promise((resolve) => (finish = () => resolve(ALICE))) })
    transport.receive(CLAIM)
    await turn()
    transport.disconnect()
    finish()
    await turn()
    expect(opened).toEqual([])
    expect(closed).toEqual([null])
  })
})

describe('frames', () => {
  /** The frame itself, four keys, three values; then the list and what is in it. */
  const requestOfItems = (count: number): unknown => ({
    type: 'request',
    id: 1,
    method: 'session.ping',
    params: Array.from({ length: count - 9 }, () => 0),
  })
  const malformed: Record<string, Uint8Array> = {
    'is empty': new Uint8Array(0),
    'is not CBOR': Uint8Array.of(0xff, 0xff),
    'is text in CBOR': encodeCanonical('hello'),
    'has a trailing byte': Uint8Array.from([...encodeCanonical(request(1)), 0]),
    'has an unknown field': encodeCanonical({ ...request(1), extra: 1 }),
    'has an unknown type': encodeCanonical({ type: 'reply', id: 1, result: {} }),
    'has a negative id': encodeCanonical(request(-1)),
    'has a fractional id': encodeCanonical(request(1.5)),
    'has a method of 65 characters': encodeCanonical(request(1, 'x'.repeat(65))),
    'is nested a thousand deep': new Uint8Array(1000).fill(0x81),
    'claims a string of 2^53 bytes': Uint8Array.of(0x5b, 0x00, 0x20, 0, 0, 0, 0, 0, 0),
    'uses an indefinite length': Uint8Array.of(0xbf, 0xff),
    'repeats a key': Uint8Array.of(0xa2, 0x61, 0x61, 0x01, 0x61, 0x61, 0x02),
    'uses a tag': Uint8Array.of(0xc1, 0x00),
    'has more items than any request': encodeCanonical(requestOfItems(FRAME_ITEMS_MAX + 1)),
  }

  it.each(Object.entries(malformed))('a frame that %s ends the session', async (_name, bytes) => {
    for (const { transport } of [stage(), await openStage()]) {
      transport.receiveBytes(bytes)
      await turn()
      expect(transport.of('error')[0]).toMatchObject({ id: null, code: 'malformed' })
      expect(transport.closedFor).toBe('malformed')
    }
  })

  it('a frame of as many items as it may have is read', async () => {
    const { transport } = await openStage()
    transport.receiveBytes(encodeCanonical(requestOfItems(FRAME_ITEMS_MAX)))
    await turn()
    expect(transport.closedFor).toBe(null)
  })

  it('a frame at the unauthenticated limit is read, one byte more ends the session', async () => {
    const full = Array.from({ length: Math.floor(FRAME_BYTES_UNAUTHENTICATED_MAX / 4200) }, () => new Uint8Array(4096))
    const padding = FRAME_BYTES_UNAUTHENTICATED_MAX - encodeCanonical({ ...CLAIM, cards: [...full, new Uint8Array(300)] }).length
    const claim = (extra: number): Uint8Array => encodeCanonical({ ...CLAIM, cards: [...full, new Uint8Array(300 + padding + extra)] })
    const [fits, tooLarge] = [stage(), stage()]
    expect(claim(0)).toHaveLength(FRAME_BYTES_UNAUTHENTICATED_MAX)
    fits.transport.receiveBytes(claim(0))
    tooLarge.transport.receiveBytes(claim(1))
    await turn()
    expect(fits.session.state).toBe('open')
    expect(tooLarge.transport.closedFor).toBe('frameTooLarge')
    expect(tooLarge.transport.of('error')[0]?.code).toBe('limit_exceeded')
  })

  it('an open session takes frames up to its own limit', async () => {
    const { transport } = await openStage({ limits: { frameBytes: 100_000 } })
    expect(transport.frameBytesAllowed).toEqual([100_000])
    transport.receive(request(1, 'x', new Uint8Array(50_000)))
    await turn()
    expect(transport.of('reply')).toHaveLength(1)
    transport.receive(request(2, 'x', new Uint8Array(100_000)))
    await turn()
    expect(transport.closedFor).toBe('frameTooLarge')
  })

  it('authenticating twice ends the session', async () => {
    const { transport } = await openStage()
    transport.receive(CLAIM)
    await turn()
    expect(transport.closedFor).toBe('malformed')
  })

  it('frames that arrive after the end are not looked at', async () => {
    const calls: string[] = []
    const { transport, session } = await openStage({ call: async (_peer, { method }) => calls.push(method) })
    session.close('draining')
    transport.receive(request(1))
    await turn()
    expect(calls).toEqual([])
    expect(transport.sent.at(-1)?.type).toBe('welcome')
  })
})

describe('requests', () => {
  it('answers by id, in the order in which answers are ready', async () => {
    const finish = new Map<number, () => void>()
    const { transport } = await openStage({ call: (_peer, { id }) => new Promise((resolve) => finish.set(id, () => resolve({ id }))) })
    transport.receive(request(7))
    transport.receive(request(8))
    await turn()
    finish.get(8)?.()
    await turn()
    finish.get(7)?.()
    await turn()
    expect(transport.of('reply').map((reply) => reply.id)).toEqual([8, 7])
  })

  it('an id may be used again after its reply, but not before', async () => {
    const { transport } = await openStage({
      call: (_peer, { method }) => (method === 'slow' ? new Promise(() => undefined) : Promise.resolve({})),
    })
    transport.receive(request(1, 'fast'))
    await turn()
    transport.receive(request(1, 'slow'))
    await turn()
    expect(transport.closedFor).toBe(null)
    transport.receive(request(1, 'fast'))
    await turn()
    expect(transport.closedFor).toBe('malformed')
  })

  it('an error of ours that may travel keeps its code and data', async () => {
    const { transport, logLines } = await openStage({
      call: async () => {
        throw new ClavigerError('stale_head', undefined, { data: { seq: 3 } })
      },
    })
    transport.receive(request(1))
    await turn()
    expect(transport.of('error')[0]).toMatchObject({ id: 1, code: 'stale_head', data: { seq: 3 } })
    expect(logLines.some((line) => line.includes('request failed'))).toBe(false)
  })

  it.each([new TypeError('secret 0xdeadbeef'), new ClavigerError('decryption_failed', 'secret 0xdeadbeef'), 'secret 0xdeadbeef'])(
    'any other error becomes internal, with a reference to the log and nothing else',
    async (failure) => {
      const { transport, logLines } = await openStage({
        // Not every library throws errors.
        call: () => Promise.reject(failure),
      })
      transport.receive(request(1))
      await turn()
      const error = transport.of('error')[0]
      expect(error?.code).toBe('internal')
      expect(JSON.stringify(error)).not.toContain('deadbeef')
      expect(logLines.join('')).toContain(String(error?.data['reference']))
      expect(transport.closedFor).toBe(null)
    },
  )
})

describe('back-pressure', () => {
  it('past 32 requests in flight the socket is paused, and read again when there is room', async () => {
    const finish: (() => void)[] = []
    const { transport, session } = await openStage({ call: () => new Promise((resolve) => finish.push(() => resolve({}))) })
    for (let id = 0; id < 32; id += 1) transport.receive(request(id))
    await turn()
    expect([session.requestsInFlight, transport.paused]).toEqual([32, false])
    transport.receive(request(32))
    transport.receive(request(33))
    await turn()
    expect([session.requestsInFlight, transport.paused]).toEqual([32, true])
    finish[0]?.()
    finish[1]?.()
    await turn()
    expect([session.requestsInFlight, transport.paused]).toEqual([32, false])
    expect(finish).toHaveLength(34)
  })

  it('past 4 MiB in flight the socket is paused', async () => {
    const finish: (() => void)[] = []
    const { transport, session } = await openStage({ call: () => new Promise((resolve) => finish.push(() => resolve({}))) })
    transport.receive(request(1, 'x', new Uint8Array(3 * 1024 * 1024)))
    transport.receive(request(2, 'x', new Uint8Array(3 * 1024 * 1024)))
    await turn()
    expect([session.requestsInFlight, transport.paused]).toEqual([1, true])
    finish[0]?.()
    await turn()
    expect([session.requestsInFlight, transport.paused, finish.length]).toEqual([1, false, 2])
  })

  it('a flood is slowed down to the rate and loses nothing', async () => {
    const { transport, clock } = await openStage({ limits: { requestsPerSecond: 10, requestsBurst: 21 } })
    for (let id = 0; id < 40; id += 1) transport.receive(request(id))
    await turn()
    // One token went to the authentication.
    expect([transport.of('reply').length, transport.paused]).toEqual([20, true])
    clock.advance(1000)
    await turn()
    expect([transport.of('reply').length, transport.paused]).toEqual([30, true])
    clock.advance(1000)
    await turn()
    expect([transport.of('reply').length, transport.paused]).toEqual([40, false])
    expect(transport.closedFor).toBe(null)
  })

  it('all frames of a tick are one write', async () => {
    const { transport, peer } = await openStage()
    const before = transport.writes.length
    const frame = frameOf({ type: 'evicted', group: asGroupId(new Uint8Array(32)), reason: 'removed' })
    for (let count = 0; count < 5; count += 1) peer.send(frame)
    await turn()
    expect(transport.writes.slice(before)).toEqual([5])
  })

  it('a peer that does not read is lagging: no new request starts and replies wait', async () => {
    const { transport, peer, session, drained } = await openStage({ call: async () => new Uint8Array(800_000) })
    transport.stuck = true
    transport.receive(request(1))
    await turn()
    expect(peer.live).toBe(true)
    transport.receive(request(2))
    await turn()
    expect(peer.live).toBe(false)
    transport.receive(request(3))
    await turn()
    expect([transport.of('reply').length, session.requestsInFlight, transport.paused]).toEqual([2, 0, true])
    transport.drain()
    await turn()
    expect([transport.of('reply').length, transport.paused, peer.live, drained.length]).toEqual([3, false, true, 1])
  })

  it('requests that were under way when the peer stopped reading keep their replies until it reads again', async () => {
    const { transport } = await openStage({ call: async () => new Uint8Array(1_500_000) })
    transport.stuck = true
    for (let id = 0; id < 8; id += 1) transport.receive(request(id))
    await turn()
    expect(transport.of('reply')).toHaveLength(1)
    for (let count = 0; count < 8; count += 1) {
      transport.drain()
      await turn()
    }
    expect(
      transport
        .of('reply')
        .map((reply) => reply.id)
        .sort(),
    ).toEqual([0, 1, 2, 3, 4, 5, 6, 7])
    expect(transport.closedFor).toBe(null)
  })

  it('passing events to a lagging peer are dropped and counted', async () => {
    const { transport, peer, metrics } = await openStage({ limits: { laggingBytes: 1000, laggingResumeBytes: 100 } })
    const event = framePayload(encodeCanonical({ type: 'signed-head', group: new Uint8Array(32), head: new Uint8Array(600) }))
    transport.stuck = true
    for (let count = 0; count < 5; count += 1) peer.sendPassing('signed-head', event)
    await turn()
    expect(transport.of('signed-head')).toHaveLength(2)
    expect((await metrics.droppedEvents.get()).values).toEqual([{ value: 3, labels: { type: 'signed-head' } }])
  })

  it('a peer that lags for a minute is closed', async () => {
    const { transport, clock, session } = await openStage({ call: async () => new Uint8Array(2_000_000) })
    transport.stuck = true
    transport.receive(request(1))
    await turn()
    clock.advance(60_000)
    session.tick()
    expect(transport.closedFor).toBe(null)
    clock.advance(1)
    session.tick()
    expect(transport.closedFor).toBe('lagging')
  })

  it('a peer that goes on reading, however slowly, is not closed', async () => {
    const { transport, clock, session } = await openStage({ call: async () => new Uint8Array(2_000_000) })
    transport.stuck = true
    transport.receive(request(1))
    await turn()
    for (let minute = 0; minute < 5; minute += 1) {
      clock.advance(59_999)
      transport.bufferedBytes -= 1
      session.tick()
    }
    session.tick()
    expect(transport.closedFor).toBe(null)
    transport.receivedBytes += 1
    clock.advance(60_001)
    session.tick()
    expect(transport.closedFor).toBe('lagging')
  })

  it('replies that wait for room count as buffered', async () => {
    const budget = new OutboundBudget(8_000_000)
    const { transport } = await openStage({ budget, call: async () => new Uint8Array(1_500_000) })
    transport.stuck = true
    for (let id = 0; id < 4; id += 1) transport.receive(request(id))
    await turn()
    expect(budget.bufferedBytes).toBeGreaterThan(6_000_000)
    for (let count = 0; count < 4; count += 1) {
      transport.drain()
      await turn()
    }
    expect([budget.bufferedBytes, transport.closedFor]).toEqual([0, null])
  })

  it('nothing is written after the close', async () => {
    const { transport, session, peer } = await openStage()
    session.close('draining')
    const before = transport.sent.length
    peer.send(frameOf({ type: 'reply', id: 1, result: {} }))
    await turn()
    expect(transport.sent).toHaveLength(before)
  })
})

describe('heartbeat', () => {
  it('a silent peer is asked once and closed after twice the time', async () => {
    const { transport, clock, session } = await openStage()
    session.tick()
    clock.advance(HEARTBEAT_MS + 1)
    session.tick()
    session.tick()
    expect(transport.pings).toBe(1)
    clock.advance(HEARTBEAT_MS)
    session.tick()
    expect(transport.closedFor).toBe('heartbeat')
  })

  it('any byte counts as a sign of life, also half a frame', async () => {
    const { transport, clock, session } = await openStage()
    for (let count = 0; count < 10; count += 1) {
      clock.advance(HEARTBEAT_MS - 1)
      transport.receivedBytes += 1
      session.tick()
    }
    expect([transport.pings, transport.closedFor]).toEqual([0, null])
  })

  it('a peer that we do not read is not called dead', async () => {
    const { transport, clock, session } = await openStage({ limits: { requestsInFlight: 1 }, call: () => new Promise(() => undefined) })
    transport.receive(request(1))
    transport.receive(request(2))
    await turn()
    expect(transport.paused).toBe(true)
    for (let count = 0; count < 5; count += 1) {
      clock.advance(HEARTBEAT_MS)
      session.tick()
    }
    expect(transport.closedFor).toBe(null)
  })
})
