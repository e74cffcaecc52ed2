/**
 * `npm run bench [name…]`: every benchmark, one after the other, each in a fresh process.
 *
 * A full run writes `bench/RESULTS.md`; a run of some only prints.
 */
import { fork } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { cpus, loadavg, totalmem } from 'node:os'
import { fileURLToPath } from 'node:url'
import type { Section } from './section.ts'
import { renderForMarkdown, renderForTerminal } from './section.ts'
import { databaseVersion } from './stage.ts'

const BENCHMARKS = ['removal', 'catch-up', 'rewrap', 'small-writes', 'bodies', 'fan-out', 'idle-sessions'] as const
const RESULTS = fileURLToPath(new URL('../../bench/RESULTS.md', import.meta.url))

const asked = process.argv.slice(2)
const unknown = asked.filter((name) => !BENCHMARKS.some((benchmark) => benchmark === name))
if (unknown.length > 0) throw new TypeError(`there is no benchmark ${unknown.join(', ')}; there are ${BENCHMARKS.join(', ')}`)

const conditions = await describeConditions()
console.log(`${conditions}\n`)
const loadBefore = load()
const sections: Section[] = []
for (const name of BENCHMARKS) {
  if (asked.length > 0 && !asked.includes(name)) continue
  const section = await run(name)
  console.log(renderForTerminal(section))
  sections.push(section)
}
if (asked.length === 0) {
  await writeFile(RESULTS, renderResults(sections))
  console.log(`written to ${RESULTS}`)
}

function run(name: string): Promise<Section> {
  return new Promise((resolve, reject) => {
    const child = fork(fileURLToPath(new URL(`${name}.js`, import.meta.url)), { serialization: 'advanced' })
    let section: Section | null = null
    child.on('message', (message) => {
      // Each benchmark sends one section.
      section = message as Section
    })
    child.on('error', reject)
    child.on('exit', (code) => {
      if (code === 0 && section !== null) resolve(section)
      else reject(new Error(`the benchmark ${name} ended with ${String(code)}`))
    })
  })
}

async function describeConditions(): Promise<string> {
  const [processor] = cpus()
  const machine = `${processor?.model.trim() ?? 'unknown processor'}, ${cpus().length} cores, ${Math.round(totalmem() / 1024 ** 3)} GiB, ${process.platform} ${process.arch}`
  const versions = `Node ${process.versions.node} (V8 ${process.versions.v8}, OpenSSL ${process.versions.openssl}), PostgreSQL ${await databaseVersion()}`
  return `${machine}; ${versions}; ${new Date().toISOString().slice(0, 10)}`
}

/** How many processes wanted a core in the last five minutes: above the number of cores others were at work too. */
function load(): string {
  return (loadavg()[1] ?? 0).toFixed(1)
}

function renderResults(all: readonly Section[]): string {
  const head = [
    '# Benchmark results',
    `Written by \`npm run bench\`; one run on ${conditions}; load average ${loadBefore} before and ${load()} after.`,
    'Every ratio is between numbers of this one run, and contenders take turns in it. Compare ratios, not numbers, with other machines, and treat differences below 1.5 × as ties: where a bound is missed by less, that is said.',
  ]
  return `${[...head, ...all.map(renderForMarkdown)].join('\n\n')}\n`
}
