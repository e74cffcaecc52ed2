/**
 * The main job on real input, told as a story: real server, real PostgreSQL, real sockets, real clients, real crypto.
 *
 * `npm run demo [-- <folder>] [--json] [--keep]`. Every figure is counted from what happened; the exit code is 1 if anything
 * is not as told.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { runDemo } from './run.ts'
import { Story } from './story.ts'

const flags = process.argv.slice(2).filter((argument) => argument.startsWith('--'))
const [folder = '.'] = process.argv.slice(2).filter((argument) => !argument.startsWith('--'))
const isJson = flags.includes('--json')

const directory = await mkdtemp(join(tmpdir(), 'claviger-demo-'))
const story = new Story(isJson ? process.stderr : process.stdout)
try {
  const { report, failures } = await runDemo({ story, folder: resolve(folder), directory })
  if (isJson) process.stdout.write(`${JSON.stringify(report)}\n`)
  process.exitCode = failures === 0 ? 0 : 1
} finally {
  if (flags.includes('--keep')) story.note(`kept: ${directory}`)
  else await rm(directory, { recursive: true, force: true })
}
