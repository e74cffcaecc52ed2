/** The server process: what `postmaster.pid` says of it, starting it, stopping it. */
import { execFile } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { mkdir, open, readFile, readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import type { Account } from './account.ts'
import { giveTo, spawnAs } from './account.ts'
import type { PostgresBinaries } from './binaries.ts'
import { programEnvironment, programPath } from './binaries.ts'
import { startFailure } from './failure.ts'
import type { Layout } from './layout.ts'
import { processStatus } from './process-status.ts'

const run = promisify(execFile)
const POLL_MS = 20
/** Recovery after a crash may replay a gigabyte of log on a slow disk. */
const START_MS_MAX = 10 * 60_000
/** A fast shutdown writes one checkpoint. */
const STOP_MS_MAX = 60_000
const OUTPUT_CHARACTERS = 4096

export interface Installation {
  readonly layout: Layout
  readonly binaries: PostgresBinaries
  readonly account: Account
}

/** A Unix socket in the data directory, or a port of 127.0.0.1. */
export type Transport = { readonly kind: 'socket' } | { readonly kind: 'tcp'; readonly port: number }

/** What a running PostgreSQL says of itself in the first eight lines of `postmaster.pid`. */
export interface Postmaster {
  readonly pid: number
  readonly port: number
  /** First directory of Unix sockets, empty if there is none. */
  readonly socketDirectory: string
  /** First TCP address, empty if there is none. */
  readonly address: string
  /** `ready`, `starting`, `stopping` or `standby`. */
  readonly status: string
}

/** @returns null if there is no file. */
export async function readPostmaster(dataDirectory: string): Promise<Postmaster | null> {
  const text = await readFile(join(dataDirectory, 'postmaster.pid'), 'utf8').catch(() => '')
  const pid = parsePid(text)
  if (pid === null) return null
  const lines = text.split('\n').map((line) => line.trim())
  const [port, socketDirectory = '', address = ''] = lines.slice(3, 6)
  return { pid, port: Number(port ?? 0), socketDirectory, address, status: lines[7] ?? '' }
}

/** Whether a process is a PostgreSQL, as far as this machine can tell. */
export async function isPostgres(pid: number): Promise<boolean> {
  const status = await processStatus(pid)
  return status !== null && (status.name === '' || status.name === 'postgres')
}

/** Whether the process named in `postmaster.pid` is there; if it does not answer it is starting, recovering or stopping. */
export async function isRunning(dataDirectory: string): Promise<boolean> {
  const postmaster = await readPostmaster(dataDirectory)
  return postmaster !== null && isPostgres(postmaster.pid)
}

/**
 * Removes `postmaster.pid` and the socket’s lock file if the process they name is provably none.
 *
 * PostgreSQL removes a dead process’s files itself, but it judges by the id alone and refuses to start for ever when
 * a thread, a zombie or another program has that id. Its shared memory, found by the inode of the data directory,
 * still keeps a second server out.
 */
export async function removeStalePidFiles(dataDirectory: string): Promise<void> {
  for (const name of ['postmaster.pid', `.s.PGSQL.${SOCKET_PORT}.lock`]) {
    const path = join(dataDirectory, name)
    const pid = parsePid(await readFile(path, 'utf8').catch(() => ''))
    if (pid !== null && !(await isPostgres(pid))) await rm(path, { force: true })
  }
}

/** The first line of a lock file; negative for a server in single-user mode. */
function parsePid(text: string): number | null {
  const pid = Math.abs(Number.parseInt(text, 10))
  return Number.isInteger(pid) && pid > 0 ? pid : null
}

/**
 * Starts PostgreSQL in its own session, so that Ctrl-C does not reach it, writing to files, since it may outlive us.
 *
 * @returns once it is ready for connections.
 * @throws ClavigerError with the sentence that fits the end of its log.
 */
export async function launchPostmaster(installation: Installation, transport: Transport): Promise<void> {
  const { layout, binaries, account } = installation
  await prepareLogs(installation)
  const log = await open(startupLog(layout), 'ax', 0o600)
  const server = spawnAs(account, programPath(binaries, 'postgres'), serverArguments(layout, transport), {
    cwd: layout.dataDirectory,
    env: programEnvironment(binaries),
    stdio: ['ignore', log.fd, log.fd],
    detached: true,
    windowsHide: true,
  })
  const failed = outcomeOf(server)
  server.unref()
  try {
    await untilReady(layout, failed)
  } finally {
    await log.close()
  }
}

/**
 * Stops the server of `dataDirectory` (fast shutdown) and waits until it is gone.
 *
 * @returns false if it could not be told from an unrelated process, or still runs after a minute.
 */
export async function stopPostmaster({ layout, binaries }: Installation): Promise<boolean> {
  const postmaster = await readPostmaster(layout.dataDirectory)
  if (postmaster === null) return true
  if (process.platform === 'win32') {
    await run(programPath(binaries, 'pg_ctl'), ['stop', '-m', 'fast', '-D', layout.dataDirectory], { env: programEnvironment(binaries) })
    return true
  }
  const status = await processStatus(postmaster.pid)
  if (status?.name !== 'postgres' || !status.commandLine.includes(layout.dataDirectory)) return false
  process.kill(postmaster.pid, 'SIGINT')
  return untilGone(postmaster.pid)
}

/** Its process ends a moment after it has removed `postmaster.pid`. */
async function untilGone(pid: number): Promise<boolean> {
  const deadline = Date.now() + STOP_MS_MAX
  while (await isPostgres(pid)) {
    if (Date.now() > deadline) return false
    await delay(POLL_MS)
  }
  return true
}

/** The durability of acknowledged writes is not a setting: fsync and full pages are on whatever a file says. */
function serverArguments(layout: Layout, transport: Transport): readonly string[] {
  const settings = {
    fsync: 'on',
    full_page_writes: 'on',
    synchronous_commit: 'on',
    listen_addresses: transport.kind === 'tcp' ? '127.0.0.1' : '',
    ...(transport.kind === 'tcp' ? { port: String(transport.port) } : { port: String(SOCKET_PORT) }),
    // Relative to the data directory: an absolute path must be shorter than 108 bytes, and data directories are not.
    unix_socket_directories: transport.kind === 'tcp' ? '' : '.',
    unix_socket_permissions: '0700',
    // Parallel workers need more shared memory than the 64 MB a container has in /dev/shm.
    max_parallel_workers_per_gather: '0',
    bytea_output: 'hex',
    logging_collector: 'on',
    log_directory: layout.logDirectory,
    log_filename: 'postgresql-%a.log',
    log_truncate_on_rotation: 'on',
    log_rotation_age: '1d',
    log_rotation_size: '0',
    log_line_prefix: '%m [%p] ',
  }
  return ['-D', layout.dataDirectory, ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])]
}

