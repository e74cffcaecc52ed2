/**
 * What is where below the data directory of a server (`claviger-data` by default):
 *
 *     pg18/        the cluster; its Unix socket is in it too
 *     pg.json      the cluster’s id and the generated password, readable by its owner alone
 *     start.lock   exists while somebody starts PostgreSQL
 *     log/         what PostgreSQL logs, one file a weekday; startup.log has what it says before that begins
 */
import { mkdir, readFile, readdir, realpath } from 'node:fs/promises'
import { join } from 'node:path'
import { ClavigerError } from '../../../shared/errors.ts'

export interface Layout {
  readonly directory: string
  readonly dataDirectory: string
  readonly credentialsFile: string
  readonly lockFile: string
  readonly logDirectory: string
  /** Library links, if the package cannot hold them. */
  readonly linkDirectory: string
  /** A copy of the binaries, if the account PostgreSQL runs as cannot reach the package. */
  readonly copyDirectory: string
}

/** Creates `directory` for its owner alone if it is missing, and says what goes where. */
export async function prepareLayout(directory: string, version: string): Promise<Layout> {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const root = await realpath(directory)
  return {
    directory: root,
    dataDirectory: join(root, `pg${majorOf(version)}`),
    credentialsFile: join(root, 'pg.json'),
    lockFile: join(root, 'start.lock'),
    logDirectory: join(root, 'log'),
    linkDirectory: join(root, `links-${version}`),
    copyDirectory: join(root, `binaries-${version}`),
  }
}

/** Whether a cluster stands in `dataDirectory`. initdb works elsewhere and is renamed, so there is no half of one. */
export async function hasCluster(dataDirectory: string): Promise<boolean> {
  return (await readMajor(dataDirectory)) !== null
}

/**
 * Refuses directories that are not for these binaries: another major’s, or a PostgreSQL’s own data directory.
 *
 * @throws ClavigerError `database_version` or `database_foreign`.
 */
export async function refuseOtherClusters(layout: Layout, version: string): Promise<void> {
  if (await hasCluster(layout.directory)) {
    throw new ClavigerError('database_foreign', `${layout.directory} is itself the data directory of a PostgreSQL; choose another.`)
  }
  const found = await readMajor(layout.dataDirectory)
  if (found === majorOf(version)) return
  const other = found ?? (await otherMajor(layout.directory))
  if (other !== null) throw wrongMajor(layout.directory, other, version)
}

/** What `PG_VERSION` says for `18.4`: `18`. */
function majorOf(version: string): string {
  return version.split('.')[0] ?? version
}

async function otherMajor(directory: string): Promise<string | null> {
  for (const name of await readdir(directory)) {
    const major = /^pg\d+$/.test(name) ? await readMajor(join(directory, name)) : null
    if (major !== null) return major
  }
  return null
}

async function readMajor(dataDirectory: string): Promise<string | null> {
  return readFile(join(dataDirectory, 'PG_VERSION'), 'utf8').then(
    (text) => text.trim(),
    () => null,
  )
}

function wrongMajor(directory: string, found: string, version: string): ClavigerError {
  const message =
    `${directory} holds data of PostgreSQL ${found}, this package brings ${version}: run "claviger backup" with the package ` +
    `that wrote it, move the directory away, and run "claviger restore" with this one.`
  return new ClavigerError('database_version', message, { data: { found, version } })
}
