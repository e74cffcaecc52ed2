/**
 * Tells an operator in one sentence why a database cannot be used; the sentence names everything but the password.
 *
 * Also refuses what would work and be wrong: a read-only standby, an encoding or isolation we do not count on.
 */
import { ClavigerError } from '../../shared/errors.ts'
import type { Database } from './database.ts'

/** PostgreSQL 14 is the oldest that is still maintained. */
const SERVER_MAJOR_MIN = 14

/**
 * Connects once and looks around.
 *
 * @param url - the one `database` was opened with; it is named in the message without its password.
 * @throws ClavigerError `config_invalid` if the URL is none, `database_unreachable` or `storage_full` otherwise.
 */
export async function checkConnection(database: Database, url: string): Promise<void> {
  const name = describeDatabase(url)
  const facts = await readFacts(database).catch((error: unknown) => {
    throw connectionError(error, name)
  })
  const refusal = findRefusal(facts)
  if (refusal !== null) throw new ClavigerError('database_unreachable', `${name} cannot be used: ${refusal}.`)
}

/**
 * `user@host:port/name` of a database URL, without its password.
 *
 * @throws ClavigerError `config_invalid`, not quoting the text: it may hold a password in the wrong place.
 */
export function describeDatabase(url: string): string {
  const parsed = URL.canParse(url) ? new URL(url) : null
  if (parsed === null || !/^postgres(ql)?:$/.test(parsed.protocol)) {
    throw new ClavigerError(
      'config_invalid',
      'DATABASE_URL must look like postgres://user:password@host:5432/database; characters such as @ / : # in the password are percent-encoded.',
    )
  }
  const host = decodeURIComponent(parsed.searchParams.get('host') ?? parsed.hostname)
  const user = parsed.username === '' ? '' : `${decodeURIComponent(parsed.username)}@`
  return `The database ${user}${host}:${parsed.port === '' ? '5432' : parsed.port}${parsed.pathname}`
}

interface Facts {
  readonly version: number
  readonly standby: boolean
  readonly encoding: string
  readonly isolation: string
  readonly bytea: string
}

async function readFacts(database: Database): Promise<Facts | undefined> {
  const { rows } = await database.pool.query<Facts>(`select current_setting('server_version_num')::int as version,
    pg_is_in_recovery() as standby, current_setting('server_encoding') as encoding,
    current_setting('transaction_isolation') as isolation, current_setting('bytea_output') as bytea`)
  return rows[0]
}

function findRefusal(facts: Facts | undefined): string | null {
  if (facts === undefined) return 'it gives no answer'
  if (facts.version < SERVER_MAJOR_MIN * 10_000)
    return `PostgreSQL ${SERVER_MAJOR_MIN} or newer is needed, it is ${Math.floor(facts.version / 10_000)}`
  if (facts.standby) return 'it is a read-only standby; name the primary'
  if (facts.encoding !== 'UTF8') return `its encoding is ${facts.encoding}; create it with encoding UTF8`
  if (facts.isolation !== 'read committed')
    return `default_transaction_isolation is ${facts.isolation}; set it to read committed for this role`
  return facts.bytea === 'hex' ? null : 'bytea_output is not hex; set it for this role'
}

const REASON_BY_CODE: Readonly<Record<string, string>> = {
  ENOTFOUND: 'no such host',
  EAI_AGAIN: 'the host’s name cannot be resolved at the moment',
  ECONNREFUSED: 'nothing listens there',
  ECONNRESET: 'the connection is cut at once; is it a PostgreSQL?',
  EHOSTUNREACH: 'the host cannot be reached',
  ENETUNREACH: 'the network cannot be reached',
  ETIMEDOUT: 'no answer in time; a firewall?',
  ENOENT: 'there is no such socket',
  EACCES: 'this user may not use the socket',
  '28P01': 'wrong user or password',
  '28000': 'the server’s pg_hba.conf does not let this user in from here, or asks for TLS (?sslmode=verify-full)',
  '3D000': 'no such database; create it first',
  '42501': 'the user has no right to it',
  '53300': 'it has no free connection; raise max_connections',
  '57P03': 'it is starting up or shutting down',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'its certificate is self-signed; give its CA with ?sslrootcert=<file>',
  SELF_SIGNED_CERT_IN_CHAIN: 'its certificate is signed by an unknown CA; give it with ?sslrootcert=<file>',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'its certificate is signed by an unknown CA; give it with ?sslrootcert=<file>',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'its certificate is signed by an unknown CA; give it with ?sslrootcert=<file>',
  CERT_HAS_EXPIRED: 'its certificate has expired',
  ERR_TLS_CERT_ALTNAME_INVALID: 'its certificate is for another host',
}

const REASON_BY_MESSAGE: readonly (readonly [RegExp, string])[] = [
  [/does not support SSL/, 'it does not speak TLS; remove sslmode from the URL'],
  [/password must be a string|no password/i, 'a password is needed'],
  [/timeout/i, 'no answer in time; a firewall?'],
  [/terminated|unexpected|invalid response/i, 'the connection is cut at once; is it a PostgreSQL?'],
]

function connectionError(error: unknown, name: string): ClavigerError {
  const code = codeOf(error)
  if (code === '53100') return new ClavigerError('storage_full', `${name} has no room left on its disk.`, { cause: error })
  const message = error instanceof Error ? error.message : ''
  const reason =
    REASON_BY_CODE[code] ??
    REASON_BY_MESSAGE.find(([pattern]) => pattern.test(message))?.[1] ??
    `it answers with an error (${code || 'no code'})`
  return new ClavigerError('database_unreachable', `${name} cannot be used: ${reason}.`, { cause: error })
}

/** A name with several addresses fails with one error for each. */
function codeOf(error: unknown): string {
  const first: unknown = error instanceof AggregateError ? error.errors[0] : error
  return first instanceof Error && 'code' in first ? String(first.code) : ''
}
