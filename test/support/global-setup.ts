/**
 * One PostgreSQL cluster for the whole test run, in a temporary directory, with one migrated template database.
 *
 * It does not sync to disk, which is why it is not the launcher of the product: that one has no such switch.
 */
import type { ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { TestProject } from 'vitest/node'
import { openDatabase } from '../../server/storage/database.ts'
import { chooseAccount, giveTo, spawnAs } from '../../server/storage/embedded-postgres/account.ts'
import type { Account } from '../../server/storage/embedded-postgres/account.ts'
import { linkLibraries, locateBinaries, programEnvironment, programPath } from '../../server/storage/embedded-postgres/binaries.ts'
import type { PostgresBinaries } from '../../server/storage/embedded-postgres/binaries.ts'
import { DATABASE_USER, initialise } from '../../server/storage/embedded-postgres/initialise.ts'
import { readPostmaster } from '../../server/storage/embedded-postgres/postmaster.ts'
import { isAlive } from '../../server/storage/embedded-postgres/process-status.ts'
import { migrate } from '../../server/storage/migrate.ts'
import { TEMPLATE_DATABASE, databaseUrl } from './postgres.ts'

const PREFIX = 'claviger-test-pg-'
const START_MS_MAX = 30_000

interface Cluster {
  readonly binaries: PostgresBinaries
  readonly account: Account
  readonly directory: string
  readonly dataDirectory: string
}

let running: { readonly directory: string; readonly server: ChildProcess } | undefined

export async function setup(project: TestProject): Promise<void> {
  await removeAbandoned()
  const directory = await mkdtemp(join(tmpdir(), PREFIX))
  await writeFile(join(directory, 'owner'), String(process.pid))
  const dataDirectory = join(directory, 'data')
  const cluster = {
    directory,
    dataDirectory,
    binaries: await linkLibraries(await locateBinaries(), join(directory, 'lib')),
    account: await chooseAccount(dataDirectory),
  }
  const password = randomBytes(16).toString('hex')
  await giveTo(cluster.account, directory)
  await initialise({ ...cluster, password, passwordFile: join(directory, 'password'), unsafeWithoutSync: true })
  running = { directory, server: startServer(cluster) }
  await untilReady(dataDirectory)
  const url = `postgres://${DATABASE_USER}:${password}@${encodeURIComponent(directory)}:5432/postgres?sslmode=disable`
  await makeTemplate(url)
  project.provide('postgresUrl', url)
}

export async function teardown(): Promise<void> {
  if (running === undefined) return
  const { directory, server } = running
  const exit = once(server, 'exit')
  server.kill('SIGINT')
  await exit
  await rm(directory, { recursive: true, force: true })
}

function startServer({ binaries, account, directory, dataDirectory }: Cluster): ChildProcess {
  const settings = {
    fsync: 'off',
    full_page_writes: 'off',
    listen_addresses: '',
    unix_socket_directories: directory,
    max_connections: '200',
    max_parallel_workers_per_gather: '0',
  }
  const options = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])
  return spawnAs(account, programPath(binaries, 'postgres'), ['-D', dataDirectory, ...options], {
    env: programEnvironment(binaries),
    stdio: 'ignore',
  })
}

async function untilReady(dataDirectory: string): Promise<void> {
  const deadline = Date.now() + START_MS_MAX
  while ((await readPostmaster(dataDirectory))?.status !== 'ready') {
    if (Date.now() > deadline) throw new Error('the test cluster did not start')
    await delay(10)
  }
}

async function makeTemplate(url: string): Promise<void> {
  const maintenance = openDatabase({ url, poolSize: 1 })
  await maintenance.pool.query(`create database ${TEMPLATE_DATABASE} template template0`)
  await maintenance.close()
  const template = openDatabase({ url: databaseUrl(url, TEMPLATE_DATABASE), poolSize: 1 })
  await migrate(template)
  await template.close()
}

/** A test run that was killed leaves its cluster behind; the next one ends it. */
async function removeAbandoned(): Promise<void> {
  const names = await readdir(tmpdir())
  for (const name of names.filter((entry) => entry.startsWith(PREFIX))) {
    const directory = join(tmpdir(), name)
    const owner = Number(await readFile(join(directory, 'owner'), 'utf8').catch(() => '0'))
    if (owner === 0 || isAlive(owner)) continue
    const server = await readPostmaster(join(directory, 'data'))
    if (server !== null && isAlive(server.pid)) process.kill(server.pid, 'SIGQUIT')
    await rm(directory, { recursive: true, force: true, maxRetries: 5 })
  }
}
