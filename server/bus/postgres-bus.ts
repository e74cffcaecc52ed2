/**
 * Notices by LISTEN/NOTIFY: no service besides the database.
 *
 * They are sent after the transaction they tell of, because NOTIFY inside it would put all writes of the database in a
 * row, and together: one statement per 2 ms. The channels are fixed, one for each first byte of a group’s id.
 */
import { randomUUID } from 'node:crypto'
import { Socket } from 'node:net'
import pg from 'pg'
import { idKey } from '../../shared/ids.ts'
import type { Clock } from '../clock.ts'
import type { Log } from '../log.ts'
import type { Database } from '../storage/database.ts'
import type { Bus, BusListener } from './bus.ts'
import type { Notice } from './notice.ts'
import { encodeNotice, parseNotice } from './notice.ts'

export interface PostgresBusOptions {
  readonly database: Database
  /** For the connection that listens: it must be a direct one, not through a transaction pooler. */
  readonly url: string
  readonly clock: Clock
  readonly log: Log
  readonly listener: BusListener
}

const CHANNELS = 256
/** Notices that come together are sent together. */
const COALESCE_MS = 2
/** The listening connection is asked this often whether it still lives. */
const PING_MS = 3000
const ANSWER_MS_MAX = 5000
const CONNECT_MS_MAX = 5000
/** A connection whose other side does not answer is not waited for. */
const END_MS_MAX = 1000
const RECONNECT_MS_MIN = 100
const RECONNECT_MS_MAX = 5000

/** Starts listening. It keeps trying if the database is not there. */
export function openPostgresBus(options: PostgresBusOptions): Bus {
  return new PostgresBus(options)
}

class PostgresBus implements Bus {
  readonly #options: PostgresBusOptions
  /** Says which notices are one’s own. */
  readonly #sender = randomUUID()
  readonly #pending = new Map<string, Notice>()
  #unnamed = 0
  #client: pg.Client | null = null
  readonly #sockets = new WeakMap<pg.Client, Socket>()
  #aliveAt: number | null = null
  #reconnectMs = RECONNECT_MS_MIN
  #cancelTimer: (() => void) | null = null
  #sending: Promise<void> | null = null
  #closed = false

  constructor(options: PostgresBusOptions) {
    this.#options = options
    void this.#connect()
  }

  get aliveAt(): number | null {
    return this.#aliveAt
  }

  publish(notice: Notice): void {
    if (this.#closed) return
    // Only the newest position of a group matters; every other notice is one of its own.
    const key = notice.kind === 'advanced' ? idKey(notice.group) : `${(this.#unnamed += 1)}`
    this.#pending.set(key, newest(this.#pending.get(key), notice))
    this.#sending ??= this.#sendSoon()
  }

  async close(): Promise<void> {
    await this.#sending
    this.#closed = true
    this.#cancelTimer?.()
    const client = this.#client
    this.#client = null
    if (client !== null) await this.#end(client)
  }

  async #sendSoon(): Promise<void> {
    await new Promise<void>((resolve) => setTimeout(resolve, COALESCE_MS))
    const notices = [...this.#pending.values()]
    this.#pending.clear()
    this.#sending = null
    await this.#send(notices)
  }

  async #send(notices: readonly Notice[]): Promise<void> {
    const texts = notices.flatMap((notice) => {
      const text = encodeNotice(notice)
      return text === null ? [] : [{ channel: channelOf(notice), text: `${this.#sender}.${text}` }]
    })
    if (texts.length === 0) return
    try {
      const values = [texts.map(({ channel }) => channel), texts.map(({ text }) => text)]
      await this.#options.database.pool.query({ name: 'claviger_notify', text: NOTIFY, values })
    } catch (error) {
      this.#options.log.error({ notices: texts.length }, 'notices were not sent', error)
    }
  }

