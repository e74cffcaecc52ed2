import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { RETRY_MS_MIN } from '../../client/backoff.ts'
import type { Connection, ConnectionState } from '../../client/connection.ts'
import { encodeCanonical } from '../../shared/codec.ts'
import { asSignature } from '../../shared/crypto/keys.ts'
import { verifySignature } from '../../shared/crypto/signature.ts'
import type { ClavigerError } from '../../shared/errors.ts'
import { asGroupId } from '../../shared/ids.ts'
import {
  FRAME_BYTES_MAX,
  HANDSHAKE_MS_MAX,
  HEARTBEAT_MS,
  REQUEST_BYTES_IN_FLIGHT_MAX,
  REQUEST_MS_MAX,
  REQUESTS_IN_FLIGHT_MAX,
} from '../../shared/limits.ts'
import { authenticationMessage } from '../../shared/protocol/authentication.ts'
import { CLOSE_CODES } from '../../shared/protocol/close-codes.ts'
import type { Event } from '../../shared/protocol/messages.ts'
import { ALICE, CARD, HOST, NONCE, SIGNER, ScriptedServer, settle } from './scripted-server.ts'

const GROUP = asGroupId(new Uint8Array(32).fill(3))
const TICK_MS = HEARTBEAT_MS / 4

let server: ScriptedServer
const connections: Connection[] = []

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'Date'] })
  server = new ScriptedServer()
})

afterEach(() => {
  for (const connection of connections.splice(0)) connection.close()
  vi.useRealTimers()
})

function tracked(connection: Connection): Connection {
  connections.push(connection)
  return connection
}

/** What a promise has come to so far, without waiting for it. */
function outcome<T>(promise: Promise<T>): { readonly value: () => T | undefined; readonly error: () => ClavigerError | undefined } {
  let value: T | undefined
  let error: ClavigerError | undefined
  promise.then(
    (settled) => {
      value = settled
    },
    (reason: ClavigerError) => {
      error = reason
    },
  )
  return { value: () => value, error: () => error }
}

async function pass(milliseconds: number): Promise<void> {
  await vi.advanceTimersByTimeAsync(milliseconds)
  await settle()
}

function listGroups(connection: Connection, options: { signal?: AbortSignal; session?: number } = {}) {
  return outcome(connection.request('group.list', {}, options))
}

/** A request whose frame is a little larger than `bytes`. */
function writeBytes(connection: Connection, bytes: number) {
  return outcome(connection.request('join.request', { group: GROUP, request: new Uint8Array(bytes) }))
}

function delayUntilRetry(connection: Connection): number {
  const { state } = connection
  if (state.state !== 'waiting') throw new Error(`the connection is ${state.state}`)
  return state.until - Date.now()
}

