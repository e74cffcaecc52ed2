/** Finding the server or starting it, and moving in: one process at a time, as `start.lock` says. */
import { createServer } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { ClavigerError } from '../../../shared/errors.ts'
import { ensureCluster } from './cluster.ts'
import type { Credentials } from './credentials.ts'
import { serverUrl } from './endpoint.ts'
import type { SocketDirectory } from './endpoint.ts'
import { obstacleOf } from './failure.ts'
import { isPostgres, isRunning, launchPostmaster, readPostmaster, removeStalePidFiles } from './postmaster.ts'
import type { Installation, Postmaster, Transport } from './postmaster.ts'
import { withStartLock } from './start-lock.ts'
import { DATABASE_NAME, MAINTENANCE_DATABASE, moveIn } from './tenancy.ts'
import type { Contact, Tenancy } from './tenancy.ts'

const POLL_MS = 50
const BUSY_MS_MAX = 10 * 60_000
const LAUNCH_ATTEMPTS_MAX = 20
const LAUNCH_DELAY_MS = 250

/** The part of a pino logger that is used. */
export interface LauncherLog {
  info(facts: object, message: string): void
  warn(facts: object, message: string): void
}

/** Everything about one directory and the way this process reaches its server. */
export interface House {
  readonly installation: Installation
  readonly socket: SocketDirectory
  readonly log: LauncherLog
  readonly transport: 'socket' | 'tcp'
}

/** A process that has moved in. */
export interface Stay {
  readonly tenancy: Tenancy
  readonly url: string
  readonly adopted: boolean
}

/** Finds the server or starts it, and moves in. */
export function settle(house: House, port?: number): Promise<Stay> {
  const { layout } = house.installation
  return withStartLock(layout.lockFile, async () => {
    const credentials = await ensureCluster(house.installation)
    let started = false
    for (const deadline = Date.now() + BUSY_MS_MAX; Date.now() < deadline; await delay(POLL_MS)) {
      const stay = await visit(house, credentials, started)
      if (stay !== null) return stay
      if (await isRunning(layout.dataDirectory)) continue
      await launch(house, port)
      started = true
    }
    throw new ClavigerError('database_start_failed', 'The embedded PostgreSQL neither starts nor stops; see its log.')
  })
}

/** @returns null if nobody is there to talk to, yet or any more. */
async function visit(house: House, credentials: Credentials, started: boolean): Promise<Stay | null> {
  const { dataDirectory } = house.installation.layout
  const postmaster = await readPostmaster(dataDirectory)
  if (postmaster === null || (postmaster.socketDirectory === '' && postmaster.address === '')) return null
  const urlOf = (database: string): string => serverUrl(postmaster, credentials, { socket: house.socket.path, database })
  const contact = await moveIn({ url: urlOf(MAINTENANCE_DATABASE), dataDirectory, credentials })
  const refusal = await refusalOf(contact, postmaster)
  if (refusal !== null) throw foreignServer(postmaster, dataDirectory, refusal)
  if (contact.state !== 'held') return null
  house.log.info({ pid: postmaster.pid, adopted: !started }, started ? 'started the embedded PostgreSQL' : 'adopted a running PostgreSQL')
  return { tenancy: contact.tenancy, url: urlOf(DATABASE_NAME), adopted: !started }
}

/** A server that calls itself ready and cannot be reached is as foreign as one that turns us away. */
async function refusalOf(contact: Contact, postmaster: Postmaster): Promise<string | null> {
  if (contact.state === 'foreign') return contact.reason
  const deaf = contact.state === 'absent' && postmaster.status === 'ready' && (await isPostgres(postmaster.pid))
  return deaf ? 'it does not answer where its postmaster.pid says' : null
}

function foreignServer(postmaster: Postmaster, dataDirectory: string, reason: string): ClavigerError {
  const message = `A PostgreSQL that is not ours (pid ${postmaster.pid}) runs for ${dataDirectory}: ${reason}; stop it, or choose another directory.`
  return new ClavigerError('database_foreign', message, { data: { pid: postmaster.pid } })
}

/** Starts the server; what stands in the way for a moment only is tried again. */
async function launch(house: House, preferredPort?: number): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    const port = attempt === 1 ? preferredPort : undefined
    try {
      await removeStalePidFiles(house.installation.layout.dataDirectory)
      return await launchPostmaster(house.installation, await chooseTransport(house, port))
    } catch (error) {
      if (attempt === LAUNCH_ATTEMPTS_MAX || obstacleOf(error) === 'lasting') throw error
      if (await isRunning(house.installation.layout.dataDirectory)) return
      await delay(LAUNCH_DELAY_MS)
    }
  }
}

async function chooseTransport(house: House, port: number | undefined): Promise<Transport> {
  return house.transport === 'socket' ? { kind: 'socket' } : { kind: 'tcp', port: port ?? (await freePort()) }
}

/** A port nobody listens on now; somebody may by the time PostgreSQL asks for it. */
function freePort(): Promise<number> {
  const probe = createServer()
  return new Promise((resolve, reject) => {
    probe.once('error', reject)
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address()
      const port = typeof address === 'object' && address !== null ? address.port : 0
      probe.close(() => resolve(port))
    })
  })
}