  async #connect(): Promise<void> {
    const socket = new Socket()
    const client = new pg.Client({
      stream: () => socket,
      connectionString: this.#options.url,
      application_name: 'claviger notices',
      keepAlive: true,
      connectionTimeoutMillis: CONNECT_MS_MAX,
      query_timeout: ANSWER_MS_MAX,
    })
    this.#sockets.set(client, socket)
    try {
      client.on('error', () => this.#lost(client))
      client.on('end', () => this.#lost(client))
      client.on('notification', ({ payload }) => this.#receive(payload ?? ''))
      this.#client = client
      await client.connect()
      await client.query(LISTEN)
      if (this.#closed || this.#client !== client) return
      this.#alive()
      this.#reconnectMs = RECONNECT_MS_MIN
      this.#options.listener.reconnected()
      this.#pingLater(client)
    } catch (error) {
      this.#options.log.debug({ code: codeOf(error) }, 'the notice connection could not be made')
      this.#lost(client)
    }
  }

  #receive(payload: string): void {
    this.#alive()
    const at = payload.indexOf('.')
    if (payload.slice(0, at) === this.#sender) return
    const notice = parseNotice(payload.slice(at + 1))
    if (notice !== null) this.#options.listener.noticed(notice)
  }

  #pingLater(client: pg.Client): void {
    this.#cancelTimer = this.#options.clock.after(PING_MS, () => void this.#ping(client))
  }

  /** A connection that is half open looks alive for minutes: only an answer counts. */
  async #ping(client: pg.Client): Promise<void> {
    const timer = setTimeout(() => this.#lost(client), ANSWER_MS_MAX)
    try {
      await client.query('select 1')
      if (this.#client !== client) return
      this.#alive()
      this.#pingLater(client)
    } catch {
      this.#lost(client)
    } finally {
      clearTimeout(timer)
    }
  }

  /** Half open, a connection would never end by itself. */
  async #end(client: pg.Client): Promise<void> {
    const timer = setTimeout(() => this.#sockets.get(client)?.destroy(), END_MS_MAX)
    await client.end().catch(ignoreBrokenConnection)
    clearTimeout(timer)
  }

  #alive(): void {
    this.#aliveAt = this.#options.clock.now()
  }

  #lost(client: pg.Client): void {
    if (this.#closed || this.#client !== client) return
    this.#client = null
    this.#cancelTimer?.()
    this.#options.log.warn({ retryMs: this.#reconnectMs }, 'notice connection lost')
    void this.#end(client)
    this.#cancelTimer = this.#options.clock.after(this.#reconnectMs, () => void this.#connect())
    this.#reconnectMs = Math.min(this.#reconnectMs * 2, RECONNECT_MS_MAX)
  }
}

/** Nothing is written, so nothing has to reach the disk before it is told: without this each notice waits for a flush. */
const NOTIFY = `with quick as materialized (select set_config('synchronous_commit', 'off', true))
  select pg_notify(x.channel, x.payload) from quick, unnest($1::text[], $2::text[]) as x(channel, payload)`
const LISTEN = Array.from({ length: CHANNELS }, (_, byte) => `listen ${channelName(byte)}`).join('; ')

function channelOf(notice: Notice): string {
  switch (notice.kind) {
    case 'card':
      return channelName(notice.identity[0] ?? 0)
    case 'event':
      return channelName(notice.event.group[0] ?? 0)
    default:
      return channelName(notice.group[0] ?? 0)
  }
}

function channelName(byte: number): string {
  return `claviger_${byte.toString(16).padStart(2, '0')}`
}

function newest(known: Notice | undefined, notice: Notice): Notice {
  if (known?.kind !== 'advanced' || notice.kind !== 'advanced') return notice
  return { ...notice, change: Math.max(known.change, notice.change), seq: Math.max(known.seq, notice.seq) }
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : ''
}

/** It is being ended because it is broken. */
function ignoreBrokenConnection(): void {
  return undefined
}
