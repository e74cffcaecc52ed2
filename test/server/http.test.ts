import { once } from 'node:events'
import { request } from 'node:http'
import { connect } from 'node:net'
import WebSocket from 'ws'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { encodeCanonical } from '../../shared/codec.ts'
import { FRAME_BYTES_UNAUTHENTICATED_MAX } from '../../shared/limits.ts'
import { framePayload } from '../../server/frame.ts'
import { isOurAuthority } from '../../server/authority.ts'
import { people } from '../support/people.ts'
import { ServerStage } from '../support/server-stage.ts'
import { eventually } from '../support/world.ts'

let stage: ServerStage
beforeAll(async () => {
  stage = await ServerStage.start()
})
afterAll(() => stage.close())

/** The status of an upgrade that is refused. */
function upgradeStatus(
  url: string,
  options: { readonly protocol?: string; readonly headers?: Record<string, string> } = {},
): Promise<{ status: number; body: string }> {
  const { host } = new URL(url)
  const [hostname = '', port = ''] = host.split(':')
  const protocol = options.protocol ?? 'claviger.v1'
  const headers = {
    connection: 'upgrade',
    upgrade: 'websocket',
    'sec-websocket-version': '13',
    'sec-websocket-key': 'AAAAAAAAAAAAAAAAAAAAAA==',
    'sec-websocket-protocol': protocol,
    ...options.headers,
  }
  return new Promise((resolve, reject) => {
    const sent = request({ hostname, port, headers }, (response) => {
      let body = ''
      response.on('data', (chunk: Buffer) => (body += chunk.toString()))
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body }))
    })
    sent.on('upgrade', (_response, socket) => {
      socket.destroy()
      resolve({ status: 101, body: '' })
    })
    sent.on('error', reject)
    sent.end()
  })
}

describe('HTTP', () => {
  it('says that the process lives', async () => {
    expect(await stage.get('/healthz')).toEqual({ status: 200, body: 'ok\n' })
  })

  it('says that it is ready once database and bus answer', async () => {
    await eventually(async () => (await stage.get('/readyz')).status === 200)
    expect(JSON.parse((await stage.get('/readyz')).body)).toEqual({ database: true, bus: true, storage: true, accepting: true })
  })

  it('shows metrics, and no name of anybody', async () => {
    const { alice } = await people('alice')
    const client = await stage.open(alice)
    await client.request('group.list', {})
    const { status, body } = await stage.get('/metrics')
    expect(status).toBe(200)
    expect(body).toContain('claviger_sessions{state="open"} 1')
    expect(body).toContain('claviger_requests_total{method="group.list",result="ok"} 1')
    expect(body).not.toContain(Buffer.from(alice.id).toString('hex'))
    client.close()
  })

  it('has nothing else', async () => {
    expect((await stage.get('/secrets')).status).toBe(404)
    const post = await fetch(stage.server().url.replace('ws', 'http'), { method: 'POST' })
    expect(post.status).toBe(405)
  })
})

describe('the upgrade', () => {
  it('needs the subprotocol', async () => {
    expect(await upgradeStatus(stage.server().url)).toMatchObject({ status: 101 })
    expect(await upgradeStatus(stage.server().url, { protocol: 'claviger.v0' })).toEqual({
      status: 400,
      body: 'Ask for the WebSocket subprotocol claviger.v1.\n',
    })
  })

  it('refuses a page that has its own name resolve to this machine', async () => {
    expect((await upgradeStatus(stage.server().url, { headers: { host: 'evil.example' } })).status).toBe(421)
  })

  it('a peer that is refused and hangs on does not hold up a shutdown', async () => {
    const server = await stage.addServer()
    const socket = connect({ port: server.port, host: '127.0.0.1', allowHalfOpen: true })
    socket.write(`GET / HTTP/1.1\r\nHost: 127.0.0.1:${server.port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`)
    const [answer] = (await once(socket, 'data')) as [Buffer]
    expect(answer.toString()).toMatch(/^HTTP\/1.1 400/)
    await server.close()
    socket.destroy()
  })

  it('takes the public hosts alone where they are named', async () => {
    const server = await stage.addServer({ publicHosts: ['notes.example'] })
    expect((await upgradeStatus(server.url, { headers: { host: 'notes.example' } })).status).toBe(101)
    expect((await upgradeStatus(server.url, { headers: { host: 'Notes.Example' } })).status).toBe(101)
    expect((await upgradeStatus(server.url)).status).toBe(421)
  })

  it('refuses an address that connects too often', async () => {
    const server = await stage.addServer({ limits: { connectionsBurst: 2, connectionsPerSecond: 0.001 } })
    expect((await upgradeStatus(server.url)).status).toBe(101)
    expect((await upgradeStatus(server.url)).status).toBe(101)
    expect((await upgradeStatus(server.url)).status).toBe(429)
  })

  it('counts for whom a trusted proxy connects, by the entry that the proxy itself has added', async () => {
    const server = await stage.addServer({ trustProxy: true, limits: { connectionsBurst: 1, connectionsPerSecond: 0.001 } })
    const from = async (forwarded: string): Promise<number> =>
      (await upgradeStatus(server.url, { headers: { 'x-forwarded-for': forwarded } })).status
    expect([await from('192.0.2.1'), await from('192.0.2.2'), await from('192.0.2.3, 192.0.2.1')]).toEqual([101, 101, 429])
    const plain = await stage.addServer({ limits: { connectionsBurst: 1, connectionsPerSecond: 0.001 } })
    expect((await upgradeStatus(plain.url, { headers: { 'x-forwarded-for': '192.0.2.1' } })).status).toBe(101)
    expect((await upgradeStatus(plain.url, { headers: { 'x-forwarded-for': '192.0.2.2' } })).status).toBe(429)
  })

  it('refuses more sessions than the process takes', async () => {
    const server = await stage.addServer({ limits: { sessions: 1 } })
    const first = new WebSocket(server.url, 'claviger.v1')
    await new Promise((resolve) => first.on('message', resolve))
    expect((await upgradeStatus(server.url)).status).toBe(503)
    first.terminate()
    await eventually(async () => (await upgradeStatus(server.url)).status === 101)
  })
})

