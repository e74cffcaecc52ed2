/**
 * `npm run verify`: everything a commit must pass. Each check that fails counts as one failed test in the last line.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { runTests, summary } from './run-tests.js'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const PATH = [join(ROOT, 'node_modules', '.bin'), process.env.PATH].join(delimiter)

/** Name and command; the types come first because lint and packaging read what they build. */
const CHECKS = [
  ['types', 'tsc -b'],
  ['lint', 'oxlint'],
  ['format', 'oxfmt --check'],
  ['dead code', 'knip'],
  ['packaging', 'publint run --strict'],
]

const failures = []
for (const [name, command] of CHECKS) {
  const started = Date.now()
  const passed = await run(command)
  console.log(`${passed ? 'ok' : 'FAILED'}  ${name}  (${command}, ${((Date.now() - started) / 1000).toFixed(1)} s)`)
  if (!passed) failures.push(name)
}

const counts = await runTests(process.argv.slice(2))
if (failures.length > 0) console.log(`failed checks: ${failures.join(', ')}`)
const total = { ...counts, failed: counts.failed + failures.length }
console.log(summary(total))
process.exitCode = total.failed === 0 ? 0 : 1

/** Runs one of the tools this repository has installed. */
async function run(command) {
  const child = spawn(command, { cwd: ROOT, shell: true, stdio: ['ignore', 'inherit', 'inherit'], env: { ...process.env, PATH } })
  const [code] = await once(child, 'exit')
  return code === 0
}
