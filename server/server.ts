/**
 * One server: its parts put together, started in order, and stopped in the reverse one.
 *
 * Stopping drains: no new connections, requests in flight are finished, sessions are told to come back elsewhere.
 */
import type { AddressInfo } from 'node:net'
import { useNodePublicCrypto } from '../platform/node/index.ts'
import { ClavigerError, hasCode } from '../shared/errors.ts'
import { Access } from './access.ts'
import { Audit } from './audit.ts'
import { authenticate } from './authentication.ts'
import { dialledAuthority, isLoopback, isOurAuthority } from './authority.ts'
import { BodyUploads } from './body-uploads.ts'
import type { Bus } from './bus/bus.ts'
import type { Notice } from './bus/notice.ts'
import { openPostgresBus } from './bus/postgres-bus.ts'
import { systemClock } from './clock.ts'
import { CommitHashes } from './commit-hashes.ts'
import { CommitTrees } from './commit-trees.ts'
import type { ServerConfig } from './config.ts'
import { serverConfig } from './config.ts'
import type { DatabasePlace } from './database-place.ts'
import { openPlace } from './database-place.ts'
import { Groups } from './groups.ts'
import { callMethod } from './handlers/index.ts'
import { Health } from './health.ts'
import type { HttpFace, UpgradeVerdict } from './http.ts'
import { createHttpFace } from './http.ts'
import type { Log } from './log.ts'
import { createLog } from './log.ts'
import { createMetrics } from './metrics.ts'
import { OutboundBudget } from './outbound-budget.ts'
import { Referee } from './referee.ts'
import { RequestCosts } from './request-costs.ts'
import { RewrapLeases } from './rewrap-leases.ts'
import { RewrapStatuses } from './rewrap-statuses.ts'
import { Relay } from './relay/relay.ts'
import { RetiredSpace } from './retired-space.ts'
import type { ServerLimits } from './server-limits.ts'
import { DEFAULT_LIMITS } from './server-limits.ts'
import type { Services } from './services.ts'
import type { SessionHost } from './session.ts'
import { Session } from './session.ts'
import { Sessions } from './sessions.ts'
import { WriteCombiner } from './storage/combiner.ts'
import type { Database } from './storage/database.ts'
import { openDatabase } from './storage/database.ts'
import { readJoinRequest } from './storage/join-requests.ts'
import { PostgresBodies } from './storage/postgres-bodies.ts'
import { TickFlush } from './tick-flush.ts'
import { AddressBuckets } from './token-bucket.ts'
import type { Upkeep } from './upkeep.ts'
import { startUpkeep } from './upkeep.ts'
import { REQUEST_MS_MAX } from '../shared/limits.ts'

/** A server that accepts connections. */
export interface RunningServer {
  /** What clients on this machine dial. */
  readonly url: string
  readonly port: number
  /** Where its data is, for people. */
  readonly database: string
  /** Drains and stops. May be called twice. */
  close(): Promise<void>
}

/**
 * Starts a server.
 *
 * @param overrides - what differs from the defaults: port 8787 of 127.0.0.1, an embedded PostgreSQL in ./claviger-data.
 * @throws ClavigerError with a sentence for the operator: `port_in_use`, `database_unreachable`, …
 */
export async function startServer(overrides: Partial<ServerConfig> = {}, log?: Log): Promise<RunningServer> {
  useNodePublicCrypto()
  const config = serverConfig(overrides)
  const ownLog = log ?? createLog(config.logLevel)
  const place = await openPlace(config.database, ownLog)
  let server: Server | null = null
  try {
    server = new Server(config, place, ownLog)
    await server.listen()
    return server
  } catch (error) {
    await (server?.close() ?? place.stop())
    throw error
  }
}

class Server implements RunningServer {
  readonly database: string
  readonly #config: ServerConfig
  readonly #limits: ServerLimits
  readonly #place: DatabasePlace
  readonly #log: Log
  readonly #pool: Database
  readonly #services: Services
  readonly #sessions: Sessions
  readonly #host: SessionHost
  readonly #bus: Bus
  readonly #health: Health
  readonly #upkeep: Upkeep
  readonly #http: HttpFace
  readonly #connections: AddressBuckets
  readonly #costs: RequestCosts
  #draining = false
  #closing: Promise<void> | null = null

