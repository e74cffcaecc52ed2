/**
 * `start.lock`: only one process at a time starts PostgreSQL in a directory; the others wait and then adopt it.
 *
 * It saves double work and clear error messages depend on it, but correctness does not: PostgreSQL’s own
 * `postmaster.pid` and shared memory keep a second server out.
 */
import { randomBytes } from 'node:crypto'
import { open, readFile, rename, rm, stat } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import { ClavigerError } from '../../../shared/errors.ts'
import { processStatus } from './process-status.ts'

const POLL_MS = 50
/** Recovery after a crash on a slow disk takes minutes; the holder ends or dies. */
const WAIT_MS_MAX = 15 * 60_000
/** The file is written right after it is created: one still empty after this was left by a crash. */
const WRITE_MS_MAX = 5000

/** Runs `work` while holding the lock; a lock whose holder is dead is taken over. */
export async function withStartLock<Result>(path: string, work: () => Promise<Result>): Promise<Result> {
  const content = await describeSelf()
  const deadline = Date.now() + WAIT_MS_MAX
  while (!(await tryCreate(path, content))) {
    if (Date.now() > deadline) throw new ClavigerError('database_start_failed', `${path} is held by another process that does not finish.`)
    if (!(await removeStale(path))) await delay(POLL_MS)
  }
  try {
    return await work()
  } finally {
    if ((await readLock(path)) === content) await rm(path, { force: true })
  }
}

async function describeSelf(): Promise<string> {
  const status = await processStatus(process.pid)
  return `${process.pid} ${status?.startedAt ?? ''} ${randomBytes(8).toString('hex')}\n`
}

async function tryCreate(path: string, content: string): Promise<boolean> {
  const file = await open(path, 'wx', 0o600).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'EEXIST') return null
    throw error
  })
  if (file === null) return false
  try {
    await file.writeFile(content)
  } catch (error) {
    await rm(path, { force: true }) // The disk is full: an empty lock would make the next start wait.
    throw error
  } finally {
    await file.close()
  }
  return true
}

/**
 * Moves a dead holder’s lock aside. Between the judgement and the move somebody may have put a fresh one there;
 * then it is put back.
 */
async function removeStale(path: string): Promise<boolean> {
  const judged = await readLock(path)
  if (judged === null || !(await isStale(path, judged))) return false
  const aside = `${path}.${randomBytes(8).toString('hex')}`
  if (
    !(await rename(path, aside).then(
      () => true,
      () => false,
    ))
  )
    return false
  const moved = await readLock(aside)
  if (moved !== null && moved !== judged) await tryCreate(path, moved)
  await rm(aside, { force: true })
  return moved === judged
}

async function isStale(path: string, content: string): Promise<boolean> {
  const [pid, startedAt] = content.split(' ')
  if (pid === undefined || startedAt === undefined) {
    const entry = await stat(path).catch(() => null)
    return entry !== null && Date.now() - entry.mtimeMs > WRITE_MS_MAX
  }
  const holder = await processStatus(Number(pid))
  return holder === null || (startedAt !== '' && holder.startedAt !== startedAt)
}

function readLock(path: string): Promise<string | null> {
  return readFile(path, 'utf8').then(
    (text) => text,
    () => null,
  )
}
