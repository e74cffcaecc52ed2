/** A server in a process of its own: `server-process.js <limits as JSON>`, with `DATABASE_URL`. Ends with its parent. */
import type { ServerLimits } from '../server/index.ts'
import { startServer } from '../server/index.ts'

/** What the process says of itself when asked. */
export interface ServerStats {
  readonly cpuMs: number
  readonly residentBytes: number
  readonly heapBytes: number
}

const [limits = '{}'] = process.argv.slice(2)
const server = await startServer({
  port: 0,
  database: { kind: 'url', url: process.env['DATABASE_URL'] ?? '' },
  logLevel: 'error',
  // Our own parent wrote them.
  limits: JSON.parse(limits) as Partial<ServerLimits>,
})
process.send?.({ value: server.url })
process.on('message', () => process.send?.({ value: stats() }))
process.on('disconnect', () => {
  void server.close().finally(() => process.exit(0))
})

function stats(): ServerStats {
  globalThis.gc?.()
  const { user, system } = process.cpuUsage()
  const { rss, heapUsed } = process.memoryUsage()
  return { cpuMs: (user + system) / 1000, residentBytes: rss, heapBytes: heapUsed }
}
