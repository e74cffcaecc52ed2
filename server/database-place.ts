/** Where the data is: a PostgreSQL of our own, or the operator’s. Found, checked and migrated before anything else starts. */
import { ClavigerError } from '../shared/errors.ts'
import type { DatabaseSetting } from './config.ts'
import type { Log, LogFacts } from './log.ts'
import { checkConnection, describeDatabase } from './storage/check-connection.ts'
import { openDatabase } from './storage/database.ts'
import { startEmbeddedPostgres } from './storage/embedded-postgres/index.ts'
import type { LauncherLog } from './storage/embedded-postgres/index.ts'
import { migrate } from './storage/migrate.ts'

export interface DatabasePlace {
  /** Holds the password: never log it. */
  readonly url: string
  /** For people: what it is, without its password. */
  readonly description: string
  /** Leaves it. Close the pools first. */
  stop(): Promise<void>
}

/** @throws ClavigerError with a sentence for the operator. */
export async function openPlace(setting: DatabaseSetting, log: Log): Promise<DatabasePlace> {
  const place = await findPlace(setting, log)
  try {
    await prepare(place.url, log)
    return place
  } catch (error) {
    await place.stop()
    throw error
  }
}

async function findPlace(setting: DatabaseSetting, log: Log): Promise<DatabasePlace> {
  if (setting.kind === 'url') return { url: setting.url, description: describeDatabase(setting.url), stop: async () => undefined }
  const embedded = await startEmbeddedPostgres({ directory: setting.directory, log: launcherLog(log) })
  const description = embedded.adopted ? `PostgreSQL that was running in ${setting.directory}` : `PostgreSQL in ${setting.directory}`
  return { url: embedded.url, description, stop: () => embedded.stop() }
}

/** On a pool of its own: a migration may take longer than any request. */
async function prepare(url: string, log: Log): Promise<void> {
  const database = openDatabase({ url, poolSize: 1 })
  try {
    await checkConnection(database, url)
    const applied = await migrate(database)
    if (applied.length > 0) log.info({ steps: applied.length }, 'schema migrated')
  } catch (error) {
    if (error instanceof ClavigerError) throw error
    throw new ClavigerError('database_unreachable', 'The database could not be brought to this version’s schema; the log has the reason.', {
      cause: error,
    })
  } finally {
    await database.close()
  }
}

function launcherLog(log: Log): LauncherLog {
  return { info: (facts, message) => log.info(plain(facts), message), warn: (facts, message) => log.warn(plain(facts), message) }
}

/** Facts of the launcher are plain values; anything else is left out. */
function plain(facts: object): LogFacts {
  const isPlain = (value: unknown): value is string | number | boolean => ['string', 'number', 'boolean'].includes(typeof value)
  return Object.fromEntries(Object.entries(facts).filter((entry): entry is [string, string | number | boolean] => isPlain(entry[1])))
}
