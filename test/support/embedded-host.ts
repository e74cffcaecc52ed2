/** Starts, kills and reads the processes of `embedded-postgres-host.ts`. */
import { spawn } from 'node:child_process'
import type { ChildProcessByStdio } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import * as z from 'zod'

const RUNNER = fileURLToPath(new URL('run-typescript.mjs', import.meta.url))
const HOST = fileURLToPath(new URL('embedded-postgres-host.ts', import.meta.url))

const Line = z.union([
  z.strictObject({ state: z.literal('up'), url: z.string(), adopted: z.boolean() }),
  z.strictObject({ state: z.literal('stopped') }),
  z.strictObject({ state: z.literal('failed'), code: z.nullable(z.string()), message: z.string() }),
])
export type HostLine = z.infer<typeof Line>

export interface Host {
  /** The next thing it says. */
  next(): Promise<HostLine>
  /** Lets it stop in its own time. */
  finish(): Promise<HostLine>
  /** `kill -9`. */
  kill(): Promise<void>
}

/** A separate Node process that starts or adopts the PostgreSQL of `directory`. */
export function startHost(directory: string): Host {
  const process = spawn('node', [RUNNER, HOST, directory], { stdio: ['pipe', 'pipe', 'inherit'] })
  const lines = createInterface({ input: process.stdout })[Symbol.asyncIterator]()
  const next = async (): Promise<HostLine> => Line.parse(JSON.parse((await lines.next()).value ?? '{}'))
  return { next, finish: () => finish(process, next), kill: () => kill(process) }
}

async function finish(process: ChildProcessByStdio<Writable, Readable, null>, next: () => Promise<HostLine>): Promise<HostLine> {
  const closed = once(process, 'close')
  process.stdin.end()
  const line = await next()
  await closed
  return line
}

async function kill(process: ChildProcessByStdio<Writable, Readable, null>): Promise<void> {
  const closed = once(process, 'close')
  process.kill('SIGKILL')
  await closed
}