describe('the handshake', () => {
  test('the client signs the server’s nonce, the host it dialled and its identity', async () => {
    tracked(server.connect())
    server.hello()
    await settle()
    const { cards, signature, admission } = server.authentication
    expect(cards).toEqual([CARD])
    expect(admission).toBeUndefined()
    expect(await verifySignature(SIGNER.publicKey, authenticationMessage({ nonce: NONCE, host: HOST, identity: ALICE }), signature)).toBe(
      true,
    )
    for (const other of [
      { nonce: new Uint8Array(32), host: HOST, identity: ALICE },
      { nonce: NONCE, host: 'mallory.example', identity: ALICE },
    ]) {
      expect(await verifySignature(SIGNER.publicKey, authenticationMessage(other), signature)).toBe(false)
    }
  })

  test('the subprotocol names the version', () => {
    tracked(server.connect())
    expect(server.network.newest.protocol).toBe('claviger.v1')
    expect(server.network.newest.url).toBe(`ws://${HOST}/`)
  })

  test('a session has the server’s nonce, the host and a number that grows', async () => {
    const connection = tracked(server.connect())
    const opened = connection.whenOpen()
    await server.accept()
    expect(await opened).toEqual({ number: 1, nonce: NONCE, host: HOST })
    server.network.newest.drop()
    await pass(RETRY_MS_MIN)
    const otherNonce = new Uint8Array(32).fill(8)
    server.hello(otherNonce)
    await settle()
    server.welcome()
    expect(connection.session).toEqual({ number: 2, nonce: otherNonce, host: HOST })
  })

  test('the server’s clock is known from its welcome on', async () => {
    const connection = tracked(server.connect())
    await server.accept(Date.now() + 90_000)
    await pass(1000)
    expect(connection.serverTime() - Date.now()).toBe(90_000)
  })

  test('a token for admission is asked for at each session', async () => {
    let tokens = 0
    const admission = async (): Promise<string> => `token ${(tokens += 1)}`
    tracked(await server.connected({ admission }))
    expect(server.authentication.admission).toBe('token 1')
    server.network.newest.drop()
    await pass(RETRY_MS_MIN)
    await server.accept()
    expect(server.authentication.admission).toBe('token 2')
  })

  test('a signer that fails is asked again later', async () => {
    let attempts = 0
    const sign = async (message: Uint8Array) => {
      attempts += 1
      if (attempts === 1) throw new Error('the agent is not there')
      return SIGNER.sign(message)
    }
    const connection = tracked(server.connect({ signer: { publicKey: SIGNER.publicKey, sign } }))
    server.hello()
    await settle()
    expect(connection.state).toMatchObject({ state: 'waiting', error: { code: 'disconnected' } })
    await pass(250)
    await server.accept()
    expect(connection.state.state).toBe('open')
  })

  test('a handshake that is not done in time is given up', async () => {
    const connection = tracked(server.connect())
    server.hello()
    await pass(HANDSHAKE_MS_MAX - 1)
    expect(connection.state.state).toBe('connecting')
    await pass(TICK_MS)
    expect(server.network.sockets[0]?.closedWith).toBe(CLOSE_CODES.heartbeat.code)
  })

  test.each([
    ['a welcome that was not asked for', () => server.welcome()],
    ['a reply before the handshake', () => server.reply(1, {})],
    ['an event before the handshake', () => server.say({ type: 'evicted', group: GROUP, reason: 'none' })],
    ['a text frame', () => server.network.newest.deliver(null)],
    ['bytes that are no CBOR', () => server.network.newest.deliver(Uint8Array.of(0xff))],
    ['a message with an unknown field', () => server.say({ type: 'hello', nonce: NONCE, time: 0, extra: 1 })],
    ['a message of no known type', () => server.say({ type: 'surprise' })],
    ['a nonce of the wrong length', () => server.say({ type: 'hello', nonce: NONCE.slice(1), time: 0 })],
  ])('%s ends the session', async (_name, misbehave) => {
    const connection = tracked(server.connect())
    misbehave()
    await settle()
    expect(server.network.newest.closedWith).toBe(CLOSE_CODES.malformed.code)
    expect(connection.state).toMatchObject({ state: 'waiting', error: { code: 'malformed' } })
  })

  test('a second hello ends the session', async () => {
    const connection = tracked(server.connect())
    server.hello()
    server.say({ type: 'hello', nonce: NONCE, time: 0 })
    await settle()
    expect(connection.state).toMatchObject({ state: 'waiting', error: { code: 'malformed' } })
    expect(server.network.newest.sent).toEqual([])
  })

  test('a welcome for another identity ends the session', async () => {
    const connection = tracked(server.connect())
    server.hello()
    await settle()
    server.say({ type: 'welcome', identity: new Uint8Array(32), time: 0 })
    expect(connection.state).toMatchObject({ state: 'waiting', error: { code: 'malformed' } })
  })

  test('a refused signature is final, with the server’s reason', async () => {
    const connection = tracked(server.connect())
    const opened = outcome(connection.whenOpen())
    server.hello()
    await settle()
    server.fail(null, 'authentication_failed', 'the card is revoked')
    server.network.newest.drop(CLOSE_CODES.unauthenticated.code)
    await settle()
    expect(connection.state).toMatchObject({ state: 'closed', error: { code: 'authentication_failed', message: 'the card is revoked' } })
    expect(opened.error()).toMatchObject({ code: 'authentication_failed' })
  })
})

