/** The launcher through the accidents it is for: killed parents, killed servers, strangers, leftovers. */
import type { ChildProcess } from 'node:child_process'
import { chmod, cp, mkdir, mkdtemp, readFile, readdir, rename, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { giveTo, spawnAs } from '../../../server/storage/embedded-postgres/account.ts'
import { programEnvironment, programPath } from '../../../server/storage/embedded-postgres/binaries.ts'
import { prepareInstallation } from '../../../server/storage/embedded-postgres/cluster.ts'
import { startEmbeddedPostgres } from '../../../server/storage/embedded-postgres/index.ts'
import type { EmbeddedPostgres, EmbeddedPostgresOptions } from '../../../server/storage/embedded-postgres/index.ts'
import { initialise } from '../../../server/storage/embedded-postgres/initialise.ts'
import { readPostmaster } from '../../../server/storage/embedded-postgres/postmaster.ts'
import { isAlive, processStatus } from '../../../server/storage/embedded-postgres/process-status.ts'
import { startHost } from '../../support/embedded-host.ts'

const quiet = { info: () => undefined, warn: () => undefined }

/** A stopped cluster, copied for each test: initdb takes a second. */
let original: string
let root: string
const started: EmbeddedPostgres[] = []

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'claviger-embedded-'))
  await chmod(root, 0o711)
  original = join(root, 'original')
  const postgres = await startEmbeddedPostgres({ directory: original, log: quiet })
  await query(postgres.url, 'create table kept (value int)')
  await postgres.stop()
})

afterEach(async () => {
  for (const postgres of started.splice(0)) await postgres.stop()
})

afterAll(async () => {
  for (const name of await readdir(root)) await killServer(join(root, name))
  await rm(root, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 })
})

let copies = 0

async function preparedDirectory(): Promise<string> {
  const directory = join(root, `copy-${(copies += 1)}`)
  await cp(original, directory, { recursive: true })
  return directory
}

async function start(directory: string, options: Partial<EmbeddedPostgresOptions> = {}): Promise<EmbeddedPostgres> {
  const postgres = await startEmbeddedPostgres({ directory, log: quiet, ...options })
  started.push(postgres)
  return postgres
}

async function query(url: string, statement: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => undefined)
  await client.connect()
  try {
    return (await client.query(statement)).rows
  } finally {
    await client.end()
  }
}

async function serverPid(directory: string): Promise<number> {
  return (await readPostmaster(join(directory, 'pg18')))?.pid ?? 0
}

async function isServerGone(pid: number): Promise<boolean> {
  return (await processStatus(pid)) === null
}

async function killServer(directory: string): Promise<void> {
  const pid = await serverPid(directory)
  if (pid === 0 || (await processStatus(pid))?.name !== 'postgres') return
  process.kill(pid, 'SIGKILL')
  while (!(await isServerGone(pid))) await delay(10)
}

