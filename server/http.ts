/**
 * The HTTP face: health, metrics, and the upgrade to WebSocket.
 *
 * Refusals before the upgrade are plain HTTP statuses with one sentence, so that a browser’s network panel or curl
 * shows the reason.
 */
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { createServer } from 'node:http'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { WebSocketServer } from 'ws'
import { SUBPROTOCOL } from '../shared/protocol/messages.ts'
import type { ServerLimits } from './server-limits.ts'
import { FRAME_HEADROOM_BYTES, WsTransport } from './ws-transport.ts'

/** One answer to a plain request. */
export interface HttpAnswer {
  readonly status: number
  readonly contentType: string
  readonly body: string
}

/** A connection that may be upgraded, or the reason why not. */
export type UpgradeVerdict =
  | { readonly accept: true; readonly authority: string }
  | { readonly accept: false; readonly status: number; readonly reason: string }

export interface HttpOptions {
  readonly limits: ServerLimits
  /** Whether the connection comes from a proxy that says for whom. */
  readonly trustProxy: boolean
  /** Answers a GET of `path`; null if there is nothing there. */
  answer(path: string): Promise<HttpAnswer | null>
  judgeUpgrade(request: { readonly authority: string; readonly address: string }): UpgradeVerdict
  connected(transport: WsTransport, from: { readonly authority: string; readonly address: string }): void
}

/** Connections beside those of sessions: health checks, metrics, and upgrades under way. */
const PLAIN_CONNECTIONS_MAX = 512
/** Time a peer gets to answer our close frame. */
const CLOSE_MS_MAX = 5000

export interface HttpFace {
  readonly server: Server
  /** Takes no more connections. @returns when the port is free. */
  close(): Promise<void>
  /** Breaks plain connections: whoever sends or reads slowly must not keep a shutdown waiting. */
  drop(): void
}

/** An HTTP server that is not yet listening. */
export function createHttpFace(options: HttpOptions): HttpFace {
  const server = createServer((request, response) => {
    respond(request, response, options).catch(() => response.destroy())
  })
  server.maxConnections = options.limits.sessions + PLAIN_CONNECTIONS_MAX
  const sockets = createWebSocketServer(options.limits)
  server.on('upgrade', (request, socket, head) => upgrade({ request, socket, head }, sockets, options))
  return { server, close: () => closeServer(server, sockets), drop: () => server.closeAllConnections() }
}

function createWebSocketServer(limits: ServerLimits): WebSocketServer {
  const options = {
    noServer: true,
    clientTracking: false,
    // Frames are encoded before they have a receiver, so their bytes must not depend on one.
    perMessageDeflate: false,
    maxPayload: limits.frameBytesUnauthenticated + FRAME_HEADROOM_BYTES,
    handleProtocols: () => SUBPROTOCOL,
    // Documented by ws, not yet in its types.
    closeTimeout: CLOSE_MS_MAX,
  }
  return new WebSocketServer(options)
}

function closeServer(server: Server, sockets: WebSocketServer): Promise<void> {
  sockets.close()
  return new Promise((resolve) => {
    server.close(() => resolve())
    server.closeIdleConnections()
  })
}

async function respond(request: IncomingMessage, response: ServerResponse, options: HttpOptions): Promise<void> {
  const readable = request.method === 'GET' || request.method === 'HEAD'
  const answer = readable ? await options.answer(pathOf(request)) : plain(405, 'Only GET is answered here.')
  const { status, contentType, body } = answer ?? plain(404, 'Nothing here.')
  response.writeHead(status, { 'content-type': contentType, 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' })
  response.end(request.method === 'HEAD' ? undefined : body)
}

function plain(status: number, sentence: string): HttpAnswer {
  return { status, contentType: 'text/plain; charset=utf-8', body: `${sentence}\n` }
}

function pathOf(request: IncomingMessage): string {
  return (request.url ?? '/').split('?', 1)[0] ?? '/'
}

interface Upgrade {
  readonly request: IncomingMessage
  readonly socket: Duplex
  readonly head: Buffer
}

function upgrade({ request, socket, head }: Upgrade, sockets: WebSocketServer, options: HttpOptions): void {
  const from = { authority: request.headers.host ?? '', address: addressOf(request, options) }
  socket.on('error', ignoreBrokenSocket)
  if (!offersProtocol(request)) return refuse(socket, 400, `Ask for the WebSocket subprotocol ${SUBPROTOCOL}.`)
  const verdict = options.judgeUpgrade(from)
  if (!verdict.accept) return refuse(socket, verdict.status, verdict.reason)
  if (!(socket instanceof Socket)) return refuse(socket, 500, 'The connection is not a socket.')
  sockets.handleUpgrade(request, socket, head, (ws) => {
    socket.off('error', ignoreBrokenSocket)
    options.connected(new WsTransport(ws, socket), { authority: verdict.authority, address: from.address })
  })
}

/** The last entry is the one that our own proxy has added; those before it are the client’s word. */
function addressOf(request: IncomingMessage, { trustProxy }: Pick<HttpOptions, 'trustProxy'>): string {
  const forwarded = trustProxy ? request.headers['x-forwarded-for'] : undefined
  const entries = (Array.isArray(forwarded) ? forwarded.join(',') : (forwarded ?? '')).split(',')
  const last = entries.at(-1)?.trim() ?? ''
  return last === '' ? (request.socket.remoteAddress ?? '') : last
}

function offersProtocol(request: IncomingMessage): boolean {
  const offered = request.headers['sec-websocket-protocol'] ?? ''
  return offered.split(',').some((protocol) => protocol.trim() === SUBPROTOCOL)
}

/** Without a listener a connection that breaks before its upgrade ends the process. */
function ignoreBrokenSocket(): void {
  return undefined
}

function refuse(socket: Duplex, status: number, sentence: string): void {
  const body = `${sentence}\n`
  const head = `HTTP/1.1 ${status} Refused\r\nconnection: close\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n`
  // A peer that never closes its side would otherwise keep the connection, and a shutdown waiting for it.
  socket.once('finish', () => socket.destroy())
  socket.end(head + body)
}
