/**
 * Runs the tests and counts them. Plain JavaScript: works before anything has been built.
 *
 * A count that cannot be trusted is a failure: a file that does not load, a crashed worker, an error outside any test,
 * or nothing run at all each show as one failed test.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const VITEST = join(ROOT, 'node_modules', 'vitest', 'vitest.mjs')

/**
 * @typedef {{ passed: number, failed: number, skipped: number }} Counts
 */

/**
 * Runs vitest with a readable report on standard output.
 *
 * @param {readonly string[]} args - of `vitest run`: files, `-t name`.
 * @returns {Promise<Counts>}
 */
export async function runTests(args) {
  const directory = await mkdtemp(join(tmpdir(), 'claviger-tests-'))
  const reportPath = join(directory, 'report.json')
  try {
    const options = ['run', '--reporter=default', '--reporter=json', `--outputFile.json=${reportPath}`, ...args]
    const child = spawn(process.execPath, [VITEST, ...options], { cwd: ROOT, stdio: ['ignore', 'inherit', 'inherit'] })
    const [code] = await once(child, 'exit')
    return countTests(await readReport(reportPath), code)
  } finally {
    await rm(directory, { recursive: true })
  }
}

/**
 * @param {unknown} report - vitest’s JSON report, or null.
 * @param {number | null} exitCode - of vitest; null if a signal ended it.
 * @returns {Counts}
 */
export function countTests(report, exitCode) {
  const counts = { passed: 0, failed: 0, skipped: 0 }
  for (const file of report?.testResults ?? []) {
    const before = counts.failed
    for (const { status } of file.assertionResults) counts[COUNTED_AS[status] ?? 'failed'] += 1
    if (file.status === 'failed' && counts.failed === before) counts.failed += 1
  }
  const blameless = counts.failed === 0
  if (blameless && (exitCode !== 0 || counts.passed === 0)) counts.failed = 1
  return counts
}

/** By vitest’s status of one test; any other is a failure. */
const COUNTED_AS = { passed: 'passed', skipped: 'skipped', pending: 'skipped', todo: 'skipped', disabled: 'skipped' }

/**
 * The line that says it all.
 *
 * @param {Counts} counts
 */
export function summary({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed${skipped === 0 ? '' : `, ${skipped} skipped`}`
}

async function readReport(path) {
  try {
    return JSON.parse(await readFile(path, 'utf8'))
  } catch {
    // Vitest did not get as far as writing one; the counts will say so.
    return null
  }
}
