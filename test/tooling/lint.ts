/** Runs the repository’s linter over files that exist for the length of a test only. */
import { execFile } from 'node:child_process'
import { copyFile, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { z } from 'zod/mini'
import { ROOT } from './import-graph.ts'

const Report = z.object({ diagnostics: z.array(z.object({ code: z.string(), message: z.string(), filename: z.string() })) })

/** One finding: `rule` as in the configuration. */
export interface Finding {
  readonly path: string
  readonly rule: string
  readonly message: string
}

/** Findings in `files` (text by path) as if they were the whole repository. */
export async function lint(files: Readonly<Record<string, string>>): Promise<readonly Finding[]> {
  const directory = await mkdtemp(join(tmpdir(), 'claviger-lint-'))
  try {
    await symlink(join(ROOT, 'node_modules'), join(directory, 'node_modules'))
    for (const name of ['.oxlintrc.json', 'tsconfig.base.json']) await copyFile(join(ROOT, name), join(directory, name))
    await writeFile(join(directory, 'tsconfig.json'), '{ "extends": "./tsconfig.base.json", "include": ["**/*.ts"] }')
    for (const [path, text] of Object.entries(files)) {
      await mkdir(dirname(join(directory, path)), { recursive: true })
      await writeFile(join(directory, path), text)
    }
    const { diagnostics } = Report.parse(JSON.parse(await outputOfLinter(directory)))
    return diagnostics.map(({ filename, code, message }) => ({ path: filename, rule: ruleOf(code), message }))
  } finally {
    await rm(directory, { recursive: true })
  }
}

/** The linter exits with 1 when it finds something. */
async function outputOfLinter(directory: string): Promise<string> {
  const program = join(ROOT, 'node_modules', 'oxlint', 'bin', 'oxlint')
  const run = promisify(execFile)(process.execPath, [program, '--format=json', '--no-ignore'], { cwd: directory })
  return run.then(
    ({ stdout }) => stdout,
    (error: { readonly stdout: string }) => error.stdout,
  )
}

/** `typescript-eslint(no-explicit-any)` → `no-explicit-any`. */
function ruleOf(code: string): string {
  return /\(([^)]*)\)/.exec(code)?.[1] ?? code
}
