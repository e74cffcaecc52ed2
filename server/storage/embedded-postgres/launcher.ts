/**
 * The embedded PostgreSQL: a real one, from npm’s binaries, in a directory of our own.
 *
 * It runs in its own session and outlives a Claviger that is killed; the next start adopts it. Several processes may
 * use one directory: whoever is first starts it, whoever is last stops it, and if it dies they start it again.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { prepareInstallation } from './cluster.ts'
import { openSocketDirectory } from './endpoint.ts'
import { asStartFailure } from './failure.ts'
import { stopPostmaster } from './postmaster.ts'
import { settle } from './settle.ts'
import type { House, LauncherLog, Stay } from './settle.ts'

const REVIVE_DELAY_MS_MAX = 30_000

export interface EmbeddedPostgresOptions {
  /** Created if missing, for its owner alone. */
  readonly directory: string
  readonly log: LauncherLog
  /** A Unix socket where there is one (everywhere but on Windows), else a random port of 127.0.0.1. */
  readonly transport?: 'socket' | 'tcp'
}

export interface EmbeddedPostgres {
  /** For `openDatabase`. Holds the password: never log it. */
  readonly url: string
  /** Whether a server was running already. */
  readonly adopted: boolean
  /** Leaves; the last process to leave stops PostgreSQL. Close the pools first. */
  stop(): Promise<void>
}

/**
 * Starts the PostgreSQL of `directory`, or adopts the one that runs there.
 *
 * @throws ClavigerError `database_platform`, `database_version`, `database_foreign`, `database_start_failed` or
 * `storage_full`, each with a sentence for the operator.
 */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  try {
    const installation = await prepareInstallation(options.directory)
    const socket = await openSocketDirectory(installation.layout.dataDirectory)
    return await occupy({ installation, socket, log: options.log, transport: options.transport ?? defaultTransport() })
  } catch (error) {
    throw asStartFailure(error)
  }
}

function defaultTransport(): 'socket' | 'tcp' {
  return process.platform === 'win32' ? 'tcp' : 'socket'
}

/** Moves in, and again whenever the server is lost, until stopped. */
async function occupy(house: House): Promise<EmbeddedPostgres> {
  const first = await settle(house).catch(async (error: unknown) => {
    await house.socket.dispose()
    throw error
  })
  const abort = new AbortController()
  let stay: Stay | null = first
  const keeping = keep()
  return { url: first.url, adopted: first.adopted, stop: once(stop) }

  async function keep(): Promise<void> {
    while (stay !== null) {
      await Promise.race([stay.tenancy.lost, aborted(abort.signal)])
      if (abort.signal.aborted) return
      house.log.warn({}, 'the embedded PostgreSQL went away; starting it again')
      stay = await revive(house, first.url, abort.signal)
    }
  }

  async function stop(): Promise<void> {
    abort.abort()
    await keeping
    if (stay !== null) await moveOut(house, stay)
    await house.socket.dispose()
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve()
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}

function once(work: () => Promise<void>): () => Promise<void> {
  let done: Promise<void> | undefined
  return () => (done ??= work())
}

/** Tries until it succeeds or is stopped, ever more slowly: the disk may be full for hours. */
async function revive(house: House, url: string, signal: AbortSignal): Promise<Stay | null> {
  for (let waitMs = 250; !signal.aborted; waitMs = Math.min(waitMs * 2, REVIVE_DELAY_MS_MAX)) {
    const stay = await settle(house, portOf(url)).catch((error: unknown) => {
      house.log.warn({ error: describe(error) }, 'the embedded PostgreSQL does not start')
      return null
    })
    if (stay !== null) return stay
    await delay(waitMs, undefined, { signal }).catch(() => undefined)
  }
  return null
}

function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

async function moveOut({ installation, log }: House, stay: Stay): Promise<void> {
  const last = await stay.tenancy.leave(async () => {
    if (!(await stopPostmaster(installation)))
      log.warn({}, 'the embedded PostgreSQL is left running: its process cannot be told apart, or does not end')
  })
  log.info({ last }, last ? 'stopped the embedded PostgreSQL' : 'left the embedded PostgreSQL to other processes')
}

/** The pools of this process know the old port: a server started again gets the same one if it can. */
function portOf(url: string): number {
  return Number(new URL(url).port)
}