/** The number in the name of the socket; no port is opened. */
export const SOCKET_PORT = 5432

function startupLog(layout: Layout): string {
  return join(layout.logDirectory, 'startup.log')
}

async function prepareLogs({ layout, account }: Installation): Promise<void> {
  await mkdir(layout.logDirectory, { recursive: true, mode: 0o700 })
  await rm(startupLog(layout), { force: true })
  await giveTo(account, layout.logDirectory)
}

/** Set once the server has ended before it was ready. */
interface Outcome {
  ended: string | null
}

function outcomeOf(server: ChildProcess): Outcome {
  const outcome: Outcome = { ended: null }
  server.once('error', (error) => (outcome.ended = error.message))
  server.once('exit', (code, signal) => (outcome.ended = `PostgreSQL ended with ${signal ?? `code ${code}`}`))
  return outcome
}

async function untilReady(layout: Layout, outcome: Outcome): Promise<void> {
  const deadline = Date.now() + START_MS_MAX
  while ((await readPostmaster(layout.dataDirectory))?.status !== 'ready') {
    if (outcome.ended !== null) throw startFailure(`${await endOfLogs(layout)}\n${outcome.ended}`)
    if (Date.now() > deadline) throw startFailure(await endOfLogs(layout))
    await delay(POLL_MS)
  }
}

/** The end of what it printed and of the newest log file: which one has the reason depends on how far it came. */
async function endOfLogs(layout: Layout): Promise<string> {
  const ends = []
  for (const path of [await newestLog(layout), startupLog(layout)]) {
    const text = path === null ? '' : await readFile(path, 'utf8').catch(() => '')
    ends.push(text.slice(-OUTPUT_CHARACTERS))
  }
  return ends.join('\n')
}

async function newestLog(layout: Layout): Promise<string | null> {
  let newest: { readonly path: string; readonly time: number } | null = null
  for (const name of (await readdir(layout.logDirectory)).filter((entry) => entry.startsWith('postgresql-'))) {
    const path = join(layout.logDirectory, name)
    const time = (await stat(path)).mtimeMs
    if (newest === null || time > newest.time) newest = { path, time }
  }
  return newest?.path ?? null
}
