/**
 * Many idle sessions in one process: `idle-clients.js <url> <count>`.
 *
 * Says `ready` when there is an identity with a group, then does one step for each message: signs in with all sessions,
 * and follows the group with all of them.
 */
import { once } from 'node:events'
import { WebSocket } from 'ws'
import { Claviger, Identity } from '../client/node/index.ts'
import { decodePlain, encodeCanonical } from '../shared/codec.ts'
import { authenticationMessage } from '../shared/protocol/authentication.ts'
import type { Authenticate, Request, ServerFrame } from '../shared/protocol/messages.ts'
import { SUBPROTOCOL } from '../shared/protocol/messages.ts'

/** Handshakes or requests under way at once. */
const AT_ONCE = 50

const [url = '', count = '0'] = process.argv.slice(2)
const identity = await Identity.generate()
const claviger = await Claviger.connect(url, { identity, background: false })
const group = await claviger.createGroup()
claviger.close()
process.send?.('ready')
await once(process, 'message')
const sockets = await inParallel(Array.from({ length: Number(count) }, () => signIn))
process.send?.('signed in')
await once(process, 'message')
await inParallel(sockets.map((socket) => () => follow(socket)))
process.send?.('following')
process.on('disconnect', () => process.exit(0))

async function signIn(): Promise<WebSocket> {
  const socket = new WebSocket(url, SUBPROTOCOL, { perMessageDeflate: false })
  const hello = await nextFrame(socket)
  if (hello.type !== 'hello') throw new Error(`expected hello, got ${hello.type}`)
  const message = authenticationMessage({ nonce: hello.nonce, host: new URL(url).host, identity: identity.id })
  const claim = { type: 'authenticate', cards: [...identity.cards], signature: await identity.signer.sign(message) } satisfies Authenticate
  socket.send(encodeCanonical(claim))
  const welcome = await nextFrame(socket)
  if (welcome.type !== 'welcome') throw new Error(`expected welcome, got ${welcome.type}`)
  return socket
}

async function follow(socket: WebSocket): Promise<void> {
  const request: Request = { type: 'request', id: 1, method: 'feed.subscribe', params: { group: group.id, cursor: 0, seq: 0 } }
  socket.send(encodeCanonical(request))
  const reply = await nextFrame(socket)
  if (reply.type === 'error') throw new Error(reply.message)
}

async function nextFrame(socket: WebSocket): Promise<ServerFrame> {
  const [data] = (await once(socket, 'message')) as [Buffer]
  // From our own server.
  return decodePlain(new Uint8Array(data)) as ServerFrame
}

async function inParallel<T>(tasks: readonly (() => Promise<T>)[]): Promise<T[]> {
  const results: T[] = []
  const waiting = [...tasks]
  const runner = async (): Promise<void> => {
    for (let task = waiting.pop(); task !== undefined; task = waiting.pop()) results.push(await task())
  }
  await Promise.all(Array.from({ length: AT_ONCE }, runner))
  return results
}
