/**
 * A process that uses an embedded PostgreSQL and says what happens, for tests that kill it.
 *
 * Prints one line of JSON when it is up, stops when its standard input ends, and then prints another.
 */
import { once } from 'node:events'
import { startEmbeddedPostgres } from '../../server/storage/embedded-postgres/index.ts'

const log = { info: () => undefined, warn: () => undefined }

export async function main([directory = '', transport = 'socket']: readonly string[]): Promise<void> {
  try {
    const postgres = await startEmbeddedPostgres({ directory, log, transport: transport === 'tcp' ? 'tcp' : 'socket' })
    print({ state: 'up', url: postgres.url, adopted: postgres.adopted })
    process.stdin.resume()
    await once(process.stdin, 'end')
    await postgres.stop()
    print({ state: 'stopped' })
  } catch (error) {
    print({ state: 'failed', code: error instanceof Error && 'code' in error ? error.code : null, message: String(error) })
  }
}

function print(line: object): void {
  process.stdout.write(`${JSON.stringify(line)}\n`)
}
