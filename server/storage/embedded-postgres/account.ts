/**
 * As whom PostgreSQL runs. It refuses to run as root, and containers and CI run as root.
 *
 * As root, in this order: the owner of the data, if that is somebody else; root mapped to `nobody` in a user
 * namespace, where files stay root's; an existing account `postgres` or `nobody`, which then owns the data.
 * Accounts are never created.
 */
import { execFile, spawn } from 'node:child_process'
import type { ChildProcess, SpawnOptions } from 'node:child_process'
import { chmod, lchown, readFile, stat } from 'node:fs/promises'
import { promisify } from 'node:util'
import { ClavigerError } from '../../../shared/errors.ts'

const run = promisify(execFile)

/** `self`: as this process. `namespace`: as uid 65534 of a user namespace. `user`: as another account. */
export type Account =
  | { readonly kind: 'self' }
  | { readonly kind: 'namespace' }
  | { readonly kind: 'user'; readonly name: string; readonly uid: number; readonly gid: number }

const NAMESPACE = ['-U', '--map-user=65534', '--map-group=65534'] as const

/**
 * Chooses the account.
 *
 * @param dataDirectory - an existing one decides by its owner; it need not exist.
 * @throws ClavigerError `database_platform` if this is root and nothing else is to be had.
 */
export async function chooseAccount(dataDirectory: string): Promise<Account> {
  if (process.getuid?.() !== 0) return { kind: 'self' }
  const owner = await stat(dataDirectory).then(
    (entry) => entry,
    () => null,
  )
  if (owner !== null && owner.uid !== 0) return { kind: 'user', name: `uid ${owner.uid}`, uid: owner.uid, gid: owner.gid }
  if (await namespacesWork()) return { kind: 'namespace' }
  return (await existingAccount('postgres')) ?? (await existingAccount('nobody')) ?? refuseRoot()
}

/** Runs `program` as `account`, without a shell. */
export function spawnAs(account: Account, program: string, arguments_: readonly string[], options: SpawnOptions): ChildProcess {
  switch (account.kind) {
    case 'self':
      return spawn(program, arguments_, options)
    case 'namespace':
      return spawn('unshare', [...NAMESPACE, program, ...arguments_], options)
    case 'user':
      return spawn(program, arguments_, { ...options, uid: account.uid, gid: account.gid })
  }
}

/**
 * Gives `path` to the account, where that is another user. Only the entry itself, and never through a link: root must
 * not be led by what is in a directory another account writes to.
 */
export async function giveTo(account: Account, path: string): Promise<void> {
  if (account.kind === 'user') await lchown(path, account.uid, account.gid)
}

/** Lets the account through `directory` to what is its own in there. */
export async function letThrough(account: Account, directory: string): Promise<void> {
  if (account.kind === 'user') await chmod(directory, (await stat(directory)).mode | 0o011)
}

function namespacesWork(): Promise<boolean> {
  if (process.platform !== 'linux') return Promise.resolve(false)
  return run('unshare', [...NAMESPACE, 'true']).then(
    () => true,
    () => false,
  )
}

/** Reads /etc/passwd: Node has no look-up by name, and an account from a directory service is not for this. */
async function existingAccount(name: string): Promise<Account | null> {
  const lines = await readFile('/etc/passwd', 'utf8').then(
    (text) => text.split('\n'),
    () => [],
  )
  const fields = lines.map((line) => line.split(':')).find(([first]) => first === name)
  const [uid, gid] = [Number(fields?.[2]), Number(fields?.[3])]
  return Number.isInteger(uid) && Number.isInteger(gid) && uid > 0 ? { kind: 'user', name, uid, gid } : null
}

function refuseRoot(): never {
  const message = 'PostgreSQL does not run as root, user namespaces are not available here, and there is no account postgres or nobody; '
  throw new ClavigerError('database_platform', `${message}start Claviger as an ordinary user or set DATABASE_URL.`)
}
