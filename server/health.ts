/** What `/healthz`, `/readyz` and `/metrics` answer. */
import type { Bus } from './bus/bus.ts'
import type { Clock } from './clock.ts'
import type { HttpAnswer } from './http.ts'
import type { Metrics } from './metrics.ts'
import type { ServerLimits } from './server-limits.ts'
import type { Database } from './storage/database.ts'

export interface HealthParts {
  readonly database: Database
  readonly bus: Bus
  readonly clock: Clock
  readonly metrics: Metrics
  readonly limits: Pick<ServerLimits, 'busSilenceMs'>
  readonly draining: () => boolean
  /** Brings the gauges up to date. */
  readonly measure: () => void
}

const DATABASE_ANSWER_MS_MAX = 2000
/** Whoever asks more often is told the same: each look takes a connection. */
const DATABASE_ANSWER_KEPT_MS = 1000
/** How long a full disk is remembered. */
const STORAGE_FULL_MS = 30_000

export class Health {
  readonly #parts: HealthParts
  #storageFullAt = Number.NEGATIVE_INFINITY
  #databaseAnswer: Promise<boolean> | null = null

  constructor(parts: HealthParts) {
    this.#parts = parts
  }

  /** A write found the disk full: reads go on, but this is no place for new clients. */
  storageFull(): void {
    this.#storageFullAt = this.#parts.clock.now()
  }

  /** The answer to a GET of `path`, or null. */
  async answer(path: string): Promise<HttpAnswer | null> {
    switch (path) {
      case '/healthz':
        return text(200, 'ok')
      case '/readyz':
        return this.#ready()
      case '/metrics':
        return this.#metrics()
      case '/':
        return text(200, 'Claviger: connect by WebSocket.')
      default:
        return null
    }
  }

  async #ready(): Promise<HttpAnswer> {
    const { bus, clock, draining, limits } = this.#parts
    const now = clock.now()
    const checks = {
      database: await this.#databaseAnswers(),
      bus: bus.aliveAt !== null && now - bus.aliveAt <= limits.busSilenceMs,
      storage: now - this.#storageFullAt > STORAGE_FULL_MS,
      accepting: !draining(),
    }
    const status = Object.values(checks).every(Boolean) ? 200 : 503
    return { status, contentType: 'application/json', body: `${JSON.stringify(checks)}\n` }
  }

  #databaseAnswers(): Promise<boolean> {
    this.#databaseAnswer ??= this.#askDatabase().finally(() =>
      this.#parts.clock.after(DATABASE_ANSWER_KEPT_MS, () => (this.#databaseAnswer = null)),
    )
    return this.#databaseAnswer
  }

  async #askDatabase(): Promise<boolean> {
    const tooLate = new Promise<boolean>((resolve) => setTimeout(() => resolve(false), DATABASE_ANSWER_MS_MAX).unref())
    const answer = this.#parts.database.pool.query('select 1').then(
      () => true,
      () => false,
    )
    return Promise.race([answer, tooLate])
  }

  async #metrics(): Promise<HttpAnswer> {
    this.#parts.measure()
    const { registry } = this.#parts.metrics
    return { status: 200, contentType: registry.contentType, body: await registry.metrics() }
  }
}

function text(status: number, sentence: string): HttpAnswer {
  return { status, contentType: 'text/plain; charset=utf-8', body: `${sentence}\n` }
}
