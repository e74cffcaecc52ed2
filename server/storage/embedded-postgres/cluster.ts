/** The directory made ready: binaries, account and a cluster that is ours, without anything running yet. */
import { mkdtemp, open, readdir, rename, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { ClavigerError } from '../../../shared/errors.ts'
import { chooseAccount, giveTo, letThrough } from './account.ts'
import { linkLibraries, locateBinaries } from './binaries.ts'
import { createCredentials, readCredentials } from './credentials.ts'
import type { Credentials } from './credentials.ts'
import { initialise } from './initialise.ts'
import { hasCluster, prepareLayout, refuseOtherClusters } from './layout.ts'
import type { Layout } from './layout.ts'
import { isRunning } from './postmaster.ts'
import type { Installation } from './postmaster.ts'
import { reachableBinaries } from './reachable.ts'

/** Finds the binaries, the directories and the account for `directory`, and refuses what is not for us. */
export async function prepareInstallation(directory: string): Promise<Installation> {
  const located = await locateBinaries()
  const layout = await prepareLayout(directory, located.version)
  await refuseOtherClusters(layout, located.version)
  const account = await chooseAccount(layout.dataDirectory)
  await letThrough(account, layout.directory)
  const linked = await linkLibraries(located, layout.linkDirectory)
  return { layout, account, binaries: await reachableBinaries(linked, account, layout.copyDirectory) }
}

/** Ends the names of directories initdb is at work in; six random characters follow. */
const HALF_MADE = '.new-'

/**
 * Makes the cluster if there is none.
 *
 * initdb works in a directory that is renamed when it is whole: a crash leaves none, or all.
 * The name is another each time, because the initdb of a killed process may still be at work in the last one.
 */
export async function ensureCluster(installation: Installation): Promise<Credentials> {
  const { layout, account, binaries } = installation
  const known = await readCredentials(layout.credentialsFile)
  if (await hasCluster(layout.dataDirectory)) return known ?? (await refuseUnknown(installation))
  const credentials = known ?? (await createCredentials(layout.credentialsFile))
  await removeHalfMade(layout)
  const half = await mkdtemp(`${layout.dataDirectory}${HALF_MADE}`)
  const passwordFile = `${half}.password`
  await giveTo(account, half)
  await initialise({ binaries, account, dataDirectory: half, password: credentials.password, passwordFile })
  await rename(half, layout.dataDirectory)
  await syncDirectory(layout.directory)
  return credentials
}

/** What a killed process left; its initdb, if that still runs, fails and cleans up itself. */
async function removeHalfMade(layout: Layout): Promise<void> {
  const names = (await readdir(layout.directory)).filter((name) => name.startsWith(`${basename(layout.dataDirectory)}${HALF_MADE}`))
  for (const name of names) {
    await rm(join(layout.directory, name), { recursive: true, force: true }).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOTEMPTY') throw error
    })
  }
}

async function refuseUnknown(installation: Installation): Promise<never> {
  const { dataDirectory, credentialsFile } = installation.layout
  if (await isRunning(dataDirectory)) {
    throw new ClavigerError(
      'database_foreign',
      `A PostgreSQL that is not ours runs for ${dataDirectory}; stop it, or choose another directory.`,
    )
  }
  throw new ClavigerError(
    'database_start_failed',
    `${credentialsFile} is missing, and with it the password of ${dataDirectory}; restore it from a backup.`,
  )
}

/** Makes the renames in `path` last; Windows has no such thing and needs none. */
async function syncDirectory(path: string): Promise<void> {
  if (process.platform === 'win32') return
  const directory = await open(path, 'r')
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}
