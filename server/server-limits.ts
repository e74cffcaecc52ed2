/** The bounds of sessions as one object, so that a test can lower one without waiting for the real one. */
import * as limits from '../shared/limits.ts'

export interface ServerLimits {
  /** Bytes of one inbound frame. */
  readonly frameBytes: number
  /** Bytes of one inbound frame before authentication. */
  readonly frameBytesUnauthenticated: number
  readonly requestsInFlight: number
  readonly requestBytesInFlight: number
  readonly requestsPerSecond: number
  readonly requestsBurst: number
  /** Of work, per identity. */
  readonly unitsPerSecond: number
  readonly unitsBurst: number
  /** Per address. */
  readonly connectionsPerSecond: number
  readonly connectionsBurst: number
  /** Per address. */
  readonly authenticationFailuresPerMinute: number
  /** Sessions of this process. */
  readonly sessions: number
  readonly handshakeMs: number
  readonly heartbeatMs: number
  /** Buffered bytes past which a session is lagging. */
  readonly laggingBytes: number
  /** Buffered bytes below which it reads on. */
  readonly laggingResumeBytes: number
  readonly laggingMs: number
  /** Buffered bytes past which a session is closed. */
  readonly bufferedBytes: number
  /** Buffered bytes of all sessions together, past which the largest is closed. */
  readonly processBufferedBytes: number
  readonly subscriptionsPerSession: number
  /** Groups that one identity may create. */
  readonly groupsPerIdentity: number
  /** A process compares its groups with the database this often. */
  readonly sweepMs: number
  /** Without a sign of life from the bus for this long a process is not ready. */
  readonly busSilenceMs: number
  /** Time that requests in flight get when the server shuts down. */
  readonly drainMs: number
}

export const DEFAULT_LIMITS: ServerLimits = {
  frameBytes: limits.FRAME_BYTES_MAX,
  frameBytesUnauthenticated: limits.FRAME_BYTES_UNAUTHENTICATED_MAX,
  requestsInFlight: limits.REQUESTS_IN_FLIGHT_MAX,
  requestBytesInFlight: limits.REQUEST_BYTES_IN_FLIGHT_MAX,
  requestsPerSecond: limits.REQUESTS_PER_SECOND,
  requestsBurst: limits.REQUESTS_BURST,
  unitsPerSecond: limits.UNITS_PER_SECOND,
  unitsBurst: limits.UNITS_BURST,
  connectionsPerSecond: limits.CONNECTIONS_PER_SECOND,
  connectionsBurst: limits.CONNECTIONS_BURST,
  authenticationFailuresPerMinute: limits.AUTHENTICATION_FAILURES_PER_MINUTE,
  sessions: limits.SESSIONS_PER_PROCESS_MAX,
  handshakeMs: limits.HANDSHAKE_MS_MAX,
  heartbeatMs: limits.HEARTBEAT_MS,
  laggingBytes: limits.LAGGING_BYTES,
  laggingResumeBytes: limits.LAGGING_RESUME_BYTES,
  laggingMs: limits.LAGGING_MS_MAX,
  bufferedBytes: limits.BUFFERED_BYTES_MAX,
  processBufferedBytes: limits.PROCESS_BUFFERED_BYTES_MAX,
  subscriptionsPerSession: limits.SUBSCRIPTIONS_PER_SESSION_MAX,
  groupsPerIdentity: limits.GROUPS_PER_IDENTITY_MAX,
  sweepMs: limits.SWEEP_MS,
  busSilenceMs: limits.BUS_SILENCE_MS_MAX,
  drainMs: limits.DRAIN_MS_MAX,
}
