/** One session on a memory transport, with the rest of the server reduced to what a test passes in. */
import { createMetrics } from '../../server/metrics.ts'
import type { Metrics } from '../../server/metrics.ts'
import { createLog } from '../../server/log.ts'
import { OutboundBudget } from '../../server/outbound-budget.ts'
import type { Peer, VerifiedIdentity } from '../../server/peer.ts'
import { DEFAULT_LIMITS } from '../../server/server-limits.ts'
import type { ServerLimits } from '../../server/server-limits.ts'
import type { AuthenticationAttempt, SessionHost } from '../../server/session.ts'
import { Session } from '../../server/session.ts'
import { TickFlush } from '../../server/tick-flush.ts'
import { asSigningPublicKey } from '../../shared/crypto/keys.ts'
import { asIdentityId } from '../../shared/ids.ts'
import type { Request } from '../../shared/protocol/messages.ts'
import { ManualClock } from './manual-clock.ts'
import { MemoryTransport } from './memory-transport.ts'

export const ALICE: VerifiedIdentity = {
  identity: asIdentityId(new Uint8Array(32).fill(1)),
  signingKey: asSigningPublicKey(new Uint8Array(32).fill(2)),
  revision: 0,
}

/** A well-formed claim; what it proves is up to the stage’s `authenticate`. */
export const CLAIM = { type: 'authenticate', cards: [Uint8Array.of(1)], signature: new Uint8Array(64) } as const

export interface StageOptions {
  readonly limits?: Partial<ServerLimits>
  readonly authenticate?: (attempt: AuthenticationAttempt) => Promise<VerifiedIdentity>
  readonly call?: (peer: Peer, request: Request) => Promise<unknown>
  readonly budget?: OutboundBudget
}

export interface Stage {
  readonly session: Session
  readonly transport: MemoryTransport
  readonly clock: ManualClock
  readonly metrics: Metrics
  readonly logLines: string[]
  readonly opened: Peer[]
  readonly drained: Peer[]
  readonly closed: (Peer | null)[]
}

/** A session that has greeted. */
export function stage(options: StageOptions = {}): Stage {
  const clock = new ManualClock()
  const transport = new MemoryTransport()
  const metrics = createMetrics()
  const logLines: string[] = []
  const events = { opened: [] as Peer[], drained: [] as Peer[], closed: [] as (Peer | null)[] }
  const limits = { ...DEFAULT_LIMITS, ...options.limits }
  const host: SessionHost = {
    clock,
    limits,
    metrics,
    log: createLog('debug', { write: (line) => logLines.push(line) }),
    flush: new TickFlush(),
    budget: options.budget ?? new OutboundBudget(limits.processBufferedBytes),
    authenticate: options.authenticate ?? (async () => ALICE),
    call: options.call ?? (async () => ({})),
    opened: (_session, peer) => events.opened.push(peer),
    drained: (peer) => events.drained.push(peer),
    closed: (_session, peer) => events.closed.push(peer),
  }
  const session = new Session({ transport, host, authority: 'claviger.test', address: '192.0.2.1' })
  transport.listen(session)
  session.greet()
  return { session, transport, clock, metrics, logLines, ...events }
}

/** A session that is open. */
export async function openStage(options: StageOptions = {}): Promise<Stage & { readonly peer: Peer }> {
  const open = stage(options)
  open.transport.receive(CLAIM)
  await turn()
  const [peer] = open.opened
  if (peer === undefined) throw new Error('the session did not open')
  return { ...open, peer }
}

/** Lets everything that is ready happen, and queues be flushed. */
export async function turn(): Promise<void> {
  for (let count = 0; count < 3; count += 1) await new Promise<void>((resolve) => setImmediate(resolve))
}

/** A request frame. */
export function request(id: number, method = 'group.list', params: unknown = {}): Record<string, unknown> {
  return { type: 'request', id, method, params }
}