describe('a start', () => {
  test('makes a directory for its owner alone and a server that stops with it', async () => {
    const directory = join(root, 'first', 'nested')
    const postgres = await start(directory)
    expect(postgres.adopted).toBe(false)
    const pid = await serverPid(directory)
    expect((await stat(directory)).mode & 0o777).toBe(0o700)
    expect((await stat(join(directory, 'pg.json'))).mode & 0o777).toBe(0o600)
    expect(await readdir(directory)).toEqual(['log', 'pg.json', 'pg18'])
    await Promise.all([postgres.stop(), postgres.stop()])
    expect(await isServerGone(pid)).toBe(true)
    expect(await serverPid(directory)).toBe(0)
  })

  test('has durable settings, opens no port, and asks for the password also on the socket', async () => {
    const { url } = await start(await preparedDirectory())
    const settings = await query(
      url,
      `select name, setting from pg_settings where name in
        ('fsync', 'full_page_writes', 'synchronous_commit', 'listen_addresses', 'password_encryption', 'lc_messages', 'server_encoding')
        order by name`,
    )
    expect(settings).toEqual([
      { name: 'fsync', setting: 'on' },
      { name: 'full_page_writes', setting: 'on' },
      { name: 'lc_messages', setting: 'C' },
      { name: 'listen_addresses', setting: '' },
      { name: 'password_encryption', setting: 'scram-sha-256' },
      { name: 'server_encoding', setting: 'UTF8' },
      { name: 'synchronous_commit', setting: 'on' },
    ])
    const wrong = new URL(url)
    wrong.password = 'wrong'
    await expect(query(wrong.href, 'select 1')).rejects.toMatchObject({ code: '28P01' })
  })

  test('is not stopped by a path too long for a socket', async () => {
    const directory = join(root, 'd'.repeat(120))
    await cp(original, directory, { recursive: true })
    const postgres = await start(directory)
    expect(await query(postgres.url, 'select 1 as one')).toEqual([{ one: 1 }])
  })

  test('after a crash in the middle of initdb begins anew', async () => {
    const directory = join(root, 'half-made')
    await mkdir(join(directory, 'pg18.new-Ab12Cd', 'base'), { recursive: true })
    await writeFile(join(directory, 'pg18.new-Ab12Cd', 'PG_VERSION'), '18\n')
    await writeFile(join(directory, 'pg18.new-Ab12Cd.password'), 'left behind')
    await start(directory)
    expect(await readdir(directory)).toEqual(['log', 'pg.json', 'pg18'])
  })

  test('shows the password in no log, no command line and no environment', async () => {
    const directory = join(root, 'secretive')
    const lines: string[] = []
    const note = (facts: object, message: string): number => lines.push(JSON.stringify(facts) + message)
    const { url, stop } = await start(directory, { log: { info: note, warn: note } })
    await expect(query(url, 'select nonsense')).rejects.toThrow(/nonsense/)
    const seen = [...lines, ...(await serverProcessTexts(await serverPid(directory)))]
    await stop()
    for (const name of await readdir(join(directory, 'log'))) seen.push(await readFile(join(directory, 'log', name), 'utf8'))
    expect(seen.join('\n')).toContain('nonsense')
    expect(seen.join('\n')).not.toContain(new URL(url).password)
  })
})

/** Command lines, titles and environments of the server and its children. */
async function serverProcessTexts(server: number): Promise<string[]> {
  const children = await readFile(`/proc/${server}/task/${server}/children`, 'utf8').catch(() => '')
  const texts = []
  for (const pid of [String(server), ...children.trim().split(' ')]) {
    for (const file of ['cmdline', 'environ', 'comm']) texts.push(await readFile(`/proc/${pid}/${file}`, 'utf8').catch(() => ''))
  }
  return texts
}

describe('a server that outlives its parent', () => {
  test('is adopted by the next start after kill -9', async () => {
    const directory = await preparedDirectory()
    const host = startHost(directory)
    expect(await host.next()).toMatchObject({ state: 'up', adopted: false })
    const pid = await serverPid(directory)
    await host.kill()
    expect(isAlive(pid)).toBe(true)
    const postgres = await start(directory)
    expect(postgres.adopted).toBe(true)
    expect(await serverPid(directory)).toBe(pid)
    expect(await query(postgres.url, 'select count(*)::int as rows from kept')).toEqual([{ rows: 0 }])
    await postgres.stop()
    expect(await isServerGone(pid)).toBe(true)
  })

  test.each([
    ['in the middle of initdb', (directory: string) => anyExists(directory, /^pg18\.new-/)],
    ['while the server starts', (directory: string) => anyExists(directory, /^pg18$/)],
  ])('is adopted or started anew after a parent killed %s', async (when, isTime) => {
    const directory = join(root, `killed ${when}`)
    const host = startHost(directory)
    while (!(await isTime(directory))) await delay(5)
    await host.kill()
    const postgres = await start(directory)
    expect(await query(postgres.url, 'select 1 as one')).toEqual([{ one: 1 }])
  })
})

async function anyExists(directory: string, pattern: RegExp): Promise<boolean> {
  const names = await readdir(directory).catch(() => [])
  return names.some((name) => pattern.test(name))
}

