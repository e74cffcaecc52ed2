/** The relay of a server in this process, with real sessions on real sockets whose identities are taken on trust. */
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { systemClock } from '../server/clock.ts'
import { Groups } from '../server/groups.ts'
import { createHttpFace } from '../server/http.ts'
import { createLog } from '../server/log.ts'
import { createMetrics } from '../server/metrics.ts'
import { OutboundBudget } from '../server/outbound-budget.ts'
import type { Peer, VerifiedIdentity } from '../server/peer.ts'
import { Relay } from '../server/relay/relay.ts'
import { DEFAULT_LIMITS } from '../server/server-limits.ts'
import type { SessionHost } from '../server/session.ts'
import { Session } from '../server/session.ts'
import type { Database } from '../server/storage/database.ts'
import { TickFlush } from '../server/tick-flush.ts'
import type { GroupId } from '../shared/ids.ts'
import type { Event } from '../shared/protocol/messages.ts'

/** A relay with sessions that follow one group. */
export interface RelayHost {
  readonly port: number
  /** Resolves when every member’s session follows the group. */
  readonly following: Promise<void>
  announce(event: Extract<Event, { type: 'signed-head' }>): void
  close(): Promise<void>
}

export interface RelayHostOptions {
  readonly database: Database
  readonly group: GroupId
  /** Members of the group: the first session is the first one’s, and so on. */
  readonly members: readonly VerifiedIdentity[]
}

/** No heartbeats: receivers only count bytes. */
const LIMITS = { ...DEFAULT_LIMITS, heartbeatMs: 3_600_000, handshakeMs: 3_600_000 }

/** Starts listening. */
export async function openRelayHost({ database, group, members }: RelayHostOptions): Promise<RelayHost> {
  const log = createLog('error')
  const metrics = createMetrics()
  const groups = new Groups(database, log)
  const state = await groups.state(group)
  const relay = new Relay({ groups, database, clock: systemClock, log, metrics, limits: LIMITS, bus: () => null })
  const { rows } = await database.pool.query<{ change_seq: number }>('select change_seq from groups where group_id = $1', [group])
  const cursor = rows[0]?.change_seq ?? 0
  const waiting = [...members]
  const peers: Peer[] = []
  let resolveFollowing: () => void = () => undefined
  const following = new Promise<void>((resolve) => (resolveFollowing = resolve))
  const host: SessionHost = {
    clock: systemClock,
    limits: LIMITS,
    log,
    metrics,
    flush: new TickFlush(),
    budget: new OutboundBudget(LIMITS.processBufferedBytes),
    authenticate: async () => waiting.shift() ?? fail('more sessions than members'),
    call: async () => ({}),
    opened: (_session, peer) => {
      relay.subscribe(peer, group, { cursor, seq: state.head.seq, audience: 'objects' })
      if (peers.push(peer) === members.length) resolveFollowing()
    },
    drained: (peer) => relay.drained(peer),
    closed: (_session, peer) => peer !== null && relay.remove(peer),
  }
  const http = createHttpFace({
    limits: LIMITS,
    trustProxy: false,
    answer: async () => null,
    judgeUpgrade: ({ authority }) => ({ accept: true, authority }),
    connected: (transport, { authority, address }) => {
      const session = new Session({ transport, host, authority, address })
      transport.listen(session)
      session.greet()
    },
  })
  http.server.listen(0, '127.0.0.1')
  await once(http.server, 'listening')
  const close = async (): Promise<void> => {
    for (const peer of peers) peer.close('draining')
    await http.close()
  }
  return { port: (http.server.address() as AddressInfo).port, following, announce: (event) => relay.announce(event), close }
}

function fail(why: string): never {
  throw new Error(why)
}
