/** A server in a process of its own, to be killed. */
import type { ChildProcess } from 'node:child_process'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

const RUNNER = fileURLToPath(new URL('run-typescript.mjs', import.meta.url))
const MAIN = fileURLToPath(new URL('claviger-process.ts', import.meta.url))

export class ServerProcess {
  readonly url: string
  readonly #child: ChildProcess

  private constructor(url: string, child: ChildProcess) {
    this.url = url
    this.#child = child
  }

  /** `claviger serve` on a database; resolves when it listens. */
  static async start(databaseUrl: string): Promise<ServerProcess> {
    const child = spawn(process.execPath, [RUNNER, MAIN, 'serve', '--port', '0'], {
      env: { PATH: process.env['PATH'] ?? '', DATABASE_URL: databaseUrl },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let output = ''
    for await (const data of child.stdout) {
      output += String(data)
      const url = /"url":"(ws:[^"]+)"/.exec(output)?.[1]
      if (url !== undefined) return new ServerProcess(url, drained(child))
    }
    throw new Error(`the server did not start: ${output}`)
  }

  /** Ends it without a chance to say anything. */
  async kill(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const exit = once(this.#child, 'exit')
    this.#child.kill('SIGKILL')
    await exit
  }
}

/** What it goes on printing is read and dropped: a full pipe would stop it. */
function drained(child: ChildProcess): ChildProcess {
  child.stdout?.resume()
  return child
}
