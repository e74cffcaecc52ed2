/** How this process reaches the server: through the socket in its data directory, or a port of 127.0.0.1. */
import { mkdtemp, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { isAbsolute, join } from 'node:path'
import type { Credentials } from './credentials.ts'
import { DATABASE_USER } from './initialise.ts'
import type { Postmaster } from './postmaster.ts'
import { SOCKET_PORT } from './postmaster.ts'

/** Linux has 107 bytes for the path of a socket, macOS 103. */
const SOCKET_PATH_BYTES_MAX = 100

/** A way to the socket that is short enough, for this process alone. */
export interface SocketDirectory {
  readonly path: string
  dispose(): Promise<void>
}

/** The data directory itself, or a link to it in a private temporary directory if its path is too long. */
export async function openSocketDirectory(dataDirectory: string): Promise<SocketDirectory> {
  const bytes = Buffer.byteLength(join(dataDirectory, `.s.PGSQL.${SOCKET_PORT}`))
  if (bytes <= SOCKET_PATH_BYTES_MAX) return { path: dataDirectory, dispose: async () => undefined }
  const directory = await mkdtemp(join(tmpdir(), 'claviger-'))
  const path = join(directory, 'pg')
  await symlink(dataDirectory, path)
  return { path, dispose: () => rm(directory, { recursive: true, force: true }) }
}

/**
 * The URL for `pg`, as `postmaster.pid` has it: a server started by hand listens elsewhere.
 *
 * Port and TLS are spelt out, or `PGPORT` and `PGSSLMODE` of the environment would decide.
 *
 * @param target - `socket` is this process’s way to the data directory.
 */
export function serverUrl(postmaster: Postmaster, credentials: Credentials, target: { socket: string; database: string }): string {
  return `postgres://${DATABASE_USER}:${credentials.password}@${hostOf(postmaster, target.socket)}:${postmaster.port}/${target.database}?sslmode=disable`
}

function hostOf({ socketDirectory, address }: Postmaster, socket: string): string {
  if (socketDirectory === '') return address === '*' || address === '0.0.0.0' ? '127.0.0.1' : address
  return encodeURIComponent(isAbsolute(socketDirectory) ? socketDirectory : socket)
}
