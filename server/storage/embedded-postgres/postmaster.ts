/** The running server process: starting it, reading `postmaster.pid`, telling whether it lives, stopping it. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'

/** What a running PostgreSQL says of itself in the first eight lines of `postmaster.pid`. */
export interface Postmaster {
  readonly pid: number
  readonly port: number
  /** Directory of the Unix socket, empty if there is none. */
  readonly socketDirectory: string
  /** First TCP address, empty if there is none. */
  readonly address: string
  /** `ready`, `starting`, `stopping` or `standby`. */
  readonly status: string
}

/** @returns null if there is no complete file. */
export async function readPostmaster(dataDirectory: string): Promise<Postmaster | null> {
  const text = await readFile(join(dataDirectory, 'postmaster.pid'), 'utf8').catch(() => '')
  const lines = text.split('\n').map((line) => line.trim())
  const pid = Number(lines[0])
  if (!Number.isInteger(pid) || pid === 0) return null
  const [port, socketDirectory = '', address = ''] = lines.slice(3, 6)
  return { pid: Math.abs(pid), port: Number(port ?? 0), socketDirectory, address, status: lines[7] ?? '' }
}

/** Whether a process with this id exists; one of another user counts. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM'
  }
}
