/**
 * The one door to PostgreSQL: Kysely over a `pg` pool whose value parsers are its own, never the process-wide ones.
 *
 * int8 arrives as a `number`: every counter we keep stays below 2^53, and one that does not is an error rather
 * than a rounded value. bytea arrives as a plain `Uint8Array`, so that nothing depends on Buffer's own semantics.
 */
import { Kysely, PostgresDialect } from 'kysely'
import pg from 'pg'
import type { Schema } from './schema.ts'

const DEFAULT_POOL_SIZE = 10
const CONNECT_MS_MAX = 10_000
/** Time beyond the server’s own that its answer gets: past it the connection is given up as broken. */
const ANSWER_MS = 2000

export interface DatabaseOptions {
  /** `postgres://user:password@host:port/name`; a URL-encoded directory as host means a Unix socket. */
  readonly url: string
  /** Connections kept at most; one process needs few, as writes of a group are combined. */
  readonly poolSize?: number
  /**
   * Milliseconds after which the server ends a statement, or a transaction of which nothing more is heard: a process that
   * vanished in the middle of one would otherwise keep its group’s lock until TCP gives up, which takes hours. A server that vanished is waited for a little longer. Without it, for ever.
   */
  readonly statementMsMax?: number
  /** Told about connections that break while idle; the pool replaces them. */
  readonly onIdleError?: (error: Error) => void
}

/** An open pool. `kysely` builds queries; `pool` is for prepared statements on the hot paths. */
export interface Database {
  readonly kysely: Kysely<Schema>
  readonly pool: pg.Pool
  /** Waits for the queries under way and closes every connection. May be called twice. */
  close(): Promise<void>
}

/** Opens a pool. It connects with the first query, so a wrong address shows there. */
export function openDatabase(from: string | DatabaseOptions): Database {
  const options = typeof from === 'string' ? { url: from } : from
  const pool = new pg.Pool(poolConfig(options))
  pool.on('error', options.onIdleError ?? ignoreIdleError)
  const kysely = new Kysely<Schema>({ dialect: new PostgresDialect({ pool }) })
  let closing: Promise<void> | undefined
  return { kysely, pool, close: () => (closing ??= pool.end()) }
}

/** The value parsers of a pool or a single client: int8 as a checked number, bytea as `Uint8Array`. */
export const valueParsers: pg.CustomTypesConfig = { getTypeParser: parserOf }

function poolConfig(options: DatabaseOptions): pg.PoolConfig {
  return {
    connectionString: options.url,
    max: options.poolSize ?? DEFAULT_POOL_SIZE,
    connectionTimeoutMillis: CONNECT_MS_MAX,
    application_name: 'claviger',
    types: valueParsers,
    // The pool waits for what this returns, whatever its type says.
    // oxlint-disable-next-line typescript/no-misused-promises
    onConnect: (client) => client.query(PLANNER),
    keepAlive: true,
    ...(options.statementMsMax === undefined
      ? {}
      : {
          query_timeout: options.statementMsMax + ANSWER_MS,
          statement_timeout: options.statementMsMax,
          idle_in_transaction_session_timeout: options.statementMsMax,
        }),
  }
}

/**
 * Every hot query walks keys that start with a group. The planner knows only the average group, and for a large one would
 * sort or scan all of it (measured: a range of loose DEKs 1.4 s instead of 0.45 s per 100 000).
 */
const PLANNER = 'set enable_bitmapscan = off; set enable_seqscan = off; set jit = off'

/** Without a listener an idle connection that breaks ends the process; the pool has dropped it already. */
function ignoreIdleError(): void {
  return undefined
}

const { BYTEA, INT8 } = pg.types.builtins
const BYTEA_ARRAY = 1001
const INT8_ARRAY = 1016

type ParseText = (text: string) => unknown

const TEXT_PARSERS: ReadonlyMap<number, ParseText> = new Map<number, ParseText>([
  [INT8, parseInteger],
  [BYTEA, parseBytes],
  [INT8_ARRAY, (text) => parseArray(text, parseInteger)],
  [BYTEA_ARRAY, (text) => parseArray(text, (element) => parseBytes(element))],
])

function parserOf(oid: number, format?: 'text' | 'binary'): unknown {
  if (format === 'binary') throw new TypeError('results come as text: the driver decodes every field as UTF-8 first')
  return TEXT_PARSERS.get(oid) ?? pg.types.getTypeParser(oid, 'text')
}

function parseInteger(text: string): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value)) throw new RangeError(`int8 ${text} is not a safe integer`)
  return value
}

/** PostgreSQL writes bytea as `\x` and hex digits (`bytea_output = hex`, the default since 9.0). */
function parseBytes(text: string): Uint8Array {
  if (!text.startsWith('\\x')) throw new TypeError('bytea must arrive as hex; set bytea_output = hex')
  return viewBytes(Buffer.from(text.slice(2), 'hex'))
}

function viewBytes(buffer: Buffer): Uint8Array {
  return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.length)
}

/** One-dimensional arrays of numbers or hex: `{1,NULL,2}`, `{"\\x00","\\x01"}`. */
function parseArray<Element>(text: string, parse: (element: string) => Element): (Element | null)[] {
  const inner = text.slice(1, -1)
  if (inner === '') return []
  return inner.split(',').map((element) => (element === 'NULL' ? null : parse(element.replaceAll('"', '').replace('\\\\', '\\'))))
}
