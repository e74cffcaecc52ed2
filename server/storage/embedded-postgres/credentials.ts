/** `pg.json`: what tells our cluster from any other. Written once, before the cluster, and never changed. */
import { randomBytes } from 'node:crypto'
import { open, readFile, rename, rm } from 'node:fs/promises'
import * as z from 'zod/mini'
import { ClavigerError } from '../../../shared/errors.ts'

const Credentials = z.strictObject({
  version: z.literal(1),
  /** Stands in a row of the cluster too. */
  id: z.string().check(z.regex(/^[0-9a-f]{32}$/)),
  password: z.string().check(z.regex(/^[0-9a-f]{64}$/)),
})

/** The cluster’s id and the password of its one role. Ports and sockets are not here: `postmaster.pid` knows them. */
export type Credentials = z.infer<typeof Credentials>

/** @returns null if there is no file. */
export async function readCredentials(path: string): Promise<Credentials | null> {
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null
    throw error
  })
  return text === null ? null : parseCredentials(text, path)
}

/** Makes new ones and has them on the disk before it returns. */
export async function createCredentials(path: string): Promise<Credentials> {
  const credentials: Credentials = { version: 1, id: randomBytes(16).toString('hex'), password: randomBytes(32).toString('hex') }
  const half = `${path}.${credentials.id}`
  try {
    await writeSynced(half, `${JSON.stringify(credentials)}\n`)
    await rename(half, path)
  } catch (error) {
    await rm(half, { force: true })
    throw error
  }
  return credentials
}

async function writeSynced(path: string, text: string): Promise<void> {
  const file = await open(path, 'wx', 0o600)
  try {
    await file.writeFile(text)
    await file.sync()
  } finally {
    await file.close()
  }
}

/** The parser’s own message would quote the text, and with it the password. */
function parseCredentials(text: string, path: string): Credentials {
  const damaged = new ClavigerError('database_start_failed', `${path} is damaged; restore it from a backup.`)
  try {
    const parsed = Credentials.safeParse(JSON.parse(text))
    if (parsed.success) return parsed.data
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
  }
  throw damaged
}
