/**
 * A directory for one process at a time. A lock outlives a process that was killed; the next one takes it over.
 *
 * Each owner makes `lock.<n>` with n one above the greatest there is, by a link, which fails if the name exists. The
 * greatest file is never removed, only marked as released, so numbers never go back: whoever judged an old file
 * finds a greater one after making its own, and withdraws. (Removing or replacing a stale file in place lets two
 * processes that both saw it stale end up as owners.)
 *
 * It guards against processes that see one another: not against containers that share a volume, or network drives.
 */
import { randomBytes } from 'node:crypto'
import { link, readFile, readdir, rename, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod/mini'
import { identifyProcess, isRunning } from './process-identity.ts'

/** What a try to lock gave. */
export type ProcessLock =
  | { readonly state: 'acquired'; readonly release: () => Promise<void> }
  /** `pid` is the owner’s. */
  | { readonly state: 'held'; readonly pid: number }

const LockFile = z.strictObject({
  released: z.boolean(),
  owner: z.strictObject({ pid: z.int(), started: z.nullable(z.string()), boot: z.nullable(z.string()) }),
})
type LockFile = z.infer<typeof LockFile>

/** Each try fails only because another process moved on; so many at once are no coincidence. */
const TRIES_MAX = 20

/** Locks `directory`, which must exist. */
export async function lockDirectory(directory: string): Promise<ProcessLock> {
  const owner = await identifyProcess(process.pid)
  for (let tries = 0; tries < TRIES_MAX; tries += 1) {
    const current = Math.max(0, ...(await lockNumbers(directory)))
    const holder = await readLock(lockPath(directory, current))
    if (holder !== null && !holder.released && (await isRunning(holder.owner))) return { state: 'held', pid: holder.owner.pid }
    const acquired = await acquire(directory, current + 1, { released: false, owner })
    if (acquired)
      return { state: 'acquired', release: () => putFile(directory, lockPath(directory, current + 1), { released: true, owner }, rename) }
  }
  throw new Error(`could not lock ${directory}: other processes keep locking and releasing it`)
}

async function acquire(directory: string, number: number, content: LockFile): Promise<boolean> {
  if (!(await putFile(directory, lockPath(directory, number), content, linkOnce))) return false
  const numbers = await lockNumbers(directory)
  if (Math.max(...numbers) > number) {
    await removeIfThere(lockPath(directory, number))
    return false
  }
  for (const older of numbers) if (older < number) await removeIfThere(lockPath(directory, older))
  return true
}

/** Writes a file whole and then gives it its name. */
async function putFile<T>(
  directory: string,
  path: string,
  content: LockFile,
  publish: (from: string, to: string) => Promise<T>,
): Promise<T> {
  const draft = join(directory, `draft.${process.pid}.${randomBytes(8).toString('hex')}`)
  await writeFile(draft, JSON.stringify(content), { mode: 0o600, flag: 'wx' })
  try {
    return await publish(draft, path)
  } finally {
    await removeIfThere(draft)
  }
}

async function linkOnce(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to)
    return true
  } catch (error) {
    if (hasErrno(error, 'EEXIST')) return false
    throw error
  }
}

async function lockNumbers(directory: string): Promise<number[]> {
  const names = await readdir(directory)
  return names.filter((name) => /^lock\.\d{1,15}$/.test(name)).map((name) => Number(name.slice('lock.'.length)))
}

function lockPath(directory: string, number: number): string {
  return join(directory, `lock.${number}`)
}

/** Null if it is gone or says nothing: links appear with their content, so nobody holds such a file. */
async function readLock(path: string): Promise<LockFile | null> {
  try {
    const parsed = LockFile.safeParse(JSON.parse(await readFile(path, 'utf8')))
    return parsed.success ? parsed.data : null
  } catch (error) {
    if (hasErrno(error, 'ENOENT') || error instanceof SyntaxError) return null
    throw error
  }
}

async function removeIfThere(path: string): Promise<void> {
  try {
    await unlink(path)
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) throw error
  }
}

function hasErrno(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code
}
