/** What a server does by itself, now and then: compare with the database, and delete what nothing needs any more. */
import { hasCode } from '../shared/errors.ts'
import type { Log } from './log.ts'
import type { Relay } from './relay/relay.ts'
import type { RetiredSpace } from './retired-space.ts'
import type { Sessions } from './sessions.ts'
import { expireAudit } from './storage/audit.ts'
import type { BodyStore } from './storage/body-store.ts'
import type { Database } from './storage/database.ts'
import { readNewerRevisions } from './storage/identities.ts'
import { expireSuperseded } from './storage/superseded.ts'

export interface UpkeepParts {
  readonly database: Database
  readonly relay: Relay
  readonly sessions: Sessions
  readonly bodies: BodyStore
  readonly retired: RetiredSpace
  readonly buckets: readonly { sweep(): void }[]
  readonly log: Log
}

const COLLECT_MS = 60_000
/** Steps of the collector in one go: the rest waits for the next minute. */
const COLLECT_STEPS_MAX = 256
/** How long audit entries are kept. */
const AUDIT_MS = 90 * 24 * 60 * 60 * 1000
/** Identities compared in one statement. */
const IDENTITIES_PER_STATEMENT = 1000

export interface Upkeep {
  /** Compares with the database now: notices may have been missed. */
  sweepNow(): void
  /** Stops, after what is under way. */
  close(): Promise<void>
}

/** Starts the two rounds. */
export function startUpkeep(parts: UpkeepParts, sweepMs: number): Upkeep {
  const sweep = repeat(sweepMs, parts.log, () => sweepOnce(parts))
  const collect = repeat(COLLECT_MS, parts.log, () => collectOnce(parts))
  return {
    sweepNow: () => sweep.now(),
    close: async () => void (await Promise.all([sweep.close(), collect.close()])),
  }
}

async function sweepOnce({ relay, sessions, database, buckets }: UpkeepParts): Promise<void> {
  for (const bucket of buckets) bucket.sweep()
  await relay.sweep()
  const known = sessions.identities()
  for (let from = 0; from < known.length; from += IDENTITIES_PER_STATEMENT) {
    const newer = await readNewerRevisions(database, known.slice(from, from + IDENTITIES_PER_STATEMENT))
    for (const { identity, revision } of newer) sessions.closeOlder(identity, revision)
  }
}

async function collectOnce({ bodies, database, retired }: UpkeepParts): Promise<void> {
  for (let step = 0; step < COLLECT_STEPS_MAX; step += 1) if (!(await bodies.collect())) break
  await retired.reclaim()
  await expireSuperseded(database)
  await expireAudit(database, AUDIT_MS)
}

interface Round {
  now(): void
  close(): Promise<void>
}

/** Runs `task` again and again, never twice at once; `now` asks for one more run, as soon as possible. */
function repeat(everyMs: number, log: Log, task: () => Promise<void>): Round {
  let running: Promise<void> | null = null
  let wanted = false
  const run = async (): Promise<void> => {
    do {
      wanted = false
      await task().catch((error: unknown) => report(log, error))
    } while (wanted)
    running = null
  }
  const start = (): void => {
    if (running === null) running = run()
    else wanted = true
  }
  const timer = setInterval(start, everyMs)
  timer.unref()
  return {
    now: start,
    close: async () => {
      clearInterval(timer)
      wanted = false
      await running
    },
  }
}

function report(log: Log, error: unknown): void {
  if (hasCode(error, 'server_unavailable')) log.warn({}, 'the database cannot be reached')
  else log.error({}, 'upkeep failed', error)
}
