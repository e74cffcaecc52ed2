/** Telling whether a process named in a file still runs, though process ids are given out again. */
import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { platform } from 'node:process'
import { promisify } from 'node:util'

/** A process of this machine. */
export interface ProcessIdentity {
  readonly pid: number
  /** When it started, in a unit of the platform’s own; null where that cannot be found out. */
  readonly started: string | null
  /** Which start of the machine that was in; null where that cannot be found out. */
  readonly boot: string | null
}

/** The process `pid` as it is now. */
export async function identifyProcess(pid: number): Promise<ProcessIdentity> {
  return { pid, started: await startOf(pid), boot: await currentBoot() }
}

/** Whether the process that `identity` was taken of still runs. Where start times are unknown, its number decides. */
export async function isRunning(identity: ProcessIdentity): Promise<boolean> {
  const now = await identifyProcess(identity.pid)
  if (identity.boot !== null && now.boot !== null && identity.boot !== now.boot) return false
  if (!exists(identity.pid)) return false
  if (identity.started === null || now.started === null) return true
  return identity.started === now.started
}

/** Signal 0 only asks; EPERM means that it runs as somebody else. */
function exists(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}

async function startOf(pid: number): Promise<string | null> {
  if (platform === 'linux') return linuxStart(pid)
  if (platform === 'win32') return null
  return output('ps', ['-o', 'lstart=', '-p', `${pid}`])
}

/** Field 22 of /proc/pid/stat (proc(5)), in ticks since boot; `dead` for a zombie, which has let go of everything. */
async function linuxStart(pid: number): Promise<string | null> {
  const stat = await textOf(`/proc/${pid}/stat`)
  if (stat === null) return null
  // The name in field 2 may hold spaces and parentheses, so fields are counted from its end.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return fields[0] === 'Z' || fields[0] === 'X' ? 'dead' : (fields[19] ?? null)
}

async function currentBoot(): Promise<string | null> {
  return platform === 'linux' ? textOf('/proc/sys/kernel/random/boot_id') : null
}

async function textOf(path: string): Promise<string | null> {
  try {
    return (await readFile(path, 'utf8')).trim()
  } catch {
    // Not there, or not for us: unknown.
    return null
  }
}

async function output(command: string, args: readonly string[]): Promise<string | null> {
  try {
    const { stdout } = await promisify(execFile)(command, [...args])
    return stdout.trim() || null
  } catch {
    // The command is missing or names no such process: unknown.
    return null
  }
}
