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
/** Time the collector has in one go: the rest waits for the next minute. */
const COLLECTING_MS_MAX = 30_000
/** What expires is looked for this often: it reads whole tables. */
const EXPIRE_MS = 60 * 60 * 1000
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

/** Starts the three rounds. */
export function startUpkeep(parts: UpkeepParts, sweepMs: number): Upkeep {
  const sweep = repeat(sweepMs, parts.log, () => sweepOnce(parts))
  const collect = repeat(COLLECT_MS, parts.log, () => collectOnce(parts))
  const expire = repeat(EXPIRE_MS, parts.log, () => expireOnce(parts))
  return {
    sweepNow: () => sweep.now(),
    close: async () => {
      parts.retired.stop()
      await Promise.all([sweep.close(), collect.close(), expire.close()])
    },
  }
}

async function sweepOnce(parts: UpkeepParts): Promise<void> {
  for (const bucket of parts.buckets) bucket.sweep()
  await inTurn(parts.log, [() => parts.relay.sweep(), () => closeOutdated(parts)])
}

/** Ends sessions whose identities have newer cards: a notice may have been missed. */
async function closeOutdated({ sessions, database }: UpkeepParts): Promise<void> {
  const known = sessions.identities()
  for (let from = 0; from < known.length; from += IDENTITIES_PER_STATEMENT) {
    const newer = await readNewerRevisions(database, known.slice(from, from + IDENTITIES_PER_STATEMENT))
    for (const { identity, revision } of newer) sessions.closeOlder(identity, revision)
  }
}

function collectOnce({ bodies, retired, log }: UpkeepParts): Promise<void> {
  return inTurn(log, [() => collectBodies(bodies), () => retired.reclaim()])
}

async function collectBodies(bodies: BodyStore): Promise<void> {
  const until = performance.now() + COLLECTING_MS_MAX
  while (performance.now() < until && (await bodies.collect()));
}

function expireOnce({ database, log }: UpkeepParts): Promise<void> {
  return inTurn(log, [() => expireSuperseded(database), () => expireAudit(database, AUDIT_MS)])
}

/** Runs steps one after the other; one that fails does not keep the next from running. */
export async function inTurn(log: Log, steps: readonly (() => Promise<unknown>)[]): Promise<void> {
  for (const step of steps) await step().catch((error: unknown) => report(log, error))
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
