/** Prometheus metrics, in a registry of this server’s own: several servers may run in one process. */
import { Counter, Gauge, Histogram, Registry } from 'prom-client'

export interface Metrics {
  readonly registry: Registry
  readonly sessions: Gauge<'state'>
  readonly requests: Counter<'method' | 'result'>
  readonly requestSeconds: Histogram<'method'>
  readonly commits: Counter<'result'>
  readonly writes: Counter<'result'>
  readonly combinedWrites: Histogram
  readonly feedLag: Gauge
  readonly bufferedBytes: Gauge
  readonly droppedEvents: Counter<'type'>
  readonly closedSessions: Counter<'reason'>
  readonly laggingSessions: Counter
  readonly notices: Counter<'direction'>
  readonly droppedAuditEntries: Counter<'kind'>
}

const SECONDS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]

/** Makes every metric, all at zero. */
export function createMetrics(): Metrics {
  const registry = new Registry()
  const registers = [registry]
  const counter = <Name extends string>(name: string, help: string, labelNames: readonly Name[] = []): Counter<Name> =>
    new Counter({ name: `claviger_${name}`, help, labelNames, registers })
  const gauge = <Name extends string>(name: string, help: string, labelNames: readonly Name[] = []): Gauge<Name> =>
    new Gauge({ name: `claviger_${name}`, help, labelNames, registers })
  return {
    registry,
    sessions: gauge('sessions', 'Sessions by state.', ['state']),
    requests: counter('requests_total', 'Requests by method and result code.', ['method', 'result']),
    requestSeconds: new Histogram({
      name: 'claviger_request_seconds',
      help: 'Time from the arrival of a request to its reply.',
      labelNames: ['method'],
      buckets: SECONDS,
      registers,
    }),
    commits: counter('commits_total', 'Commits by result code.', ['result']),
    writes: counter('writes_total', 'Object writes by result code.', ['result']),
    combinedWrites: new Histogram({
      name: 'claviger_combined_writes',
      help: 'Writes in one transaction.',
      buckets: [1, 2, 4, 8, 16, 32, 64, 128, 256, 1024],
      registers,
    }),
    feedLag: gauge('feed_lag_changes', 'Changes that the furthest behind subscription has still to be sent.'),
    bufferedBytes: gauge('buffered_bytes', 'Outbound bytes of all sessions that the network has not taken.'),
    droppedEvents: counter('dropped_events_total', 'Passing events not sent to lagging sessions.', ['type']),
    closedSessions: counter('closed_sessions_total', 'Sessions this server closed, by reason.', ['reason']),
    laggingSessions: counter('lagging_sessions_total', 'Times a session became lagging.'),
    notices: counter('notices_total', 'Notices between processes.', ['direction']),
    droppedAuditEntries: counter('dropped_audit_entries_total', 'Audit entries past what is written of one kind.', ['kind']),
  }
}
