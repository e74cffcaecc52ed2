/** The real sockets of the client against a real WebSocket server. */
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import { Connection } from '../../client/connection.ts'
import { openNodeWebSocket } from '../../client/node/web-socket.ts'
import type { OpenSocket } from '../../client/transport.ts'
import { openGlobalWebSocket } from '../../client/transport.ts'
import { decodePlain, encodeCanonical } from '../../shared/codec.ts'
import { asBodyId, asGroupId } from '../../shared/ids.ts'
import { SERVER_FRAME_BYTES_MAX } from '../../shared/limits.ts'
import { authenticationMessage } from '../../shared/protocol/authentication.ts'
import { CLOSE_CODES } from '../../shared/protocol/close-codes.ts'
import { Authenticate, Request } from '../../shared/protocol/messages.ts'
import { verifySignature } from '../../shared/crypto/signature.ts'
import { ALICE, CARD, NONCE, SIGNER } from './scripted-server.ts'

const ID = asGroupId(new Uint8Array(32))
const BODY = asBodyId(new Uint8Array(16))

let server: WebSocketServer
let address: string
const connections: Connection[] = []

beforeEach(async () => {
  server = new WebSocketServer({ port: 0, host: '127.0.0.1', handleProtocols: () => 'claviger.v1' })
  await once(server, 'listening')
  address = `127.0.0.1:${(server.address() as AddressInfo).port}`
  server.on('connection', (socket) => void speak(socket))
  vi.stubGlobal('WebSocket', WebSocket)
})

afterEach(async () => {
  for (const connection of connections.splice(0)) connection.close()
  for (const socket of server.clients) socket.terminate()
  server.close()
  vi.unstubAllGlobals()
})

/** Welcomes whoever signs for this address, and echoes: the result of `body.read` is as many bytes as were asked for. */
async function speak(socket: WebSocket): Promise<void> {
  const say = (message: unknown): void => socket.send(encodeCanonical(message))
  say({ type: 'hello', nonce: NONCE, time: 0 })
  const [first] = (await once(socket, 'message')) as [Buffer]
  const { signature } = Authenticate.parse(decodePlain(Uint8Array.from(first)))
  const message = authenticationMessage({ nonce: NONCE, host: address, identity: ALICE })
  if (!(await verifySignature(SIGNER.publicKey, message, signature))) {
    socket.close(CLOSE_CODES.unauthenticated.code)
    return
  }
  socket.on('message', (data: Buffer) => {
    const { id, params } = Request.parse(decodePlain(Uint8Array.from(data)))
    const { bytes } = params as { bytes: number }
    say({ type: 'reply', id, result: { data: new Uint8Array(bytes).fill(5) } })
  })
  say({ type: 'welcome', identity: ALICE, time: 0 })
}

function connect(openSocket: OpenSocket, authority: string = address): Connection {
  const connection = new Connection(`ws://${authority}`, { cards: [CARD], identity: ALICE, signer: SIGNER, openSocket })
  connections.push(connection)
  return connection
}

function read(connection: Connection, bytes: number): Promise<{ data: Uint8Array }> {
  return connection.request('body.read', { group: ID, bodyId: BODY, offset: 0, bytes })
}

function nextState(connection: Connection, wanted: string): Promise<unknown> {
  return new Promise((resolve) => {
    connection.on('state', (state) => {
      if (state.state === wanted) resolve(state)
    })
  })
}

describe.each([
  ['the ws package', openNodeWebSocket],
  ['the global WebSocket', openGlobalWebSocket],
])('%s', (_name, openSocket) => {
  test('a session carries requests and replies', async () => {
    const connection = connect(openSocket)
    expect(await connection.whenOpen()).toMatchObject({ number: 1, host: address })
    const replies = await Promise.all([0, 1, 100_000].map((bytes) => read(connection, bytes)))
    expect(replies.map(({ data }) => data.length)).toEqual([0, 1, 100_000])
    expect(replies[2]?.data.every((byte) => byte === 5)).toBe(true)
  })

  test('what a frame holds does not keep the frame alive', async () => {
    const connection = connect(openSocket)
    const { data } = await read(connection, 1000)
    expect(Object.getPrototypeOf(data)).toBe(Uint8Array.prototype)
    expect(data.buffer.byteLength).toBe(1000)
  })

  test('a lost connection is made again', async () => {
    const connection = connect(openSocket)
    await connection.whenOpen()
    const again = nextState(connection, 'open')
    for (const socket of server.clients) socket.terminate()
    expect(await again).toMatchObject({ session: { number: 2 } })
    expect((await read(connection, 3)).data.length).toBe(3)
  })

  test('a close code reaches the connection', async () => {
    const connection = connect(openSocket)
    await connection.whenOpen()
    const closed = nextState(connection, 'closed')
    for (const socket of server.clients) socket.close(CLOSE_CODES.forbidden.code)
    expect(await closed).toMatchObject({ error: { code: 'authentication_failed' } })
  })

  test('a port where nobody listens is tried again', async () => {
    const unused = createServer().listen(0, '127.0.0.1')
    await once(unused, 'listening')
    const { port } = unused.address() as AddressInfo
    unused.close()
    const connection = connect(openSocket, `127.0.0.1:${port}`)
    expect(await nextState(connection, 'waiting')).toMatchObject({ error: { code: 'disconnected' } })
  })

  test('a server that speaks no WebSocket is tried again', async () => {
    const mute = createServer((socket) => socket.end('SSH-2.0-OpenSSH\r\n')).listen(0, '127.0.0.1')
    await once(mute, 'listening')
    const connection = connect(openSocket, `127.0.0.1:${(mute.address() as AddressInfo).port}`)
    expect(await nextState(connection, 'waiting')).toMatchObject({ error: { code: 'disconnected' } })
    mute.close()
  })

  test('a text frame ends the session', async () => {
    const connection = connect(openSocket)
    await connection.whenOpen()
    const waiting = nextState(connection, 'waiting')
    for (const socket of server.clients) socket.send('hello')
    expect(await waiting).toMatchObject({ error: { code: 'malformed' } })
  })

  test('a client that is closed lets the server know, and closing while it dials is no error', async () => {
    const connection = connect(openSocket)
    await connection.whenOpen()
    const [socket] = [...server.clients]
    const ended = once(socket ?? server, 'close')
    connection.close()
    expect((await ended)[0]).toBe(1000)
    connect(openSocket).close()
  })
})

test('with ws a frame past the limit is not even read', async () => {
  const connection = connect(openNodeWebSocket)
  await connection.whenOpen()
  const waiting = nextState(connection, 'waiting')
  for (const socket of server.clients) socket.send(new Uint8Array(SERVER_FRAME_BYTES_MAX + 1))
  expect(await waiting).toMatchObject({ error: { code: 'disconnected' } })
})
