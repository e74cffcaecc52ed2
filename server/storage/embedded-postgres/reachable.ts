/** Makes sure that the account PostgreSQL runs as can execute the binaries: npm puts them where only root may look. */
import { cp, rename, rm, stat } from 'node:fs/promises'
import { ClavigerError } from '../../../shared/errors.ts'
import type { Account } from './account.ts'
import { spawnAs } from './account.ts'
import type { PostgresBinaries } from './binaries.ts'
import { programEnvironment, programPath } from './binaries.ts'

/**
 * The binaries themselves, or a copy of them in `copyDirectory` (about 60 MB, made once) where they cannot be reached.
 *
 * @throws ClavigerError `database_platform` if the copy cannot be reached either.
 */
export async function reachableBinaries(binaries: PostgresBinaries, account: Account, copyDirectory: string): Promise<PostgresBinaries> {
  if (account.kind !== 'user' || (await canRun(binaries, account))) return binaries
  const copy = { ...binaries, root: copyDirectory }
  await makeCopy(binaries, copyDirectory)
  if (await canRun(copy, account)) return copy
  const message = `The account ${account.name}, as which PostgreSQL has to run here, cannot reach ${copyDirectory}; `
  throw new ClavigerError('database_platform', `${message}choose a data directory it can reach, or start Claviger as an ordinary user.`)
}

/** Root’s own and readable to all: the account has no need to change its programs. */
async function makeCopy(binaries: PostgresBinaries, copyDirectory: string): Promise<void> {
  if (
    await stat(copyDirectory).then(
      () => true,
      () => false,
    )
  )
    return
  const half = `${copyDirectory}.new`
  await rm(half, { recursive: true, force: true })
  await cp(binaries.root, half, { recursive: true, verbatimSymlinks: true })
  await rename(half, copyDirectory)
}

function canRun(binaries: PostgresBinaries, account: Account): Promise<boolean> {
  const options = { cwd: '/', env: programEnvironment(binaries), stdio: 'ignore' } as const
  return new Promise((resolve) => {
    const program = spawnAs(account, programPath(binaries, 'postgres'), ['--version'], options)
    program.once('error', () => resolve(false))
    program.once('close', (code) => resolve(code === 0))
  })
}
