/**
 * What can be known of a process by its id.
 *
 * An id alone proves little: after a crash the same number may belong to another program, to a thread of this very
 * process (Linux answers signals to thread ids), or to a zombie nobody has reaped. All three were seen in containers,
 * where ids start from 1 each time.
 */
import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** A live process. `commandLine` and `startedAt` are empty where the platform does not tell. */
export interface ProcessStatus {
  /** Name of the program, `postgres`. */
  readonly name: string
  readonly commandLine: string
  /** Opaque; equal only for the same process. */
  readonly startedAt: string
}

/** @returns null if there is no such process, or only a zombie of it. */
export async function processStatus(pid: number): Promise<ProcessStatus | null> {
  if (!isAlive(pid)) return null
  switch (process.platform) {
    case 'linux':
      return linuxStatus(pid)
    case 'win32':
      return { name: '', commandLine: '', startedAt: '' }
    default:
      return unixStatus(pid)
  }
}

/** Whether a process with this id exists; a zombie or one of another user counts. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}

/** proc(5): `pid (name) state …`, start in clock ticks is field 22; the name may hold spaces and parentheses. */
async function linuxStatus(pid: number): Promise<ProcessStatus | null> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
  const [open, close] = [stat.indexOf('('), stat.lastIndexOf(')')]
  const fields = stat.slice(close + 2).split(' ')
  const [state] = fields
  if (open < 0 || state === 'Z' || state === 'X' || (await isThread(pid))) return null
  const commandLine = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
  return { name: stat.slice(open + 1, close), commandLine: commandLine.replaceAll('\0', ' '), startedAt: `${await bootId()}:${fields[19]}` }
}

/** The id of a thread that is not the first of its process names no process. */
async function isThread(pid: number): Promise<boolean> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '')
  const group = /^Tgid:\s*(\d+)$/m.exec(status)?.[1]
  return group !== undefined && Number(group) !== pid
}

function bootId(): Promise<string> {
  return readFile('/proc/sys/kernel/random/boot_id', 'utf8').then(
    (text) => text.trim(),
    () => '',
  )
}

async function unixStatus(pid: number): Promise<ProcessStatus | null> {
  const column = async (name: string): Promise<string> => (await run('ps', ['-ww', '-p', String(pid), '-o', `${name}=`])).stdout.trim()
  try {
    if ((await column('state')).startsWith('Z')) return null
    return { name: basename(await column('comm')), commandLine: await column('command'), startedAt: await column('lstart') }
  } catch {
    return null // ps knows no such process: it ended meanwhile.
  }
}
