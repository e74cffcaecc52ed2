import { describe, expect, it } from 'vitest'
import { hasCode } from '../../shared/errors.ts'
import { parseConfig, serverConfig } from '../../server/config.ts'
import type { Environment, Flags } from '../../server/config.ts'

/** The sentence with which settings are refused. */
function refusal(environment: Environment, flags: Flags = {}): string {
  try {
    parseConfig(environment, flags)
  } catch (error) {
    if (hasCode(error, 'config_invalid')) return error.message
    throw error
  }
  throw new Error('the settings were accepted')
}

describe('settings', () => {
  it('without any are the defaults', () => {
    expect(parseConfig({})).toEqual(serverConfig())
    expect(serverConfig()).toMatchObject({
      host: '127.0.0.1',
      port: 8787,
      database: { kind: 'embedded', directory: './claviger-data' },
      publicHosts: [],
      logLevel: 'info',
    })
  })

  it('come from the environment, and flags win', () => {
    const environment = {
      CLAVIGER_HOST: '0.0.0.0',
      CLAVIGER_PORT: '80',
      CLAVIGER_DATA: '/data',
      CLAVIGER_PUBLIC_HOSTS: 'A.example, b.example:8443',
      CLAVIGER_LOG_LEVEL: 'warn',
    }
    expect(parseConfig(environment)).toMatchObject({
      host: '0.0.0.0',
      port: 80,
      database: { kind: 'embedded', directory: '/data' },
      publicHosts: ['a.example', 'b.example:8443'],
      logLevel: 'warn',
    })
    expect(parseConfig(environment, { port: 81, host: '::1', publicHost: ['c.example', 'd.example'] })).toMatchObject({
      host: '::1',
      port: 81,
      publicHosts: ['c.example', 'd.example'],
    })
  })

  it('an empty variable is none', () => {
    expect(parseConfig({ DATABASE_URL: '', CLAVIGER_PORT: '' })).toEqual(serverConfig())
  })

  it('a database of one’s own wins over the embedded one', () => {
    expect(parseConfig({ DATABASE_URL: 'postgresql://u:p@h/d', CLAVIGER_DATA: '/data' }).database).toEqual({
      kind: 'url',
      url: 'postgresql://u:p@h/d',
    })
  })

  it.each([
    [{ CLAVIGER_PORT: '65536' }, 'CLAVIGER_PORT must be a port from 0 to 65535, got “65536”.'],
    [{ CLAVIGER_PORT: '-1' }, 'CLAVIGER_PORT must be a port from 0 to 65535, got “-1”.'],
    [{ CLAVIGER_PORT: '80a' }, 'CLAVIGER_PORT must be a port from 0 to 65535, got “80a”.'],
    [{ CLAVIGER_LOG_LEVEL: 'loud' }, 'CLAVIGER_LOG_LEVEL must be one of fatal, error, warn, info, debug, silent, got “loud”.'],
    [{ CLAVIGER_ADMISSION: 'closed' }, 'CLAVIGER_ADMISSION must be “open”, got “closed”.'],
    [
      { CLAVIGER_PUBLIC_HOSTS: 'https://a.example' },
      'CLAVIGER_PUBLIC_HOSTS must list hosts as clients dial them, like example.org or example.org:8443, got “https://a.example”.',
    ],
  ])('%j is refused in one sentence that names it', (environment, sentence) => {
    expect(refusal(environment)).toBe(sentence)
  })

  it('a flag without its value is refused by name', () => {
    expect(refusal({}, { logLevel: true })).toBe('--log-level needs a value.')
    expect(refusal({}, { publicHost: ['a.example', ''] })).toBe('--public-host needs a value.')
  })

  it('a wrong database URL is never repeated, for it may hold a password', () => {
    expect(refusal({ DATABASE_URL: 'mysql://root:hunter2@h/d' })).toBe(
      'DATABASE_URL must look like postgres://user:password@host:5432/database.',
    )
    expect(refusal({}, { databaseUrl: 'postgres://root:hunter2@[bad/d' })).not.toContain('hunter2')
  })
})
