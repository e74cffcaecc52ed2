import { spawn } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, it } from 'vitest'
import { EXIT_CODES } from '../../cli/exit-codes.ts'
import { runCommandLine } from '../../cli/command-line.ts'
import type { Surroundings } from '../../cli/serve.ts'
import { serve } from '../../cli/serve.ts'
import type { FreshDatabase } from '../support/postgres.ts'
import { freshDatabase } from '../support/postgres.ts'

const RUNNER = fileURLToPath(new URL('../support/run-typescript.mjs', import.meta.url))
const MAIN = fileURLToPath(new URL('../support/claviger-process.ts', import.meta.url))

const databases: FreshDatabase[] = []
afterAll(async () => {
  for (const database of databases) await database.drop()
})

async function databaseUrl(): Promise<string> {
  const database = await freshDatabase()
  databases.push(database)
  return database.url
}

interface Run {
  readonly child: ChildProcess
  readonly output: () => string
  readonly errors: () => string
  readonly ended: Promise<number | null>
}

/** Runs the command as a user would. */
function claviger(args: readonly string[], environment: Record<string, string> = {}): Run {
  const child = spawn(process.execPath, [RUNNER, MAIN, ...args], {
    env: { PATH: process.env['PATH'] ?? '', ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let [output, errors] = ['', '']
  child.stdout.on('data', (data: Buffer) => (output += data.toString()))
  child.stderr.on('data', (data: Buffer) => (errors += data.toString()))
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve))
  return { child, output: () => output, errors: () => errors, ended }
}

/** The surroundings of a terminal that a test looks at. */
function terminal(environment: Record<string, string> = {}): {
  surroundings: Surroundings
  printed: () => string
  complained: () => string
  interrupt: () => void
} {
  let [printed, complained] = ['', '']
  let action = (): void => undefined
  const surroundings: Surroundings = {
    environment,
    isTerminal: true,
    version: '1.2.3',
    print: (text) => void (printed += text),
    complain: (text) => void (complained += text),
    onInterrupt: (wanted) => {
      action = wanted
      return () => undefined
    },
    exit: (code) => {
      throw new Error(`exit ${code}`)
    },
  }
  return { surroundings, printed: () => printed, complained: () => complained, interrupt: () => action() }
}

async function until(isSo: () => boolean): Promise<void> {
  for (let count = 0; count < 600 && !isSo(); count += 1) await new Promise((resolve) => setTimeout(resolve, 50))
  if (!isSo()) throw new Error('it did not come to be in time')
}

describe('claviger serve', () => {
  it('tells a terminal where it listens and stops at the first Ctrl-C', async () => {
    const { surroundings, printed, interrupt } = terminal({ DATABASE_URL: await databaseUrl() })
    const ended = serve({ port: 0 }, surroundings)
    await until(() => printed().includes('Ctrl-C stops it'))
    expect(printed()).toMatch(/Claviger 1\.2\.3\n {2}clients {3}ws:\/\/127\.0\.0\.1:\d+\n {2}data {6}The database /)
    expect(printed()).not.toContain(':p@')
    interrupt()
    expect(await ended).toBe(EXIT_CODES.ok)
    expect(printed()).toMatch(/Stopped\.\n$/)
  })

  it('does not wait at the second', async () => {
    const { surroundings, printed, interrupt } = terminal({ DATABASE_URL: await databaseUrl() })
    const ended = serve({ port: 0 }, surroundings)
    await until(() => printed().includes('Ctrl-C stops it'))
    interrupt()
    expect(interrupt).toThrow(`exit ${EXIT_CODES.interrupted}`)
    await ended
  })

  it('logs JSON elsewhere, serves, and ends with 0 at SIGTERM', async () => {
    const run = claviger(['serve', '--port', '0'], { DATABASE_URL: await databaseUrl() })
    await until(() => run.output().includes('"listening"'))
    const [line] = run
      .output()
      .split('\n')
      .filter((text) => text.includes('listening'))
    const { url } = JSON.parse(line ?? '{}') as { url: string }
    expect(await (await fetch(url.replace('ws', 'http') + '/healthz')).text()).toBe('ok\n')
    run.child.kill('SIGTERM')
    expect(await run.ended).toBe(EXIT_CODES.ok)
    expect(run.errors()).toBe('')
  })

  it('keeps its data in a directory of its own, from one start to the next', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'claviger-serve-'))
    try {
      for (let start = 0; start < 2; start += 1) {
        const run = claviger(['serve', '--port', '0', '--data', join(directory, 'data')])
        await until(() => run.output().includes('"listening"') || run.errors() !== '')
        run.child.kill('SIGINT')
        expect([await run.ended, run.errors()]).toEqual([EXIT_CODES.ok, ''])
        expect(run.output().includes('schema migrated')).toBe(start === 0)
      }
    } finally {
      await rm(directory, { recursive: true, force: true })
    }
  }, 60_000)

  it('says in one sentence that the port is taken', async () => {
    const blocker = createServer().listen(0, '127.0.0.1')
    await new Promise((resolve) => blocker.once('listening', resolve))
    const { port } = blocker.address() as AddressInfo
    const { surroundings, complained } = terminal({ DATABASE_URL: await databaseUrl() })
    expect(await runCommandLine(['node', 'claviger', 'serve', '--port', String(port)], surroundings)).toBe(EXIT_CODES.portInUse)
    expect(complained()).toBe(`Port ${port} of 127.0.0.1 is in use; choose another with --port.\n`)
    blocker.close()
  })

  it.each([
    [['serve', '--port', 'x'], EXIT_CODES.usage, '--port must be a port from 0 to 65535, got “x”.\n'],
    [['serve', '--bogus'], EXIT_CODES.usage, 'Unknown option `--bogus`\n'],
    [['sreve'], EXIT_CODES.usage, 'There is no command “sreve”; claviger --help lists them.\n'],
    [
      ['serve', '--database-url', 'mysql://root:hunter2@h/d'],
      EXIT_CODES.usage,
      '--database-url must look like postgres://user:password@host:5432/database.\n',
    ],
    [
      ['serve', '--database-url', 'postgres://u:hunter2@127.0.0.1:1/d'],
      EXIT_CODES.database,
      'The database u@127.0.0.1:1/d cannot be used: nothing listens there.\n',
    ],
  ])('%j ends with %i and one sentence', async (args, code, sentence) => {
    const { surroundings, complained } = terminal()
    expect([await runCommandLine(['node', 'claviger', ...args], surroundings), complained()]).toEqual([code, sentence])
  })

  it('shows its help and its version', async () => {
    const run = claviger(['--version'])
    expect([await run.ended, run.output()]).toEqual([0, expect.stringMatching(/^claviger\/\d+\.\d+\.\d+/)])
  })
})