describe('authorities', () => {
  it.each([
    [{ host: '127.0.0.1', publicHosts: [] }, 'localhost:8787', true],
    [{ host: '127.0.0.1', publicHosts: [] }, '127.0.0.1:1', true],
    [{ host: '::1', publicHosts: [] }, '[::1]:8787', true],
    [{ host: '127.0.0.1', publicHosts: [] }, 'localhost.evil.example', false],
    [{ host: '127.0.0.1', publicHosts: [] }, '127.0.0.1.evil.example', false],
    [{ host: '0.0.0.0', publicHosts: [] }, 'anything.example:8787', true],
    [{ host: '0.0.0.0', publicHosts: [] }, '', false],
    [{ host: '0.0.0.0', publicHosts: [] }, 'user@host', false],
    [{ host: '0.0.0.0', publicHosts: ['a.example'] }, 'b.example', false],
    [{ host: '0.0.0.0', publicHosts: ['a.example'] }, 'a.example:8787', false],
  ])('%j takes %s: %s', (config, authority, taken) => {
    expect(isOurAuthority(config, authority)).toBe(taken)
  })
})

describe('frames on the wire', () => {
  it('text frames end the session', async () => {
    const client = await stage.dial()
    client.socket.send('hello')
    await client.until(() => client.closedFor === 'malformed')
  })

  it('a frame far past the limit ends the connection before it has arrived', async () => {
    const client = await stage.dial()
    client.socket.send(new Uint8Array(200_000))
    await client.until(() => client.closedFor !== null)
    expect(client.closedFor).toBe(1009)
  })

  it('a frame a little past the limit is told so', async () => {
    const client = await stage.dial()
    client.socket.send(new Uint8Array(FRAME_BYTES_UNAUTHENTICATED_MAX + 1000))
    await client.until(() => client.closedFor === 'frameTooLarge')
    expect(client.complaints[0]?.code).toBe('limit_exceeded')
  })

  it('large frames are read once the session is open', async () => {
    const { alice } = await people('alice')
    const client = await stage.open(alice)
    expect((await client.refusal('group.list', { padding: new Uint8Array(4_000_000) })).code).toBe('malformed')
    expect(client.closedFor).toBe(null)
  })

  it.each([0, 1, 125, 126, 127, 65_535, 65_536, 100_000])('a payload of %i bytes is framed as RFC 6455 says', async (length) => {
    const payload = new Uint8Array(length).fill(7)
    const { wire } = framePayload(payload)
    const received = await receiveRaw(wire)
    expect(Buffer.compare(received, Buffer.from(payload))).toBe(0)
  })

  it('frame and payload share their bytes', () => {
    const { wire, payload } = framePayload(encodeCanonical({ a: 1 }))
    expect(payload.buffer).toBe(wire.buffer)
  })
})

/** What a WebSocket client reads from bytes written to its socket. */
async function receiveRaw(wire: Uint8Array): Promise<Buffer> {
  const { createServer } = await import('node:http')
  const { WebSocketServer } = await import('ws')
  const server = createServer()
  const sockets = new WebSocketServer({ noServer: true })
  server.on('upgrade', (incoming, socket, head) => sockets.handleUpgrade(incoming, socket, head, () => socket.write(wire)))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  const client = new WebSocket(`ws://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}`)
  const data = await new Promise<Buffer>((resolve) => client.on('message', resolve))
  client.terminate()
  server.close()
  return data
}
