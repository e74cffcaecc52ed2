/**
 * Settings of a server, from flags and environment. A flag wins over its variable, a variable over the default.
 *
 * Parsing knows no process: a bad value is a `config_invalid` whose one sentence names the setting.
 */
import { ClavigerError } from '../shared/errors.ts'
import type { LogLevel } from './log.ts'
import { LOG_LEVELS } from './log.ts'
import type { ServerLimits } from './server-limits.ts'

/** Where the data is. */
export type DatabaseSetting =
  /** A PostgreSQL of the operator’s own. */
  | { readonly kind: 'url'; readonly url: string }
  /** A PostgreSQL that the server starts itself, with its data in `directory`. */
  | { readonly kind: 'embedded'; readonly directory: string }

/** Who may open a session. `open`: whoever has keys. */
export type AdmissionSetting = { readonly kind: 'open' }

export interface ServerConfig {
  /** Address to listen on. */
  readonly host: string
  /** 0 means any free port. */
  readonly port: number
  readonly database: DatabaseSetting
  /** Authorities that clients dial (`example.org`, `example.org:8443`); empty means whatever the Host header says. */
  readonly publicHosts: readonly string[]
  /** Whether a reverse proxy in front says in X-Forwarded-For who connects: limits are per address. */
  readonly trustProxy: boolean
  readonly logLevel: LogLevel
  readonly admission: AdmissionSetting
  /** Lower or higher bounds than the documented ones. */
  readonly limits: Partial<ServerLimits>
}

export const DEFAULT_PORT = 8787
export const DEFAULT_HOST = '127.0.0.1'
export const DEFAULT_DIRECTORY = './claviger-data'

/** Every setting: its flag and its variable. */
export const SETTINGS = {
  host: { flag: 'host', variable: 'CLAVIGER_HOST' },
  port: { flag: 'port', variable: 'CLAVIGER_PORT' },
  databaseUrl: { flag: 'databaseUrl', variable: 'DATABASE_URL' },
  directory: { flag: 'data', variable: 'CLAVIGER_DATA' },
  publicHosts: { flag: 'publicHost', variable: 'CLAVIGER_PUBLIC_HOSTS' },
  trustProxy: { flag: 'trustProxy', variable: 'CLAVIGER_TRUST_PROXY' },
  logLevel: { flag: 'logLevel', variable: 'CLAVIGER_LOG_LEVEL' },
  admission: { flag: 'admission', variable: 'CLAVIGER_ADMISSION' },
} as const

type Setting = keyof typeof SETTINGS

/** Text by flag name, as the command line gives it; numbers are accepted too. */
export type Flags = Readonly<Record<string, unknown>>
export type Environment = Readonly<Record<string, string | undefined>>

/** The defaults, with `overrides` on top. */
export function serverConfig(overrides: Partial<ServerConfig> = {}): ServerConfig {
  return {
    host: DEFAULT_HOST,
    port: DEFAULT_PORT,
    database: { kind: 'embedded', directory: DEFAULT_DIRECTORY },
    publicHosts: [],
    trustProxy: false,
    logLevel: 'info',
    admission: { kind: 'open' },
    limits: {},
    ...overrides,
  }
}

/** @throws ClavigerError `config_invalid`. */
export function parseConfig(environment: Environment, flags: Flags = {}): ServerConfig {
  const read = (setting: Setting): Value | null => readSetting(setting, environment, flags)
  const port = read('port')
  const logLevel = read('logLevel')
  const publicHosts = read('publicHosts')
  assertAdmission(read('admission'))
  return serverConfig({
    host: read('host')?.text ?? DEFAULT_HOST,
    port: port === null ? DEFAULT_PORT : parsePort(port),
    database: parseDatabase(read('databaseUrl'), read('directory')),
    publicHosts: publicHosts === null ? [] : parseHosts(publicHosts),
    trustProxy: parseSwitch(read('trustProxy')),
    logLevel: logLevel === null ? 'info' : parseLogLevel(logLevel),
  })
}

/** A given value and where it was given. */
interface Value {
  readonly text: string
  readonly source: string
}

function readSetting(setting: Setting, environment: Environment, flags: Flags): Value | null {
  const { flag, variable } = SETTINGS[setting]
  const given = flags[flag]
  if (given !== undefined) return { text: flagText(given, flagName(flag)), source: flagName(flag) }
  const text = environment[variable]
  return text === undefined || text === '' ? null : { text, source: variable }
}

function flagName(flag: string): string {
  return `--${flag.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`
}

function flagText(given: unknown, source: string): string {
  if (typeof given === 'boolean' && source === flagName(SETTINGS.trustProxy.flag)) return String(given)
  if (Array.isArray(given)) return given.map((item) => flagText(item, source)).join(',')
  if (typeof given === 'number') return String(given)
  if (typeof given !== 'string' || given === '') throw new ClavigerError('config_invalid', `${source} needs a value.`)
  return given
}

function parsePort({ text, source }: Value): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : -1
  if (port < 0 || port > 65_535) throw new ClavigerError('config_invalid', `${source} must be a port from 0 to 65535, got “${text}”.`)
  return port
}

function parseDatabase(url: Value | null, directory: Value | null): DatabaseSetting {
  if (url === null) return { kind: 'embedded', directory: directory?.text ?? DEFAULT_DIRECTORY }
  // The value may hold a password: it is never repeated.
  if (!/^postgres(ql)?:\/\//.test(url.text) || !URL.canParse(url.text)) {
    throw new ClavigerError('config_invalid', `${url.source} must look like postgres://user:password@host:5432/database.`)
  }
  return { kind: 'url', url: url.text }
}

function parseHosts({ text, source }: Value): readonly string[] {
  return text.split(',').map((part) => {
    const authority = part.trim().toLowerCase()
    if (!isAuthority(authority))
      throw new ClavigerError(
        'config_invalid',
        `${source} must list hosts as clients dial them, like example.org or example.org:8443, got “${part}”.`,
      )
    return authority
  })
}

/** Whether `text` is a host with an optional port and nothing else. */
export function isAuthority(text: string): boolean {
  return /^(\[[0-9a-f:.]+\]|[a-z0-9]([a-z0-9.-]*[a-z0-9])?)(:\d{1,5})?$/i.test(text)
}

function parseSwitch(value: Value | null): boolean {
  if (value === null || value.text === 'false' || value.text === '0') return false
  if (value.text === 'true' || value.text === '1') return true
  throw new ClavigerError('config_invalid', `${value.source} must be true or false, got “${value.text}”.`)
}

function parseLogLevel({ text, source }: Value): LogLevel {
  const level = LOG_LEVELS.find((known) => known === text)
  if (level === undefined) throw new ClavigerError('config_invalid', `${source} must be one of ${LOG_LEVELS.join(', ')}, got “${text}”.`)
  return level
}

function assertAdmission(value: Value | null): void {
  if (value !== null && value.text !== 'open')
    throw new ClavigerError('config_invalid', `${value.source} must be “open”, got “${value.text}”.`)
}
