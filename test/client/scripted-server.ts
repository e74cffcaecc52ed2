/** A server whose every word the test chooses, at the far end of in-memory sockets. */
import { decodePlain, encodeCanonical } from '../../shared/codec.ts'
import { signerFromSeed } from '../../shared/crypto/sign.ts'
import { asIdentityId } from '../../shared/ids.ts'
import { Authenticate, Request } from '../../shared/protocol/messages.ts'
import type { ConnectionOptions } from '../../client/connection.ts'
import { Connection } from '../../client/connection.ts'
import { MemoryNetwork } from '../support/memory-socket.ts'

export const HOST = 'claviger.example:8787'
export const NONCE = new Uint8Array(32).fill(7)
export const ALICE = asIdentityId(new Uint8Array(32).fill(0xa1))
export const CARD = new Uint8Array(100).fill(1)
export const SIGNER = await signerFromSeed(new Uint8Array(32).fill(9))

/** Lets promises and timers that are due run; nothing later. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve))
}

/** Plays the server on the newest socket of its network. */
export class ScriptedServer {
  readonly network = new MemoryNetwork()

  /** A client that dials this server. Jitter is one half unless the test says otherwise. */
  connect(options: Partial<ConnectionOptions> = {}): Connection {
    return this.connectTo(`ws://${HOST}`, options)
  }

  connectTo(url: string, options: Partial<ConnectionOptions> = {}): Connection {
    return new Connection(url, {
      cards: [CARD],
      identity: ALICE,
      signer: SIGNER,
      openSocket: this.network.openSocket,
      random: () => 0.5,
      ...options,
    })
  }

  /** A client with an open session. */
  async connected(options: Partial<ConnectionOptions> = {}): Promise<Connection> {
    const connection = this.connect(options)
    await this.accept()
    return connection
  }

  say(message: unknown): void {
    this.network.newest.deliver(encodeCanonical(message))
  }

  hello(nonce: Uint8Array = NONCE): void {
    this.network.newest.open()
    this.say({ type: 'hello', nonce, time: Date.now() })
  }

  welcome(time: number = Date.now()): void {
    this.say({ type: 'welcome', identity: ALICE, time })
  }

  /** The whole handshake. */
  async accept(time?: number): Promise<void> {
    this.hello()
    await settle()
    this.welcome(time)
    await settle()
  }

  reply(id: number, result: unknown): void {
    this.say({ type: 'reply', id, result })
  }

  fail(id: number | null, code: string, message = 'because', data: Record<string, unknown> = {}): void {
    this.say({ type: 'error', id, code, message, data })
  }

  /** What the client authenticated with on the newest socket. */
  get authentication(): Authenticate {
    return Authenticate.parse(decodePlain(this.network.newest.sent[0] ?? new Uint8Array()))
  }

  /** The requests that arrived on the newest socket, without signs of life. */
  get requests(): Request[] {
    return this.everyRequest.filter(({ method }) => method !== 'session.ping')
  }

  /** How often the newest socket was asked for a sign of life. */
  get pings(): number {
    return this.everyRequest.length - this.requests.length
  }

  get everyRequest(): Request[] {
    return this.network.newest.sent.slice(1).map((frame) => Request.parse(decodePlain(frame)))
  }
}
