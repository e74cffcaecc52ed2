/**
 * What requests cost, paid from one bucket for each identity however many sessions it has: a request of a thousand
 * items must not count like a ping. Whoever owes waits; nothing is refused.
 *
 * A unit is about what one object of a batch costs: 50 µs of one core.
 */
import { ClavigerError } from '../shared/errors.ts'
import { idKey } from '../shared/ids.ts'
import type { MethodName, Request } from '../shared/protocol/messages.ts'
import type { Clock } from './clock.ts'
import type { Peer } from './peer.ts'
import type { ServerLimits } from './server-limits.ts'
import { TokenBucket } from './token-bucket.ts'

/** Bytes that are only carried. */
const BYTES_PER_UNIT = 16 * 1024
/** Bytes of what is full of cards, each with a signature to verify. */
const SIGNED_BYTES_PER_UNIT = 256

/** Methods that cost more than their parameters show, because they fold, count or lock; this many of one session run at once. */
const HEAVY_UNITS: ReadonlyMap<string, number> = new Map<MethodName, number>([
  ['commit.submit', 20],
  ['log.snapshot', 100],
  ['pages.range', 50],
  ['pages.replace', 50],
  ['rewrap.status', 100],
])
const HEAVY_IN_FLIGHT_MAX = 2

/** Methods whose bytes are cards and signatures. */
const SIGNED: ReadonlySet<string> = new Set<MethodName>(['commit.submit', 'group.create', 'join.request', 'head.sign', 'invite.open'])

/** Buckets remembered at once: 100 bytes each. */
const IDENTITIES_MAX = 65_536

type Call = Pick<Request, 'method' | 'params'>

export interface RequestCostsOptions {
  readonly clock: Clock
  readonly limits: Pick<ServerLimits, 'unitsPerSecond' | 'unitsBurst'>
}

/** Runs requests once they are paid for. */
export class RequestCosts {
  readonly #options: RequestCostsOptions
  readonly #bucketByIdentity = new Map<string, TokenBucket>()
  readonly #gates = new WeakMap<Peer, Gate>()

  constructor(options: RequestCostsOptions) {
    this.#options = options
  }

  /** Runs `task` when its turn has come. @throws ClavigerError `closed` if the session has ended before. */
  async run<T>(peer: Peer, request: Call, task: () => Promise<T>): Promise<T> {
    const bucket = this.#bucketOf(peer)
    bucket.spend(unitsOf(request))
    if (bucket.debtMs > 0) await new Promise<void>((resolve) => this.#options.clock.after(bucket.debtMs, resolve))
    if (!HEAVY_UNITS.has(request.method)) return await task()
    const gate = this.#gates.get(peer) ?? new Gate(HEAVY_IN_FLIGHT_MAX)
    this.#gates.set(peer, gate)
    return await gate.pass(() => {
      if (peer.closed) throw new ClavigerError('closed')
      return task()
    })
  }

  /** Forgets identities that have been quiet. */
  sweep(): void {
    for (const [identity, bucket] of this.#bucketByIdentity) if (bucket.full) this.#bucketByIdentity.delete(identity)
  }

  #bucketOf({ identity }: Peer): TokenBucket {
    const key = idKey(identity)
    const { clock, limits } = this.#options
    const bucket = this.#bucketByIdentity.get(key) ?? new TokenBucket(clock, { perSecond: limits.unitsPerSecond, burst: limits.unitsBurst })
    if (this.#bucketByIdentity.size >= IDENTITIES_MAX) this.sweep()
    this.#bucketByIdentity.set(key, bucket)
    return bucket
  }
}

/** What a request costs. Its parameters have not been judged yet: whatever they are, they have been decoded. */
export function unitsOf({ method, params }: Call): number {
  const { items, bytes } = sizeOf(params)
  const asked = method === 'body.read' || method === 'body.hashes' ? numberOf(params, 'bytes') / BYTES_PER_UNIT : 0
  return 1 + (HEAVY_UNITS.get(method) ?? 0) + items + asked + bytes / (SIGNED.has(method) ? SIGNED_BYTES_PER_UNIT : BYTES_PER_UNIT)
}

/** Entries of all lists, and bytes, in a decoded value; the decoder has bounded how much there is and how deep. */
function sizeOf(value: unknown): { readonly items: number; readonly bytes: number } {
  if (value instanceof Uint8Array) return { items: 0, bytes: value.length }
  if (typeof value !== 'object' || value === null) return { items: 0, bytes: 0 }
  let items = Array.isArray(value) ? value.length : 0
  let bytes = 0
  for (const part of Object.values(value)) {
    const size = sizeOf(part)
    items += size.items
    bytes += size.bytes
  }
  return { items, bytes }
}

function numberOf(params: unknown, name: string): number {
  const value: unknown = typeof params === 'object' && params !== null ? Reflect.get(params, name) : 0
  return typeof value === 'number' && value > 0 && value <= BYTES_PER_UNIT * BYTES_PER_UNIT ? value : 0
}

/** Lets so many in at once, the others in order. */
class Gate {
  #room: number
  readonly #waiting: (() => void)[] = []

  constructor(room: number) {
    this.#room = room
  }

  async pass<T>(task: () => Promise<T>): Promise<T> {
    if (this.#room > 0) this.#room -= 1
    else await new Promise<void>((resolve) => this.#waiting.push(resolve))
    try {
      return await task()
    } finally {
      // Handed on rather than given back, so that nobody overtakes who waits.
      const next = this.#waiting.shift()
      if (next === undefined) this.#room += 1
      else next()
    }
  }
}