describe('two processes on one directory', () => {
  test('share the server, and the last to leave stops it', async () => {
    const directory = await preparedDirectory()
    const first = startHost(directory)
    const second = startHost(directory)
    const lines = await Promise.all([first.next(), second.next()])
    expect(lines.map((line) => line.state === 'up' && line.adopted).toSorted()).toEqual([false, true])
    const pid = await serverPid(directory)
    expect(await first.finish()).toEqual({ state: 'stopped' })
    expect(isAlive(pid)).toBe(true)
    expect(await second.finish()).toEqual({ state: 'stopped' })
    expect(await isServerGone(pid)).toBe(true)
  })

  test('leave none running when both leave at once', async () => {
    const directory = await preparedDirectory()
    const both = [await start(directory), await start(directory)]
    const pid = await serverPid(directory)
    await Promise.all(both.map((postgres) => postgres.stop()))
    expect(await isServerGone(pid)).toBe(true)
  })

  test('survive one leaving while the other arrives', async () => {
    const directory = await preparedDirectory()
    let current = await start(directory)
    for (let round = 0; round < 3; round += 1) {
      const [, next] = await Promise.all([current.stop(), start(directory)])
      expect(await query(next.url, 'select 1 as one')).toEqual([{ one: 1 }])
      current = next
    }
  })
})

describe('a server killed with kill -9', () => {
  test('is started again by the next start, with every acknowledged write', async () => {
    const directory = await preparedDirectory()
    const host = startHost(directory)
    const line = await host.next()
    if (line.state !== 'up') throw new Error(`the host did not start: ${line.state}`)
    await query(line.url, 'insert into kept select generate_series(1, 1000)')
    await host.kill()
    await killServer(directory)
    const postgres = await start(directory)
    expect(postgres.adopted).toBe(false)
    expect(await query(postgres.url, 'select count(*)::int as rows from kept')).toEqual([{ rows: 1000 }])
  })

  test('comes back by itself under the same address while a process uses it', async () => {
    const directory = await preparedDirectory()
    const postgres = await start(directory)
    const pid = await serverPid(directory)
    await killServer(directory)
    await expect
      .poll(() => query(postgres.url, 'select count(*)::int as rows from kept').catch(() => null), { timeout: 20_000 })
      .toEqual([{ rows: 0 }])
    expect(await serverPid(directory)).not.toBe(pid)
  })

  test('comes back on the same port of 127.0.0.1 where there are no sockets', async () => {
    const directory = await preparedDirectory()
    const { url } = await start(directory, { transport: 'tcp' })
    expect(new URL(url).host).toMatch(/^127\.0\.0\.1:\d+$/)
    expect(await query(url, 'show listen_addresses')).toEqual([{ listen_addresses: '127.0.0.1' }])
    await killServer(directory)
    await expect.poll(() => query(url, 'select 1 as one').catch(() => null), { timeout: 20_000 }).toEqual([{ one: 1 }])
  })

  test('does not keep its directory when its process id has gone to somebody else', async () => {
    const directory = await preparedDirectory()
    await writePidFile(directory, process.pid)
    const postgres = await start(directory)
    expect(postgres.adopted).toBe(false)
  })

  test.runIf(process.platform === 'linux')('does not keep its directory when its process id is now a thread', async () => {
    const directory = await preparedDirectory()
    const thread = (await readdir('/proc/self/task')).map(Number).find((id) => id !== process.pid)
    await writePidFile(directory, thread ?? 0)
    const postgres = await start(directory)
    expect(postgres.adopted).toBe(false)
  })
})

/** As a server that was killed leaves it. */
async function writePidFile(directory: string, pid: number): Promise<void> {
  const lines = [pid, join(directory, 'pg18'), 1_700_000_000, 5432, '.', '', '  1234567         0', 'ready   ']
  for (const name of ['postmaster.pid', '.s.PGSQL.5432.lock']) await writeFile(join(directory, 'pg18', name), `${lines.join('\n')}\n`)
}

