/**
 * Requests that have arrived: started in order while there is room, otherwise left waiting with the socket paused.
 *
 * Too many requests are not an offence: the peer is slowed down by not being read, and nothing is lost.
 */
import type { Clock } from './clock.ts'
import type { ServerLimits } from './server-limits.ts'
import { TokenBucket } from './token-bucket.ts'
import type { Transport } from './transport.ts'

export interface IntakeOptions {
  readonly transport: Pick<Transport, 'pause' | 'resume'>
  readonly clock: Clock
  readonly limits: Pick<ServerLimits, 'requestsInFlight' | 'requestBytesInFlight' | 'requestsPerSecond' | 'requestsBurst'>
  /** Whether the session may start another frame now. */
  readonly mayStart: () => boolean
  /** Handles one frame; never rejects. */
  readonly handle: (frame: Uint8Array) => Promise<void>
}

export class Intake {
  readonly #options: IntakeOptions
  readonly #bucket: TokenBucket
  #waiting: Uint8Array[] = []
  #inFlight = 0
  #bytesInFlight = 0
  #paused = false
  #closed = false
  #cancelTimer: (() => void) | null = null

  constructor(options: IntakeOptions) {
    this.#options = options
    const { requestsPerSecond, requestsBurst } = options.limits
    this.#bucket = new TokenBucket(options.clock, { perSecond: requestsPerSecond, burst: requestsBurst })
  }

  /** Whether the socket is not being read because of us: silence is no sign of death then. */
  get paused(): boolean {
    return this.#paused
  }

  /** Requests being handled. */
  get inFlight(): number {
    return this.#inFlight
  }

  /** Takes a frame in. */
  offer(frame: Uint8Array): void {
    if (this.#closed) return
    this.#waiting.push(frame)
    this.pump()
  }

  /** Starts what may be started: called again whenever something that stood in the way may have changed. */
  pump(): void {
    while (this.#waiting.length > 0 && this.#hasRoom() && this.#options.mayStart() && this.#takeToken()) {
      const frame = this.#waiting.shift()
      if (frame !== undefined) this.#start(frame)
    }
    this.#setPaused(this.#waiting.length > 0 && !this.#closed)
  }

  /** Starts nothing more. */
  close(): void {
    this.#closed = true
    this.#waiting = []
    this.#cancelTimer?.()
    this.#cancelTimer = null
  }

  #start(frame: Uint8Array): void {
    this.#inFlight += 1
    this.#bytesInFlight += frame.length
    void this.#options.handle(frame).finally(() => {
      this.#inFlight -= 1
      this.#bytesInFlight -= frame.length
      if (!this.#closed) this.pump()
    })
  }

  /** One frame always fits, however large. */
  #hasRoom(): boolean {
    const { requestsInFlight, requestBytesInFlight } = this.#options.limits
    if (this.#inFlight === 0) return true
    return this.#inFlight < requestsInFlight && this.#bytesInFlight + (this.#waiting[0]?.length ?? 0) <= requestBytesInFlight
  }

  #takeToken(): boolean {
    if (this.#bucket.take()) return true
    this.#cancelTimer ??= this.#options.clock.after(this.#bucket.waitMs, () => {
      this.#cancelTimer = null
      this.pump()
    })
    return false
  }

  #setPaused(paused: boolean): void {
    if (paused === this.#paused) return
    this.#paused = paused
    if (paused) this.#options.transport.pause()
    else if (!this.#closed) this.#options.transport.resume()
  }
}
