/**
 * A world for stories: real servers on a fresh database, and people with stores that survive their clients.
 */
import type { Group, GroupChange } from '../../client/node/index.ts'
import { Claviger, Identity, MemoryStore } from '../../client/node/index.ts'
import type { ClavigerOptions } from '../../client/node/index.ts'
import type { RunningServer } from '../../server/index.ts'
import { serverConfig, startServer } from '../../server/index.ts'
import type { ServerConfig } from '../../server/config.ts'
import type { Database } from '../../server/storage/database.ts'
import { openDatabase } from '../../server/storage/database.ts'
import { LyingServer } from './lying-server.ts'
import type { FreshDatabase } from './postgres.ts'
import { copyDatabase, freshDatabase } from './postgres.ts'
import { TcpProxy } from './tcp-proxy.ts'

/** Somebody with an identity and a store. */
export interface Actor {
  readonly name: string
  readonly identity: Identity
  readonly store: MemoryStore
}

export class World {
  readonly database: FreshDatabase
  readonly #servers: RunningServer[] = []
  readonly #clients = new Set<Claviger>()
  readonly #between: { close(): Promise<void> }[] = []
  #pool: Database | null = null

  private constructor(database: FreshDatabase) {
    this.database = database
  }

  /** A fresh database with one server on it. */
  static async start(config: Partial<ServerConfig> = {}): Promise<World> {
    const world = new World(await freshDatabase())
    await world.addServer(config)
    return world
  }

  /** Another server on a copy of the database as it is now: from here on they go separate ways. */
  async branch(): Promise<World> {
    const branch = new World(await copyDatabase(this.database.url))
    await branch.addServer()
    return branch
  }

  /** One more server process’s worth on the same database. */
  async addServer(config: Partial<ServerConfig> = {}): Promise<RunningServer> {
    const server = await startServer(
      serverConfig({ port: 0, database: { kind: 'url', url: this.database.url }, logLevel: 'silent', ...config }),
    )
    this.#servers.push(server)
    return server
  }

  /** The servers, in the order they were started. */
  server(index = 0): RunningServer {
    const server = this.#servers[index]
    if (server === undefined) throw new RangeError(`there is no server ${index}`)
    return server
  }

  /** A new person. */
  async person(name: string): Promise<Actor> {
    const store = new MemoryStore()
    return { name, store, identity: await Identity.open(store) }
  }

  /** Mallory’s server in front of an honest one. */
  async mallory(server = 0): Promise<LyingServer> {
    const mallory = await LyingServer.start(this.server(server).url)
    this.#between.push(mallory)
    return mallory
  }

  /** A network that fails on command, on the way to a server. */
  async proxy(server = 0): Promise<TcpProxy> {
    const proxy = await TcpProxy.start({ port: this.server(server).port })
    this.#between.push(proxy)
    return proxy
  }

  /** Looks into the database, or tampers with it as whoever runs the server could. */
  async sql<Row extends Record<string, unknown>>(text: string, values: readonly unknown[] = []): Promise<Row[]> {
    this.#pool ??= openDatabase({ url: this.database.url, poolSize: 2 })
    return (await this.#pool.pool.query<Row>(text, [...values])).rows
  }

  /** A person’s client; quiet in the background unless asked otherwise. */
  async connect(actor: Actor, options: Partial<ClavigerOptions> & { server?: number; url?: string } = {}): Promise<Claviger> {
    const { server = 0, url = this.server(server).url, ...rest } = options
    const client = await Claviger.connect(url, { identity: actor.identity, store: actor.store, jitterMs: 20, background: false, ...rest })
    this.#clients.add(client)
    return client
  }

  async close(): Promise<void> {
    for (const client of this.#clients) client.close()
    await Promise.all(this.#between.map((between) => between.close()))
    await this.#pool?.close()
    await Promise.all(this.#servers.map((server) => server.close()))
    await this.database.drop()
  }
}

/** Resolves with the first change of a type that satisfies `isIt`. */
export function nextChange<T extends GroupChange['type']>(
  group: Group,
  type: T,
  isIt: (change: Extract<GroupChange, { type: T }>) => boolean = () => true,
): Promise<Extract<GroupChange, { type: T }>> {
  return new Promise((resolve) => {
    const stop = group.on((change) => {
      if (change.type !== type || !isIt(change as Extract<GroupChange, { type: T }>)) return
      stop()
      resolve(change as Extract<GroupChange, { type: T }>)
    })
  })
}

/** Resolves once `isSo` holds, looked at often. @throws Error after `withinMs`. */
export async function eventually(isSo: () => boolean | Promise<boolean>, withinMs = 15_000): Promise<void> {
  const deadline = Date.now() + withinMs
  while (!(await isSo())) {
    if (Date.now() > deadline) throw new Error('it did not come to be in time')
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