describe('a directory that is not for us', () => {
  test('is refused while a foreign server runs in it', async () => {
    const directory = join(root, 'foreign')
    const foreign = await startForeignServer(directory)
    await expect(start(directory)).rejects.toMatchObject({ code: 'database_foreign' })
    await cp(join(original, 'pg.json'), join(directory, 'pg.json'))
    await expect(start(directory)).rejects.toMatchObject({ code: 'database_foreign', message: expect.stringContaining('password') })
    foreign.kill('SIGQUIT')
  })

  test('is refused when another major wrote it, with both versions and the way out', async () => {
    const directory = await preparedDirectory()
    await writeFile(join(directory, 'pg18', 'PG_VERSION'), '17\n')
    const refusal = {
      code: 'database_version',
      message: expect.stringMatching(/PostgreSQL 17, this package brings 18\.4.*claviger backup.*claviger restore/),
    }
    await expect(start(directory)).rejects.toMatchObject(refusal)
    await rename(join(directory, 'pg18'), join(directory, 'pg17'))
    await expect(start(directory)).rejects.toMatchObject(refusal)
  })

  test('is refused when it is itself the data directory of a PostgreSQL', async () => {
    await expect(start(join(original, 'pg18'))).rejects.toMatchObject({ code: 'database_foreign' })
  })

  test('is refused when the password is missing or damaged, without quoting it', async () => {
    const directory = await preparedDirectory()
    const credentials = await readFile(join(directory, 'pg.json'), 'utf8')
    await writeFile(join(directory, 'pg.json'), credentials.slice(0, -4))
    await expect(start(directory)).rejects.toMatchObject({
      code: 'database_start_failed',
      message: expect.stringMatching(/pg\.json is damaged/),
    })
    await rm(join(directory, 'pg.json'))
    await expect(start(directory)).rejects.toMatchObject({
      code: 'database_start_failed',
      message: expect.stringMatching(/pg\.json is missing/),
    })
  })

  test('is refused with the reason when PostgreSQL cannot start in it', async () => {
    const directory = await preparedDirectory()
    await writeFile(join(directory, 'pg18', 'postgresql.conf'), 'shared_buffers = nonsense\n')
    const failure = await start(directory).catch((error: unknown) => error)
    expect(failure).toMatchObject({ code: 'database_start_failed', data: { output: expect.stringContaining('shared_buffers') } })
  })
})

async function startForeignServer(directory: string): Promise<ChildProcess> {
  const { layout, binaries, account } = await prepareInstallation(directory)
  await initialise({
    binaries,
    account,
    dataDirectory: layout.dataDirectory,
    password: 'foreign',
    passwordFile: join(directory, 'foreign'),
  })
  const options = ['-D', layout.dataDirectory, '-c', 'listen_addresses=', '-c', 'unix_socket_directories=.']
  const server = spawnAs(account, programPath(binaries, 'postgres'), options, { env: programEnvironment(binaries), stdio: 'ignore' })
  while ((await readPostmaster(layout.dataDirectory))?.status !== 'ready') await delay(10)
  return server
}

describe('start.lock', () => {
  test.each([
    ['of a process that is gone', '999999999 never 00\n'],
    ['of a process whose id has gone to another', `${process.pid} long-ago 00\n`],
  ])('%s is taken over', async (_, content) => {
    const directory = await preparedDirectory()
    await writeFile(join(directory, 'start.lock'), content)
    await start(directory)
    expect(await readdir(directory)).not.toContain('start.lock')
  })

  test('of a live process is waited for', async () => {
    const directory = await preparedDirectory()
    const status = await processStatus(process.pid)
    await writeFile(join(directory, 'start.lock'), `${process.pid} ${status?.startedAt ?? ''} 00\n`)
    const waiting = start(directory)
    expect(await Promise.race([waiting, delay(500, 'still waiting')])).toBe('still waiting')
    await rm(join(directory, 'start.lock'))
    expect((await waiting).adopted).toBe(false)
  })
})

describe.runIf(process.getuid?.() === 0)('as root', () => {
  const nobody = { kind: 'user', name: 'nobody', uid: 65_534, gid: 65_534 } as const

  test('the owner of the data runs it', async () => {
    const directory = await preparedDirectory()
    await giveTree(join(directory, 'pg18'))
    await giveTree(join(directory, 'log'))
    await start(directory)
    expect((await stat(`/proc/${await serverPid(directory)}`)).uid).toBe(nobody.uid)
  })

  async function giveTree(path: string): Promise<void> {
    await giveTo(nobody, path)
    if (!(await stat(path)).isDirectory()) return
    for (const name of await readdir(path)) await giveTree(join(path, name))
  }
})
