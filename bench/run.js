/**
 * `npm run bench [name…]`: installs what only the benchmarks need if it is missing, builds, and runs them.
 */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const ROOT = fileURLToPath(new URL('..', import.meta.url))

if (!existsSync(join(ROOT, 'bench', 'node_modules'))) run('npm', ['ci', '--prefix', 'bench'])
run(process.execPath, [join(ROOT, 'node_modules/typescript/bin/tsc'), '-b', 'bench'])
run(process.execPath, [join(ROOT, 'dist/bench/main.js'), ...process.argv.slice(2)])

function run(command, args) {
  const { status } = spawnSync(command, args, { cwd: ROOT, stdio: 'inherit', shell: process.platform === 'win32' && command === 'npm' })
  if (status !== 0) process.exit(status ?? 1)
}
