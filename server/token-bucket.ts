/**
 * Token buckets: a rate that may be exceeded for a moment.
 *
 * Buckets of addresses are dropped once full again, and there are only so many: an attacker with many addresses
 * costs a bounded map, not memory without end.
 */
import type { Clock } from './clock.ts'

export interface TokenRate {
  readonly perSecond: number
  /** Tokens of a full bucket. */
  readonly burst: number
}

/** One bucket, full at first. */
export class TokenBucket {
  readonly #clock: Clock
  readonly #rate: TokenRate
  #tokens: number
  #filledAt: number

  constructor(clock: Clock, rate: TokenRate) {
    this.#clock = clock
    this.#rate = rate
    this.#tokens = rate.burst
    this.#filledAt = clock.now()
  }

  /** Takes a token if there is one. */
  take(): boolean {
    this.#fill()
    if (this.#tokens < 1) return false
    this.#tokens -= 1
    return true
  }

  /** Takes `tokens`, there or not: what is missing is owed. */
  spend(tokens: number): void {
    this.#fill()
    this.#tokens -= tokens
  }

  /** Milliseconds until nothing is owed any more. */
  get debtMs(): number {
    this.#fill()
    return Math.max(0, Math.ceil((-this.#tokens * 1000) / this.#rate.perSecond))
  }

  /** Whether nothing has been taken lately. */
  get full(): boolean {
    this.#fill()
    return this.#tokens >= this.#rate.burst
  }

  /** Whether the next {@link take} would fail. */
  get empty(): boolean {
    this.#fill()
    return this.#tokens < 1
  }

  /** Milliseconds until there is a token. */
  get waitMs(): number {
    this.#fill()
    return Math.max(0, Math.ceil(((1 - this.#tokens) * 1000) / this.#rate.perSecond))
  }

  #fill(): void {
    const now = this.#clock.now()
    // A clock that was set back must not empty the bucket.
    const elapsedMs = Math.max(0, now - this.#filledAt)
    this.#tokens = Math.min(this.#rate.burst, this.#tokens + (elapsedMs * this.#rate.perSecond) / 1000)
    this.#filledAt = now
  }
}

/** Addresses remembered at once: 100 bytes each. */
const ADDRESSES_MAX = 65_536

/** One bucket for each address. */
export class AddressBuckets {
  readonly #clock: Clock
  readonly #rate: TokenRate
  readonly #byAddress = new Map<string, TokenBucket>()

  constructor(clock: Clock, rate: TokenRate) {
    this.#clock = clock
    this.#rate = rate
  }

  /** Takes a token of `address` if there is one. */
  take(address: string): boolean {
    return this.#bucketOf(address).take()
  }

  /** Whether `address` has used up its tokens. */
  isEmpty(address: string): boolean {
    return this.#byAddress.get(addressBlock(address))?.empty ?? false
  }

  /** Forgets addresses that have been quiet. */
  sweep(): void {
    for (const [address, bucket] of this.#byAddress) if (bucket.full) this.#byAddress.delete(address)
  }

  #bucketOf(address: string): TokenBucket {
    const block = addressBlock(address)
    const known = this.#byAddress.get(block)
    if (known !== undefined) return known
    if (this.#byAddress.size >= ADDRESSES_MAX) this.#dropOldest()
    const bucket = new TokenBucket(this.#clock, this.#rate)
    this.#byAddress.set(block, bucket)
    return bucket
  }

  #dropOldest(): void {
    const oldest = this.#byAddress.keys().next()
    if (oldest.done !== true) this.#byAddress.delete(oldest.value)
  }
}

/** What counts as one address: an IPv6 host owns its whole /64. */
export function addressBlock(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)
  if (mapped?.[1] !== undefined) return mapped[1]
  if (!address.includes(':')) return address
  const [head = '', tail] = address.split('::', 2)
  const groups = head === '' ? [] : head.split(':')
  const tailGroups = tail === undefined || tail === '' ? [] : tail.split(':')
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - groups.length - tailGroups.length)
  const all = [...groups, ...Array.from({ length: zeros }, () => '0'), ...tailGroups]
  return `${all
    .slice(0, 4)
    .map((group) => group.replace(/^0+(?=.)/, ''))
    .join(':')}::/64`
}
