/** Real servers on a fresh database, and raw clients of them: everything is ended together. */
import type { RunningServer, ServerConfig } from '../../server/index.ts'
import { startServer } from '../../server/index.ts'
import type { FreshDatabase } from './postgres.ts'
import { freshDatabase } from './postgres.ts'
import type { Credentials, RawOptions } from './raw-client.ts'
import { RawClient } from './raw-client.ts'

export class ServerStage {
  readonly database: FreshDatabase
  readonly #servers: RunningServer[] = []
  readonly #clients: RawClient[] = []

  private constructor(database: FreshDatabase) {
    this.database = database
  }

  static async start(config: Partial<ServerConfig> = {}): Promise<ServerStage> {
    const stage = new ServerStage(await freshDatabase())
    await stage.addServer(config)
    return stage
  }

  /** One more server on the same database. */
  async addServer(config: Partial<ServerConfig> = {}): Promise<RunningServer> {
    const server = await startServer({ port: 0, database: { kind: 'url', url: this.database.url }, logLevel: 'silent', ...config })
    this.#servers.push(server)
    return server
  }

  server(index = 0): RunningServer {
    const server = this.#servers[index]
    if (server === undefined) throw new RangeError(`there is no server ${index}`)
    return server
  }

  async open(credentials: Credentials, options: RawOptions & { readonly server?: number } = {}): Promise<RawClient> {
    const client = await RawClient.open(this.server(options.server).url, credentials, options)
    this.#clients.push(client)
    return client
  }

  async dial(headers: Readonly<Record<string, string>> = {}, server = 0): Promise<RawClient> {
    const client = await RawClient.dial(this.server(server).url, headers)
    this.#clients.push(client)
    return client
  }

  /** The answer to a plain GET. */
  async get(path: string, server = 0): Promise<{ status: number; body: string }> {
    const response = await fetch(this.server(server).url.replace(/^ws/, 'http') + path)
    return { status: response.status, body: await response.text() }
  }

  async close(): Promise<void> {
    for (const client of this.#clients) client.close()
    await Promise.all(this.#servers.map((server) => server.close()))
    await this.database.drop()
  }
}