  constructor(config: ServerConfig, place: DatabasePlace, log: Log) {
    this.#config = config
    this.#limits = { ...DEFAULT_LIMITS, ...config.limits }
    this.#place = place
    this.#log = log
    this.database = place.description
    this.#pool = openDatabase({
      url: place.url,
      statementMsMax: REQUEST_MS_MAX,
      onIdleError: () => log.warn({}, 'an idle database connection broke'),
    })
    this.#services = this.#createServices()
    this.#sessions = new Sessions(this.#services.metrics)
    const failures = this.#failureBuckets()
    this.#connections = new AddressBuckets(systemClock, {
      perSecond: this.#limits.connectionsPerSecond,
      burst: this.#limits.connectionsBurst,
    })
    this.#costs = new RequestCosts({ clock: systemClock, limits: this.#limits })
    this.#host = this.#createHost(failures)
    this.#upkeep = startUpkeep(
      { ...this.#services, sessions: this.#sessions, buckets: [failures, this.#connections, this.#costs, this.#services.uploads] },
      this.#limits.sweepMs,
    )
    this.#bus = openPostgresBus({
      database: this.#pool,
      url: place.url,
      clock: systemClock,
      log,
      listener: { noticed: (notice) => this.#noticed(notice), reconnected: () => this.#upkeep.sweepNow() },
    })
    const { metrics } = this.#services
    this.#health = new Health({
      database: this.#pool,
      bus: this.#bus,
      clock: systemClock,
      metrics,
      limits: this.#limits,
      draining: () => this.#draining,
      measure: () => this.#measure(),
    })
    this.#http = this.#createHttp()
  }

  get port(): number {
    return (this.#http.server.address() as AddressInfo).port
  }

  get url(): string {
    return `ws://${dialledAuthority(this.#config.host, this.port)}`
  }

  async listen(): Promise<void> {
    const { host, port, publicHosts } = this.#config
    // Also later, when no connection can be accepted for want of file descriptors, there must be a listener.
    this.#http.server.on('error', (error) => this.#log.error({}, 'the HTTP server failed', error))
    await new Promise<void>((resolve, reject) => {
      this.#http.server.once('error', (error) => reject(listenError(error, host, port)))
      this.#http.server.listen(port, host, resolve)
    })
    if (publicHosts.length === 0 && !isLoopback(host))
      this.#log.warn({ host }, 'no public hosts are named: clients may say they dialled any')
    this.#log.info({ url: this.url, database: this.database }, 'listening')
  }

  close(): Promise<void> {
    this.#closing ??= this.#drainAndStop()
    return this.#closing
  }

  // ——— Parts ———

  #createServices(): Services {
    const log = this.#log
    const clock = systemClock
    const database = this.#pool
    const metrics = createMetrics()
    const groups = new Groups(database, log)
    const access = new Access(groups, database, clock)
    const relay = new Relay({ groups, database, clock, log, metrics, limits: this.#limits, bus: () => this.#bus })
    const statuses = new RewrapStatuses(database, clock)
    const writes = new WriteCombiner(database, (committed) => {
      statuses.changed(committed.group)
      metrics.combinedWrites.observe(committed.written.length)
      try {
        relay.written(committed)
      } catch (error) {
        // It is written all the same, and the sweep tells what was not told.
        log.error({}, 'a write was not told', error)
      }
    })
    const referee = new Referee({ groups, access, database, clock, limits: this.#limits })
    const parts = { database, clock, log, metrics, groups, access, relay, writes, referee }
    return {
      ...parts,
      hashes: new CommitHashes(database),
      trees: new CommitTrees(database),
      bodies: new PostgresBodies(database),
      uploads: new BodyUploads(clock),
      audit: new Audit({ database, log, clock, metrics }),
      leases: new RewrapLeases(database, log),
      statuses,
      retired: new RetiredSpace(this.#place.url),
    }
  }

  #createHost(failures: AddressBuckets): SessionHost {
    const services = this.#services
    const { database, audit } = services
    const renewed: Parameters<typeof authenticate>[0]['renewed'] = (identity, revision) => {
      this.#sessions.closeOlder(identity, revision)
      this.#bus.publish({ kind: 'card', identity, revision })
    }
    return {
      clock: systemClock,
      limits: this.#limits,
      log: this.#log,
      metrics: services.metrics,
      flush: new TickFlush(),
      budget: new OutboundBudget(this.#limits.processBufferedBytes),
      authenticate: (attempt) => authenticate({ database, audit, failures, renewed }, attempt),
      call: (peer, request) => this.#call(peer, request),
      opened: (_session, peer) => this.#sessions.opened(peer),
      drained: (peer) => services.relay.drained(peer),
      closed: (session, peer) => {
        this.#sessions.remove(session, peer)
        if (peer === null) return
        services.relay.remove(peer)
        services.uploads.remove(peer)
        services.leases.remove(peer)
      },
    }
  }

  #failureBuckets(): AddressBuckets {
    const perMinute = this.#limits.authenticationFailuresPerMinute
    return new AddressBuckets(systemClock, { perSecond: perMinute / 60, burst: perMinute })
  }

  #createHttp(): HttpFace {
    return createHttpFace({
      limits: this.#limits,
      trustProxy: this.#config.trustProxy,
      answer: (path) => this.#health.answer(path),
      judgeUpgrade: (from) => this.#judgeUpgrade(from),
      connected: (transport, { authority, address }) => {
        const session = new Session({ transport, host: this.#host, authority, address })
        transport.listen(session)
        this.#sessions.add(session)
        session.greet()
      },
    })
  }

  // ——— Running ———

  #judgeUpgrade({ authority, address }: { readonly authority: string; readonly address: string }): UpgradeVerdict {
    if (this.#draining) return { accept: false, status: 503, reason: 'This server is shutting down.' }
    if (this.#sessions.size >= this.#limits.sessions)
      return { accept: false, status: 503, reason: 'This server has as many sessions as it takes.' }
    if (!this.#connections.take(address)) return { accept: false, status: 429, reason: 'Too many connections from this address.' }
    if (isOurAuthority(this.#config, authority)) return { accept: true, authority }
    return { accept: false, status: 421, reason: 'This server is not called that; its operator can name it with --public-host.' }
  }

  async #call(peer: Parameters<SessionHost['call']>[0], request: Parameters<SessionHost['call']>[1]): Promise<unknown> {
    if (this.#draining) throw new ClavigerError('server_draining')
    try {
      return await this.#costs.run(peer, request, () => callMethod(this.#services, peer, request))
    } catch (error) {
      if (hasCode(error, 'storage_full')) this.#health.storageFull()
      throw error
    }
  }

  #noticed(notice: Notice): void {
    if (notice.kind === 'card') return this.#sessions.closeOlder(notice.identity, notice.revision)
    const { relay } = this.#services
    relay
      .noticed(notice, (group, hash) => readJoinRequest(this.#pool, group, hash))
      .catch((error: unknown) => {
        // The sweep will find what this notice was about.
        this.#log.error({ kind: notice.kind }, 'a notice could not be followed', error)
      })
  }

  #measure(): void {
    this.#sessions.measure()
    this.#services.relay.measure()
  }

  // ——— Stopping ———

  async #drainAndStop(): Promise<void> {
    this.#draining = true
    this.#log.info({ sessions: this.#sessions.size }, 'draining')
    const stopped = this.#http.close()
    await this.#requestsFinished()
    await this.#services.writes.settle()
    this.#sessions.closeAll('draining')
    this.#http.drop()
    await stopped
    await this.#upkeep.close()
    await this.#bus.close()
    await Promise.all([this.#services.audit.settle(), this.#services.leases.settle()])
    await this.#pool.close()
    await this.#place.stop()
    this.#log.info({}, 'stopped')
  }

  async #requestsFinished(): Promise<void> {
    const deadline = Date.now() + this.#limits.drainMs
    while (this.#sessions.requestsInFlight > 0 && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

function listenError(error: Error, host: string, port: number): ClavigerError {
  const code = 'code' in error ? error.code : ''
  if (code === 'EADDRINUSE')
    return new ClavigerError('port_in_use', `Port ${port} of ${host} is in use; choose another with --port.`, { cause: error })
  if (code === 'EACCES')
    return new ClavigerError('config_invalid', `This user may not listen on port ${port}; choose one above 1023 with --port.`, {
      cause: error,
    })
  return new ClavigerError('config_invalid', `The server cannot listen on ${host}; name an address of this machine with --host.`, {
    cause: error,
  })
}