describe('requests', () => {
  test('a reply resolves its request', async () => {
    const connection = tracked(await server.connected())
    const groups = listGroups(connection)
    await settle()
    expect(server.requests).toMatchObject([{ method: 'group.list', params: {} }])
    server.reply(server.requests[0]?.id ?? 0, { groups: [GROUP] })
    await settle()
    expect(groups.value()).toEqual({ groups: [GROUP] })
  })

  test('replies find their requests in any order', async () => {
    const connection = tracked(await server.connected())
    const first = listGroups(connection)
    const second = listGroups(connection)
    await settle()
    const [one, two] = server.requests
    server.reply(two?.id ?? 0, { groups: [] })
    server.reply(one?.id ?? 0, { groups: [GROUP] })
    await settle()
    expect(first.value()).toEqual({ groups: [GROUP] })
    expect(second.value()).toEqual({ groups: [] })
  })

  test.each([
    ['of the wrong form', { groups: 'none' }],
    ['with an unknown field', { groups: [], extra: 1 }],
    ['with an id of the wrong length', { groups: [new Uint8Array(31)] }],
    ['that is missing', null],
  ])('a result %s fails its request alone', async (_name, result) => {
    const connection = tracked(await server.connected())
    const groups = listGroups(connection)
    await settle()
    server.reply(server.requests[0]?.id ?? 0, result)
    await settle()
    expect(groups.error()).toMatchObject({ code: 'malformed' })
    expect(connection.state.state).toBe('open')
  })

  test('an error keeps its code, sentence and data', async () => {
    const connection = tracked(await server.connected())
    const groups = listGroups(connection)
    await settle()
    server.fail(server.requests[0]?.id ?? 0, 'stale_head', 'behind', { seq: 7 })
    await settle()
    expect(groups.error()).toMatchObject({ code: 'stale_head', message: 'behind', data: { seq: 7 } })
  })

  test.each(['no_such_code', 'fork', 'decryption_failed', 'closed', 'toString', ''])(
    'the code %j from a server is internal',
    async (code) => {
      const connection = tracked(await server.connected())
      const groups = listGroups(connection)
      await settle()
      server.fail(server.requests[0]?.id ?? 0, code)
      await settle()
      expect(groups.error()).toMatchObject({ code: 'internal' })
    },
  )

  test('a server’s sentence reaches nobody’s terminal with control characters or at length', async () => {
    const connection = tracked(await server.connected())
    const groups = listGroups(connection)
    await settle()
    server.fail(server.requests[0]?.id ?? 0, 'not_found', `\u001b[2J\u202egone\n${'x'.repeat(1000)}`)
    await settle()
    expect(groups.error()?.message).toMatch(/^\[2J gone x+$/)
    expect(groups.error()?.message.length).toBeLessThan(301)
  })

  test('replies to nobody are ignored', async () => {
    const connection = tracked(await server.connected())
    server.reply(99, {})
    server.fail(98, 'internal')
    expect(connection.state.state).toBe('open')
  })

  test('a request made before the session is open is sent when it is', async () => {
    const connection = tracked(server.connect())
    const groups = listGroups(connection)
    await server.accept()
    expect(server.requests).toHaveLength(1)
    server.reply(server.requests[0]?.id ?? 0, { groups: [] })
    await settle()
    expect(groups.value()).toEqual({ groups: [] })
  })

  test('requests made on opening go before those that were waiting', async () => {
    const connection = tracked(server.connect())
    listGroups(connection)
    connection.on('open', () => void outcome(connection.request('log.head', { group: GROUP })))
    await server.accept()
    expect(server.requests.map(({ method }) => method)).toEqual(['log.head', 'group.list'])
  })

  test('a request past the largest frame is refused here, one at it is sent', async () => {
    const connection = tracked(await server.connected())
    const [overhead] = [
      encodeCanonical({
        type: 'request',
        id: 1,
        method: 'join.request',
        params: { group: GROUP, request: new Uint8Array(FRAME_BYTES_MAX / 2) },
      }).length -
        FRAME_BYTES_MAX / 2,
    ]
    writeBytes(connection, FRAME_BYTES_MAX - overhead)
    const tooLarge = writeBytes(connection, FRAME_BYTES_MAX - overhead + 1)
    await settle()
    expect(server.network.newest.sent.at(-1)?.length).toBe(FRAME_BYTES_MAX)
    expect(tooLarge.error()).toMatchObject({ code: 'limit_exceeded' })
  })
})

describe('the window', () => {
  test('at most 32 requests are in flight; the next goes out when one is answered', async () => {
    const connection = tracked(await server.connected())
    for (let count = 0; count < REQUESTS_IN_FLIGHT_MAX + 5; count += 1) listGroups(connection)
    await settle()
    expect(server.requests).toHaveLength(REQUESTS_IN_FLIGHT_MAX)
    server.reply(server.requests[3]?.id ?? 0, { groups: [] })
    server.fail(server.requests[4]?.id ?? 0, 'internal')
    expect(server.requests).toHaveLength(REQUESTS_IN_FLIGHT_MAX + 2)
  })

  test('at most 4 MiB are in flight', async () => {
    const connection = tracked(await server.connected())
    const quarter = REQUEST_BYTES_IN_FLIGHT_MAX / 4
    for (let count = 0; count < 4; count += 1) writeBytes(connection, quarter)
    await settle()
    expect(server.requests).toHaveLength(3)
    server.reply(server.requests[0]?.id ?? 0, {})
    expect(server.requests).toHaveLength(4)
  })

  test('a request larger than the window goes alone', async () => {
    const connection = tracked(await server.connected())
    listGroups(connection)
    writeBytes(connection, REQUEST_BYTES_IN_FLIGHT_MAX)
    listGroups(connection)
    await settle()
    expect(server.requests).toHaveLength(1)
    server.reply(server.requests[0]?.id ?? 0, { groups: [] })
    expect(server.requests).toHaveLength(2)
    server.reply(server.requests[1]?.id ?? 0, {})
    expect(server.requests).toHaveLength(3)
  })
})

describe('giving up', () => {
  test('a request without an answer times out and frees its place', async () => {
    const connection = tracked(await server.connected())
    const groups = listGroups(connection)
    for (let count = 0; count < REQUESTS_IN_FLIGHT_MAX; count += 1) listGroups(connection)
    await settle()
    await pass(REQUEST_MS_MAX - 1)
    expect(groups.error()).toBeUndefined()
    server.say({ type: 'evicted', group: GROUP, reason: 'a sign of life' })
    await pass(TICK_MS)
    expect(groups.error()).toMatchObject({ code: 'timeout', data: { sent: true } })
    expect(server.requests).toHaveLength(REQUESTS_IN_FLIGHT_MAX + 1)
  })

  test('an answer to an older request gives the younger ones more time', async () => {
    const connection = tracked(await server.connected())
    listGroups(connection)
    const younger = listGroups(connection)
    await pass(REQUEST_MS_MAX - TICK_MS)
    server.reply(server.requests[0]?.id ?? 0, { groups: [] })
    await pass(2 * TICK_MS)
    expect(younger.error()).toBeUndefined()
    await pass(REQUEST_MS_MAX)
    expect(younger.error()).toMatchObject({ code: 'timeout' })
  })

  test('an answer to a younger request does not', async () => {
    const connection = tracked(await server.connected())
    const older = listGroups(connection)
    listGroups(connection)
    await pass(REQUEST_MS_MAX - TICK_MS)
    server.reply(server.requests[1]?.id ?? 0, { groups: [] })
    await pass(2 * TICK_MS)
    expect(older.error()).toMatchObject({ code: 'timeout' })
  })

  test('without a connection a request waits for one, but not for ever', async () => {
    const connection = tracked(server.connect())
    const groups = listGroups(connection)
    await pass(REQUEST_MS_MAX + TICK_MS)
    expect(groups.error()).toMatchObject({ code: 'disconnected', data: { sent: false } })
  })

  test('an aborted request is not sent if it still waits', async () => {
    const connection = tracked(server.connect())
    const abort = new AbortController()
    const groups = listGroups(connection, { signal: abort.signal })
    abort.abort(new Error('enough'))
    await server.accept()
    expect(groups.error()).toMatchObject({ message: 'enough' })
    expect(server.requests).toEqual([])
  })

  test('an aborted request in flight keeps its place until the server has answered', async () => {
    const connection = tracked(await server.connected())
    const abort = new AbortController()
    const aborted = listGroups(connection, { signal: abort.signal })
    for (let count = 0; count < REQUESTS_IN_FLIGHT_MAX; count += 1) listGroups(connection)
    await settle()
    abort.abort(new Error('enough'))
    await settle()
    expect(aborted.error()).toMatchObject({ message: 'enough' })
    expect(server.requests).toHaveLength(REQUESTS_IN_FLIGHT_MAX)
    server.reply(server.requests[0]?.id ?? 0, { groups: [] })
    expect(server.requests).toHaveLength(REQUESTS_IN_FLIGHT_MAX + 1)
  })

  test('a signal that is aborted already stops a request before it starts', async () => {
    const connection = tracked(await server.connected())
    const groups = listGroups(connection, { signal: AbortSignal.abort(new Error('enough')) })
    await settle()
    expect(groups.error()).toMatchObject({ message: 'enough' })
    expect(server.requests).toEqual([])
  })

  test('waiting for a session can be aborted', async () => {
    const connection = tracked(server.connect())
    const abort = new AbortController()
    const waiting = outcome(connection.whenOpen({ signal: abort.signal }))
    const hopeless = outcome(connection.whenOpen({ signal: AbortSignal.abort(new Error('enough')) }))
    abort.abort(new Error('enough'))
    await settle()
    expect(waiting.error()).toMatchObject({ message: 'enough' })
    expect(hopeless.error()).toMatchObject({ message: 'enough' })
  })
})

describe('a lost connection', () => {
  test('requests in flight fail, saying that they were sent, and are not sent again', async () => {
    const connection = tracked(await server.connected())
    const groups = listGroups(connection)
    await settle()
    server.network.newest.drop()
    await pass(RETRY_MS_MIN)
    expect(groups.error()).toMatchObject({ code: 'disconnected', data: { sent: true } })
    await server.accept()
    expect(server.requests).toEqual([])
  })

  test('requests still in the queue go out in the next session', async () => {
    const connection = tracked(await server.connected())
    for (let count = 0; count < REQUESTS_IN_FLIGHT_MAX; count += 1) listGroups(connection)
    const queued = listGroups(connection)
    await settle()
    server.network.newest.drop()
    await pass(RETRY_MS_MIN)
    await server.accept()
    expect(server.requests).toHaveLength(1)
    server.reply(server.requests[0]?.id ?? 0, { groups: [] })
    await settle()
    expect(queued.value()).toEqual({ groups: [] })
  })

  test('requests for one session are never sent in another', async () => {
    const connection = tracked(await server.connected())
    for (let count = 0; count < REQUESTS_IN_FLIGHT_MAX; count += 1) listGroups(connection)
    const queued = listGroups(connection, { session: 1 })
    await settle()
    server.network.newest.drop()
    await pass(RETRY_MS_MIN)
    const meanwhile = listGroups(connection, { session: 1 })
    await server.accept()
    const late = listGroups(connection, { session: 1 })
    const current = listGroups(connection, { session: 2 })
    await settle()
    for (const refused of [queued, meanwhile, late]) expect(refused.error()).toMatchObject({ code: 'disconnected', data: { sent: false } })
    expect(server.requests).toHaveLength(1)
    expect(current.error()).toBeUndefined()
  })

  test('listeners learn of every session', async () => {
    const connection = tracked(server.connect())
    const sessions: number[] = []
    const states: ConnectionState['state'][] = []
    connection.on('open', ({ number }) => sessions.push(number))
    connection.on('state', ({ state }) => states.push(state))
    await server.accept()
    server.network.newest.drop()
    await pass(RETRY_MS_MIN)
    await server.accept()
    expect(sessions).toEqual([1, 2])
    expect(states).toEqual(['open', 'waiting', 'connecting', 'open'])
  })

  test('frames of an old socket are no longer heard', async () => {
    const connection = tracked(await server.connected())
    const [old] = server.network.sockets
    const events: Event[] = []
    connection.on('event', (event) => events.push(event))
    await pass(3 * HEARTBEAT_MS)
    expect(server.network.sockets.length).toBeGreaterThan(1)
    old?.deliver(encodeCanonical({ type: 'evicted', group: GROUP, reason: 'late' }))
    old?.drop()
    expect(events).toEqual([])
  })
})

describe('connecting again', () => {
  test('after a session that lasted the first attempt is immediate', async () => {
    const connection = tracked(await server.connected())
    await pass(10_000)
    server.network.newest.drop()
    expect(delayUntilRetry(connection)).toBe(0)
    await pass(0)
    expect(server.network.sockets).toHaveLength(2)
  })

  test('the delays double, with jitter, up to 30 s', async () => {
    const connection = tracked(server.connect({ random: () => 0.999_999 }))
    const delays: number[] = []
    for (let attempt = 0; attempt < 12; attempt += 1) {
      server.network.newest.drop()
      const delay = delayUntilRetry(connection)
      delays.push(delay)
      await pass(delay)
    }
    expect(delays).toEqual([249, 499, 999, 1999, 3999, 7999, 15_999, 29_999, 29_999, 29_999, 29_999, 29_999])
  })

  test('a server that drops every session is not hammered', async () => {
    const connection = tracked(server.connect({ random: () => 0.999_999 }))
    for (let attempt = 0; attempt < 6; attempt += 1) {
      await server.accept()
      server.network.newest.drop()
      await pass(delayUntilRetry(connection))
    }
    await server.accept()
    server.network.newest.drop()
    expect(delayUntilRetry(connection)).toBeGreaterThan(10_000)
  })

  test.each(Object.entries(CLOSE_CODES).filter(([, { reconnect }]) => !reconnect))(
    'the close code %s is final',
    async (reason, { code }) => {
      const connection = tracked(await server.connected())
      const groups = listGroups(connection)
      await settle()
      server.network.newest.drop(code)
      await pass(120_000)
      expect(connection.state).toMatchObject({ state: 'closed' })
      expect(groups.error()).toMatchObject({ code: 'disconnected', data: { sent: true } })
      expect(server.network.sockets).toHaveLength(1)
      expect(connection.state).toMatchObject({ error: { message: expect.stringContaining(reason) } })
      await expect(connection.request('group.list', {})).rejects.toBe(connection.state.state === 'closed' ? connection.state.error : null)
    },
  )

  test.each(Object.entries(CLOSE_CODES).filter(([, { reconnect }]) => reconnect))(
    'after the close code %s the client comes back',
    async (_reason, { code }) => {
      const connection = tracked(await server.connected())
      server.network.newest.drop(code)
      await pass(delayUntilRetry(connection))
      expect(server.network.sockets).toHaveLength(2)
    },
  )

  test.each([
    ['draining', CLOSE_CODES.draining.code, 1000],
    ['rateLimited', CLOSE_CODES.rateLimited.code, 4000],
  ])('after %s nobody comes back at once, though the session lasted', async (_name, code, ceiling) => {
    const connection = tracked(await server.connected({ random: () => 0.999_999 }))
    await pass(10_000)
    server.network.newest.drop(code)
    expect(delayUntilRetry(connection)).toBe(ceiling - 1)
  })

  test('a waiting client can be told to try now', async () => {
    const connection = tracked(server.connect())
    for (let attempt = 0; attempt < 8; attempt += 1) {
      server.network.newest.drop()
      connection.retry()
    }
    expect(server.network.sockets).toHaveLength(9)
    connection.retry()
    expect(server.network.sockets).toHaveLength(9)
  })

  test('a socket that cannot even be opened counts as a failed attempt', async () => {
    const openSocket = (): never => {
      throw new Error('blocked by policy')
    }
    const connection = tracked(server.connect({ openSocket }))
    expect(connection.state).toMatchObject({ state: 'waiting', error: { code: 'disconnected', cause: { message: 'blocked by policy' } } })
  })

  test.each(['http://example.org', 'example.org', ''])('%j is not an address to connect to', (url) => {
    expect(() => tracked(server.connectTo(url))).toThrow(TypeError)
  })
})

describe('signs of life', () => {
  test('a silent server is asked, and its answer keeps the session', async () => {
    const connection = tracked(await server.connected())
    await pass(HEARTBEAT_MS - TICK_MS)
    expect(server.pings).toBe(0)
    await pass(TICK_MS)
    expect(server.pings).toBe(1)
    server.reply(server.everyRequest[0]?.id ?? 0, { time: Date.now() })
    await pass(HEARTBEAT_MS - TICK_MS)
    expect(connection.session?.number).toBe(1)
  })

  test('a server that stays silent has lost the client', async () => {
    const connection = tracked(await server.connected())
    const groups = listGroups(connection)
    await pass(2 * HEARTBEAT_MS)
    await pass(1)
    expect(server.network.sockets[0]?.closedWith).toBe(CLOSE_CODES.heartbeat.code)
    expect(groups.error()).toBeDefined()
    expect(server.network.sockets).toHaveLength(2)
    expect(connection.state.state).toBe('connecting')
  })

  test('any frame is a sign of life', async () => {
    const connection = tracked(await server.connected())
    for (let count = 0; count < 10; count += 1) {
      await pass(HEARTBEAT_MS - TICK_MS)
      server.say({ type: 'evicted', group: GROUP, reason: 'none' })
    }
    expect(server.pings).toBe(0)
    expect(connection.session?.number).toBe(1)
  })

  test('bytes still leaving are a sign of life', async () => {
    const connection = tracked(await server.connected())
    server.network.newest.bufferedBytes = 1_000_000
    for (let count = 0; count < 20; count += 1) {
      await pass(TICK_MS)
      server.network.newest.bufferedBytes -= 1000
    }
    expect(connection.session?.number).toBe(1)
    await pass(3 * HEARTBEAT_MS)
    expect(connection.session).toBeNull()
  })

  test('a machine that wakes up asks before it gives up', async () => {
    const connection = tracked(await server.connected())
    vi.setSystemTime(Date.now() + 3_600_000)
    await pass(TICK_MS)
    expect(connection.session?.number).toBe(1)
    expect(server.pings).toBe(1)
  })
})

describe('events', () => {
  test('listeners get a group’s events in the server’s order, until they stop listening', async () => {
    const connection = tracked(await server.connected())
    const seen: number[] = []
    const stop = connection.on('event', (event) => {
      if (event.type === 'feed') seen.push(event.to)
    })
    for (const to of [1, 2, 3]) server.say({ type: 'feed', group: GROUP, from: to - 1, to, items: [] })
    stop()
    server.say({ type: 'feed', group: GROUP, from: 3, to: 4, items: [] })
    expect(seen).toEqual([1, 2, 3])
  })

  test('an event that is not well-formed ends the session, since what it said is lost', async () => {
    const connection = tracked(await server.connected())
    server.say({ type: 'feed', group: GROUP, from: 0, to: 1, items: [{ kind: 'surprise' }] })
    expect(connection.state).toMatchObject({ state: 'waiting', error: { code: 'malformed' } })
  })

  test('a listener that throws stops neither the others nor the session', async () => {
    const uncaught = vi.spyOn(globalThis, 'queueMicrotask').mockImplementation(() => undefined)
    const connection = tracked(await server.connected())
    const seen: Event[] = []
    connection.on('event', () => {
      throw new Error('a bug of the app')
    })
    connection.on('event', (event) => seen.push(event))
    server.say({ type: 'evicted', group: GROUP, reason: 'none' })
    expect(seen).toHaveLength(1)
    expect(connection.state.state).toBe('open')
    expect(uncaught).toHaveBeenCalledTimes(1)
    uncaught.mockRestore()
  })
})

describe('closing', () => {
  test('everything that waits fails, and nothing is tried again', async () => {
    const connection = await server.connected()
    const states: ConnectionState['state'][] = []
    connection.on('state', ({ state }) => states.push(state))
    const pending = [...Array(REQUESTS_IN_FLIGHT_MAX + 1)].map(() => listGroups(connection))
    await settle()
    connection.close()
    connection.close()
    await settle()
    for (const { error } of pending) expect(error()).toMatchObject({ code: 'closed' })
    expect(states).toEqual(['closed'])
    expect(server.network.newest.closedWith).toBe(1000)
    server.network.newest.drop(1000)
    await pass(120_000)
    expect(server.network.sockets).toHaveLength(1)
    await expect(connection.request('group.list', {})).rejects.toMatchObject({ code: 'closed' })
    await expect(connection.whenOpen()).rejects.toMatchObject({ code: 'closed' })
  })

  test('a client that is closed while it signs never authenticates', async () => {
    let finishSigning: () => void = () => undefined
    const sign = (): Promise<ReturnType<typeof asSignature>> =>
      new Promise((resolve) => {
        finishSigning = () => resolve(asSignature(new Uint8Array(64)))
      })
    const connection = server.connect({ signer: { publicKey: SIGNER.publicKey, sign } })
    server.hello()
    await settle()
    connection.close()
    finishSigning()
    await settle()
    expect(server.network.newest.sent).toEqual([])
  })

  test('a client that waits to connect again stops', async () => {
    const connection = server.connect()
    server.network.newest.drop()
    connection.close()
    await pass(60_000)
    expect(server.network.sockets).toHaveLength(1)
    expect(vi.getTimerCount()).toBe(0)
  })
})
