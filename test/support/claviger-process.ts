/** The `claviger` command for `run-typescript.mjs`: the sources themselves, in a process of their own. */
import { runCommandLine } from '../../cli/command-line.ts'

/** Runs one command and leaves its exit code to the process. */
export async function main(args: readonly string[]): Promise<void> {
  process.exitCode = await runCommandLine([process.execPath, 'claviger', ...args])
}
