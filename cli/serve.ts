/** `claviger serve`: runs a server until Ctrl-C, and then drains it. */
import type { Environment, Flags, Log, RunningServer, ServerConfig } from '../server/index.ts'
import { createLog, parseConfig, startServer } from '../server/index.ts'
import type { ExitCode } from './exit-codes.ts'
import { EXIT_CODES } from './exit-codes.ts'
import { readableLines } from './readable-log.ts'

/** The terminal and process that a command runs in. */
export interface Surroundings {
  readonly environment: Environment
  readonly isTerminal: boolean
  readonly version: string
  /** To standard output. */
  readonly print: (text: string) => void
  /** To standard error. */
  readonly complain: (text: string) => void
  /** Calls `action` at each Ctrl-C or request to end. @returns how to stop. */
  readonly onInterrupt: (action: () => void) => () => void
  /** Ends the process at once. */
  readonly exit: (code: ExitCode) => never
}

/** Runs until interrupted. @throws ClavigerError with one sentence if the server cannot start. */
export async function serve(flags: Flags, surroundings: Surroundings): Promise<ExitCode> {
  const config = parseConfig(surroundings.environment, flags)
  const interrupted = waitForInterrupt(surroundings)
  if (surroundings.isTerminal) surroundings.print(`Claviger ${surroundings.version}\n`)
  const server = await startServer(config, logFor(config, surroundings))
  if (surroundings.isTerminal) surroundings.print(startLines(server))
  await interrupted
  if (surroundings.isTerminal) surroundings.print('\nStopping: finishing what is under way. Ctrl-C again ends at once.\n')
  await server.close()
  if (surroundings.isTerminal) surroundings.print('Stopped.\n')
  return EXIT_CODES.ok
}

/** The first interrupt drains, the second does not wait. */
function waitForInterrupt({ onInterrupt, exit }: Surroundings): Promise<void> {
  return new Promise((resolve) => {
    let count = 0
    onInterrupt(() => {
      count += 1
      if (count > 1) exit(EXIT_CODES.interrupted)
      resolve()
    })
  })
}

function logFor({ logLevel }: ServerConfig, { isTerminal, print }: Surroundings): Log {
  if (!isTerminal) return createLog(logLevel)
  return createLog(logLevel === 'info' ? 'warn' : logLevel, readableLines(print))
}

function startLines({ url, database }: RunningServer): string {
  const http = url.replace(/^ws/, 'http')
  return [
    `  clients   ${url}`,
    `  data      ${database}`,
    `  health    ${http}/healthz, ${http}/readyz`,
    `  metrics   ${http}/metrics`,
    '',
    '  Ctrl-C stops it.',
    '',
  ].join('\n')
}
