/**
 * Notices between processes: "group G has reached change n at head s", over LISTEN/NOTIFY.
 *
 * Sent after the commit, never inside it: a NOTIFY in the transaction puts all commits of the database in a row
 * (measured: half the writes, an eighth on a slow disk). Coalesced into one statement every 2 ms. On 256 fixed channels by
 * the first byte of the group, so that a process may listen to all at once. A notice may be lost: the sweep compares
 * every group that is followed with the database, every few seconds and after each reconnection.
 */
import pg from 'pg'
import { fromHex, toHex } from '../../shared/bytes.ts'
import type { GroupId } from '../../shared/ids.ts'
import { asGroupId, HASH_BYTES, idKey } from '../../shared/ids.ts'
import type { Database } from './database.ts'
import { execute, statement } from './statement.ts'

/** How far a group has come. */
export interface GroupNotice {
  readonly group: GroupId
  readonly change: number
  readonly seq: number
}

const CHANNELS = 256
const COALESCE_MS = 2
const RECONNECT_MS_MIN = 50
const RECONNECT_MS_MAX = 2000
/** An idle connection is asked for a sign of life this often: a half-open one never fails by itself. */
const PROBE_MS = 2000

const NOTIFY = statement('notice_send', 'select pg_notify(x.channel, x.payload) from unnest($1::text[], $2::text[]) as x(channel, payload)')

/** Sends notices. */
export class NoticeSender {
  readonly #database: Database
  readonly #pending = new Map<string, GroupNotice>()
  #timer: NodeJS.Timeout | undefined
  #sending: Promise<void> = Promise.resolve()
  readonly #onFailure: (error: unknown) => void

  /** @param onFailure - told of notices that were lost; the sweep makes up for them. */
  constructor(database: Database, onFailure: (error: unknown) => void) {
    this.#database = database
    this.#onFailure = onFailure
  }

  /** To be called after the commit. Of one group only the newest notice of 2 ms is sent. */
  send(notice: GroupNotice): void {
    const key = idKey(notice.group)
    const pending = this.#pending.get(key)
    this.#pending.set(key, pending === undefined ? notice : later(pending, notice))
    this.#timer ??= setTimeout(() => this.#flush(), COALESCE_MS)
  }

  /** Sends what is pending. */
  async close(): Promise<void> {
    this.#flush()
    await this.#sending
  }

  #flush(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (this.#pending.size === 0) return
    const notices = [...this.#pending.values()]
    this.#pending.clear()
    // One statement after the other: what gathers meanwhile goes with the next.
    this.#sending = this.#sending.then(async () => {
      await execute(this.#database.pool, NOTIFY, [notices.map(channelOf), notices.map(encodeNotice)])
    }).catch(this.#onFailure)
  }
}

export interface NoticeListenerOptions {
  /** A direct connection: a pooler in transaction mode loses notices. */
  readonly url: string
  readonly onNotice: (notice: GroupNotice) => void
  /** The connection is there, again: compare everything with the database. */
  readonly onConnected: () => void
}

/** Receives the notices of all processes, its own too. Reconnects until it is closed. */
export class NoticeListener {
  readonly #options: NoticeListenerOptions
  #client: pg.Client | undefined
  #closed = false
  #attempt = 0
  #timer: NodeJS.Timeout | undefined
  #aliveAt: number | undefined

  constructor(options: NoticeListenerOptions) {
    this.#options = options
    void this.#connect()
  }

  /** When the connection last answered, in ms since 1970; undefined if it never did. Readiness fails after 10 s. */
  get aliveAt(): number | undefined {
    return this.#aliveAt
  }

  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#timer)
    await this.#client?.end().catch(() => undefined)
  }

  /** Never rejects. */
  async #connect(): Promise<void> {
    const client = new pg.Client({ connectionString: this.#options.url, application_name: 'claviger-notices', keepAlive: true, connectionTimeoutMillis: PROBE_MS })
    this.#client = client
    client.on('error', () => this.#lost(client))
    client.on('end', () => this.#lost(client))
    client.on('notification', ({ channel, payload }) => this.#receive(channel, payload))
    try {
      await client.connect()
      await client.query(LISTEN_ALL)
      this.#connected(client)
    } catch {
      this.#lost(client)
    }
  }

  #connected(client: pg.Client): void {
    if (this.#closed || client !== this.#client) return
    this.#attempt = 0
    this.#aliveAt = Date.now()
    this.#timer = setTimeout(() => void this.#probe(client), PROBE_MS)
    this.#options.onConnected()
  }

  /** Never rejects. */
  async #probe(client: pg.Client): Promise<void> {
    const tooLate = setTimeout(() => this.#lost(client), PROBE_MS)
    try {
      await client.query('select 1')
      if (this.#closed || client !== this.#client) return
      this.#aliveAt = Date.now()
      this.#timer = setTimeout(() => void this.#probe(client), PROBE_MS)
    } catch {
      this.#lost(client)
    } finally {
      clearTimeout(tooLate)
    }
  }

  /** Once for each client: forgets it and connects again after a while that grows. */
  #lost(client: pg.Client): void {
    if (client !== this.#client) return
    this.#client = undefined
    clearTimeout(this.#timer)
    client.end().catch(() => undefined)
    if (this.#closed) return
    const delayMs = Math.min(RECONNECT_MS_MAX, RECONNECT_MS_MIN * 2 ** this.#attempt)
    this.#attempt += 1
    this.#timer = setTimeout(() => void this.#connect(), delayMs)
  }

  #receive(channel: string, payload: string | undefined): void {
    const notice = decodeNotice(payload ?? '')
    if (notice === null || channelOf(notice) !== channel) return
    this.#aliveAt = Date.now()
    this.#options.onNotice(notice)
  }
}

const channelName = (byte: number): string => `claviger_${toHex(Uint8Array.of(byte))}`
const LISTEN_ALL = Array.from({ length: CHANNELS }, (_, byte) => `listen ${channelName(byte)}`).join(';')

function channelOf({ group }: GroupNotice): string {
  return channelName(group[0] ?? 0)
}

/** `groupId:change:seq`. */
function encodeNotice({ group, change, seq }: GroupNotice): string {
  return `${idKey(group)}:${change}:${seq}`
}

/** Null for anything else: everybody who may connect to the database may notify. */
function decodeNotice(payload: string): GroupNotice | null {
  const match = /^([0-9a-f]{64}):(\d{1,15}):(\d{1,15})$/.exec(payload)
  if (match === null) return null
  const [, group = '', change, seq] = match
  const bytes = fromHex(group)
  return bytes.length === HASH_BYTES ? { group: asGroupId(bytes), change: Number(change), seq: Number(seq) } : null
}

function later(left: GroupNotice, right: GroupNotice): GroupNotice {
  return { group: left.group, change: Math.max(left.change, right.change), seq: Math.max(left.seq, right.seq) }
}
