/** What an operator reads when DATABASE_URL is wrong. */
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { checkConnection } from '../../../server/storage/check-connection.ts'
import { openDatabase } from '../../../server/storage/database.ts'
import { freshDatabase } from '../../support/postgres.ts'
import type { FreshDatabase } from '../../support/postgres.ts'

let fresh: FreshDatabase

beforeAll(async () => {
  fresh = await freshDatabase()
})

afterAll(() => fresh.drop())

async function check(url: string): Promise<void> {
  const database = openDatabase(url)
  try {
    await checkConnection(database, url)
  } finally {
    await database.close()
  }
}

function changed(change: (url: URL) => void): string {
  const url = new URL(fresh.url)
  change(url)
  return url.href
}

test('a good one passes', async () => {
  await check(fresh.url)
})

test.each([
  ['a wrong password', (url: URL) => (url.password = 'open-sesame'), /wrong user or password/],
  ['an unknown database', (url: URL) => (url.pathname = '/nowhere'), /no such database/],
  ['a socket that is not there', (url: URL) => (url.port = '6543'), /no such socket/],
])('%s is named, the password is not', async (_, change, reason) => {
  const url = changed(change)
  const failure = await check(url).catch((error: unknown) => error)
  expect(failure).toMatchObject({ code: 'database_unreachable', message: expect.stringMatching(reason) })
  expect(String(failure)).toContain('claviger@')
  expect(String(failure)).not.toContain(new URL(url).password)
})

test('a port nobody listens on, and a host that is none, are named', async () => {
  await expect(check('postgres://alice:open-sesame@127.0.0.1:1/notes')).rejects.toThrow(
    'The database alice@127.0.0.1:1/notes cannot be used: nothing listens there.',
  )
  await expect(check('postgres://alice:open-sesame@nowhere.invalid/notes')).rejects.toThrow(
    /alice@nowhere\.invalid:5432\/notes cannot be used: (no such host|the host’s name)/,
  )
})

test('a server that is no PostgreSQL is named', async () => {
  const server = createServer((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await expect(check(`postgres://alice:open-sesame@127.0.0.1:${port}/notes`)).rejects.toThrow(/is it a PostgreSQL\?/)
  server.close()
})

test.each(['localhost:5432', 'mysql://root@localhost/notes', 'postgres://alice:p#ss@host/db:x'])(
  '%s is refused without quoting it',
  async (url) => {
    const failure = await check(url).catch((error: unknown) => error)
    expect(failure).toMatchObject({ code: 'config_invalid' })
    expect(String(failure)).not.toContain(url)
  },
)

test.each([
  ['default_transaction_isolation', 'serializable', /read committed/],
  ['bytea_output', 'escape', /bytea_output/],
])('a database whose %s is %s is refused', async (setting, value, reason) => {
  const database = openDatabase(fresh.url)
  const name = new URL(fresh.url).pathname.slice(1)
  await database.pool.query(`alter database ${name} set ${setting} = '${value}'`)
  await expect(check(fresh.url)).rejects.toMatchObject({ code: 'database_unreachable', message: expect.stringMatching(reason) })
  await database.pool.query(`alter database ${name} reset ${setting}`)
  await database.close()
})
