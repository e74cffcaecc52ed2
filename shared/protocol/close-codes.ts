/** WebSocket close codes of the protocol (application range, RFC 6455 §7.4.2): number, and whether to connect again. */
export const CLOSE_CODES = {
  malformed: { code: 4400, reconnect: false },
  unauthenticated: { code: 4401, reconnect: false },
  /** Authenticated elsewhere with a newer card, or no longer admitted. */
  forbidden: { code: 4403, reconnect: false },
  handshakeTimeout: { code: 4408, reconnect: true },
  frameTooLarge: { code: 4413, reconnect: false },
  rateLimited: { code: 4429, reconnect: true },
  heartbeat: { code: 4440, reconnect: true },
  lagging: { code: 4441, reconnect: true },
  draining: { code: 4450, reconnect: true },
  internal: { code: 4500, reconnect: true },
} as const

export type CloseReason = keyof typeof CLOSE_CODES
