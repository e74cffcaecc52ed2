/** Makes a new data directory with `initdb`. The password travels in a file readable by its owner alone. */
import { open, rm } from 'node:fs/promises'
import type { Account } from './account.ts'
import { giveTo, spawnAs } from './account.ts'
import type { PostgresBinaries } from './binaries.ts'
import { programEnvironment, programPath } from './binaries.ts'
import { startFailure } from './failure.ts'

/** The one role of the embedded database. */
export const DATABASE_USER = 'claviger'

export interface InitialiseOptions {
  readonly binaries: PostgresBinaries
  readonly account: Account
  /** Must not exist, or be empty. */
  readonly dataDirectory: string
  readonly password: string
  /** Where the password stands while initdb runs; inside a directory that is ours alone. */
  readonly passwordFile: string
  /** Only for databases that may be lost, such as those of tests. */
  readonly unsafeWithoutSync?: boolean
}

/**
 * `--locale=C`: no collation of the operating system gets into the indexes, so an upgrade of the system cannot
 * break them. `scram-sha-256` also on the socket, since other programs of the same user reach it.
 */
export async function initialise(options: InitialiseOptions): Promise<void> {
  const file = await open(options.passwordFile, 'wx', 0o600)
  try {
    await file.writeFile(`${options.password}\n`)
    await file.close()
    await giveTo(options.account, options.passwordFile)
    await runInitdb(options)
  } finally {
    await rm(options.passwordFile, { force: true })
  }
}

function runInitdb(options: InitialiseOptions): Promise<void> {
  const initdb = spawnAs(options.account, programPath(options.binaries, 'initdb'), initdbArguments(options), {
    env: programEnvironment(options.binaries),
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let complaint = ''
  initdb.stderr?.on('data', (chunk: Buffer) => (complaint = (complaint + chunk.toString()).slice(-4096)))
  return new Promise((resolve, reject) => {
    initdb.once('error', (cause) => reject(startFailure(cause.message, cause)))
    initdb.once('close', (code) => (code === 0 ? resolve() : reject(startFailure(complaint))))
  })
}

function initdbArguments(options: InitialiseOptions): readonly string[] {
  return [
    `--pgdata=${options.dataDirectory}`,
    `--username=${DATABASE_USER}`,
    `--pwfile=${options.passwordFile}`,
    '--auth=scram-sha-256',
    '--locale=C',
    '--encoding=UTF8',
    '--no-instructions',
    ...(options.unsafeWithoutSync === true ? ['--no-sync'] : []),
  ]
}
