/** The command line: its commands and flags. Errors are one sentence on standard error and an exit code of `exit-codes.ts`. */
import { createRequire } from 'node:module'
import { cac } from 'cac'
import type { CAC } from 'cac'
import { ClavigerError } from '../shared/errors.ts'
import type { ExitCode } from './exit-codes.ts'
import { EXIT_CODES, exitCodeOf } from './exit-codes.ts'
import type { Surroundings } from './serve.ts'
import { serve } from './serve.ts'

/** Runs one command. @param argv - as in `process.argv`. @returns the exit code. */
export async function runCommandLine(argv: readonly string[], surroundings: Surroundings = ofThisProcess()): Promise<ExitCode> {
  const cli = commands(surroundings)
  try {
    cli.parse([...argv], { run: false })
    if (cli.options['help'] === true || cli.options['version'] === true) return EXIT_CODES.ok
    if (cli.matchedCommand === undefined) return withoutCommand(cli, surroundings)
    // The action is `serve` and its like: each gives its exit code.
    return (await cli.runMatchedCommand()) as ExitCode
  } catch (error) {
    surroundings.complain(`${sentenceOf(error)}\n`)
    return isUsageError(error) ? EXIT_CODES.usage : exitCodeOf(error)
  }
}

function commands(surroundings: Surroundings): CAC {
  const cli = cac('claviger')
  cli
    .command('serve', 'Run a server. Without --database-url it starts a PostgreSQL of its own.')
    .option('--port <port>', 'Port to listen on (CLAVIGER_PORT; default 8787, 0 for any free one)')
    .option('--host <address>', 'Address to listen on (CLAVIGER_HOST; default 127.0.0.1)')
    .option('--data <directory>', 'Data directory of the embedded PostgreSQL (CLAVIGER_DATA; default ./claviger-data)')
    .option('--database-url <url>', 'Your own PostgreSQL, 14 or newer (DATABASE_URL)')
    .option('--public-host <host>', 'What clients dial, e.g. example.org (CLAVIGER_PUBLIC_HOSTS; may be repeated)')
    .option('--trust-proxy', 'A reverse proxy in front says in X-Forwarded-For who connects (CLAVIGER_TRUST_PROXY)')
    .option('--log-level <level>', 'fatal, error, warn, info, debug or silent (CLAVIGER_LOG_LEVEL; default info)')
    .option('--admission <who>', 'Who may open a session (CLAVIGER_ADMISSION; default open: whoever has keys)')
    .action((flags: Readonly<Record<string, unknown>>) => serve(flags, surroundings))
  cli.help()
  cli.version(surroundings.version)
  return cli
}

function withoutCommand(cli: CAC, { complain }: Surroundings): ExitCode {
  const [unknown] = cli.args
  if (unknown === undefined) {
    cli.outputHelp()
    return EXIT_CODES.ok
  }
  complain(`There is no command “${unknown}”; claviger --help lists them.\n`)
  return EXIT_CODES.usage
}

function ofThisProcess(): Surroundings {
  return {
    environment: process.env,
    isTerminal: process.stdout.isTTY,
    version: version(),
    print: (text) => void process.stdout.write(text),
    complain: (text) => void process.stderr.write(text),
    onInterrupt: (action) => {
      const signals = ['SIGINT', 'SIGTERM'] as const
      for (const signal of signals) process.on(signal, action)
      return () => signals.forEach((signal) => process.off(signal, action))
    },
    exit: (code) => process.exit(code),
  }
}

/** The package names itself: found from the sources and from dist/ alike. */
function version(): string {
  const manifest: unknown = createRequire(import.meta.url)('claviger/package.json')
  return typeof manifest === 'object' && manifest !== null && 'version' in manifest ? String(manifest.version) : 'unknown'
}

/** One sentence; the stack only for what is a fault of ours. */
function sentenceOf(error: unknown): string {
  if (error instanceof ClavigerError || isUsageError(error)) return error.message
  return error instanceof Error ? (error.stack ?? error.message) : String(error)
}

function isUsageError(error: unknown): error is Error {
  return error instanceof Error && error.name === 'CACError'
}
