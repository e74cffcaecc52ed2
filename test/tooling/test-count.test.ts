import { describe, expect, test } from 'vitest'
import { pathToFileURL } from 'node:url'
import { join } from 'node:path'
import { ROOT } from './import-graph.ts'

interface Counts {
  readonly passed: number
  readonly failed: number
  readonly skipped: number
}
interface Script {
  readonly countTests: (report: unknown, exitCode: number | null) => Counts
  readonly summary: (counts: Counts) => string
}

const { countTests, summary } = (await import(pathToFileURL(join(ROOT, 'scripts/run-tests.js')).href)) as Script

function file(status: string, ...tests: readonly string[]): unknown {
  return { status, assertionResults: tests.map((each) => ({ status: each })) }
}

describe('the count of tests', () => {
  test('adds up files', () => {
    const report = { testResults: [file('passed', 'passed', 'passed', 'pending'), file('failed', 'failed', 'passed', 'todo')] }
    expect(countTests(report, 1)).toEqual({ passed: 3, failed: 1, skipped: 2 })
  })

  test.each([
    ['a file that does not load', { testResults: [file('passed', 'passed'), file('failed')] }, 1, 1],
    ['an error outside any test', { testResults: [file('passed', 'passed')] }, 1, 1],
    ['a run that a signal ended', { testResults: [file('passed', 'passed')] }, null, 1],
    ['a state nobody knows', { testResults: [file('passed', 'passed', 'mysterious')] }, 0, 1],
    ['a run without tests', { testResults: [] }, 0, 0],
    ['a run where all is skipped', { testResults: [file('passed', 'skipped')] }, 0, 0],
    ['a run without a report', null, 1, 0],
  ])('%s counts as a failure', (_what, report, exitCode, passed) => {
    expect(countTests(report, exitCode)).toMatchObject({ passed, failed: 1 })
  })

  test('the line names skipped tests only if there are any', () => {
    expect(summary({ passed: 3, failed: 0, skipped: 0 })).toBe('3 passed, 0 failed')
    expect(summary({ passed: 3, failed: 1, skipped: 2 })).toBe('3 passed, 1 failed, 2 skipped')
  })
})
