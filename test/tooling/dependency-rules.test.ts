/** The rules that hold the design together bite: each is broken on purpose once. */
import { beforeAll, describe, expect, test } from 'vitest'
import type { ImportGraph } from './import-graph.ts'
import { importsOf, modulesReaching, readImportGraph } from './import-graph.ts'
import type { Finding } from './lint.ts'
import { lint } from './lint.ts'

const importing = (name: string): string => `import { value } from '${name}'\nexport const used = value\n`
const importingType = (name: string): string => `import type { Value } from '${name}'\nexport type Used = Value\n`

/** Path and text of a module that breaks the rule of dependencies, by what is wrong with it. */
const FORBIDDEN_IMPORTS: Record<string, readonly [path: string, text: string]> = {
  'shared importing Node': ['shared/a1.ts', importing('node:fs')],
  'shared importing a type of Node': ['shared/a2.ts', importingType('node:fs')],
  'shared importing the client': ['shared/group/a3.ts', importing('../../client/a.ts')],
  'shared importing the server': ['shared/a4.ts', importing('../server/a.ts')],
  'shared importing the platform': ['shared/a5.ts', importing('../platform/node/a.ts')],
  'shared importing a package of its own choice': ['shared/a6.ts', importing('lodash')],
  'shared importing the large zod': ['shared/a7.ts', importing('zod')],
  'the platform importing the server': ['platform/node/b1.ts', importing('../../server/a.ts')],
  'the client importing Node': ['client/c1.ts', importing('node:fs')],
  'the client importing the server': ['client/c2.ts', importing('../server/a.ts')],
  'the client importing a type of the server': ['client/c3.ts', importingType('../server/a.ts')],
  'the client importing its part for Node': ['client/c4.ts', importing('./node/a.ts')],
  'the client importing the platform': ['client/c5.ts', importing('../platform/node/a.ts')],
  'the client importing ws': ['client/c6.ts', importing('ws')],
  'the client for Node importing the server': ['client/node/d1.ts', importing('../../server/a.ts')],
  'the client for Node importing a database': ['client/node/d2.ts', importing('pg')],
  'the server importing the client': ['server/e1.ts', importing('../client/a.ts')],
  'the server importing a type of the client': ['server/e2.ts', importingType('../client/a.ts')],
  'the server importing the client from deeper': ['server/handlers/e3.ts', importing('../../client/a.ts')],
  'the server importing an AEAD': ['server/e4.ts', importing('../shared/crypto/aead.ts')],
  'the server importing HPKE': ['server/storage/e5.ts', importing('../../shared/crypto/hpke.ts')],
  'the server importing epoch secrets': ['server/e6.ts', importing('../shared/group/epoch.ts')],
  'the server importing DEKs': ['server/e7.ts', importing('../shared/objects/dek.ts')],
  'the server importing the secret half of the platform': ['server/e8.ts', importing('../platform/node/secret.ts')],
  'the server importing a package of ciphers': ['server/e9.ts', importing('@noble/ciphers/chacha.js')],
}

const ALLOWED_IMPORTS: Record<string, string> = {
  'shared/f1.ts':
    importing('./group/a.ts') +
    importing('@noble/hashes/sha2.js').replaceAll(/value|used/g, '$&2') +
    importing('zod/mini').replaceAll(/value|used/g, '$&3'),
  'shared/crypto/f2.ts': importing('../a.ts'),
  'platform/node/f3.ts': importing('node:crypto'),
  'client/f4.ts': importing('../shared/a.ts'),
  'client/node/f5.ts': importing('../../platform/node/a.ts') + importing('ws').replaceAll(/value|used/g, '$&2'),
  'server/f6.ts': importingType('../shared/crypto/aead.ts') + importing('../shared/group/roster.ts'),
  'server/storage/f7.ts': importing('kysely') + importing('node:fs/promises').replaceAll(/value|used/g, '$&2'),
}

/** Text that breaks a rule of the linter, by the rule. */
const BROKEN_RULES: Record<string, string> = {
  'no-floating-promises': 'async function work(): Promise<void> {}\nexport function start(): void {\n  work()\n}\n',
  'no-misused-promises': 'export const odd = [1, 2].filter(async (value) => value > 1)\n',
  'no-explicit-any': 'export const anything = (value: any): boolean => value === 1\n',
  'no-unsafe-member-access': 'export const read = (text: string): unknown => JSON.parse(text).key\n',
  'no-non-null-assertion': 'export const first = (list: readonly number[]): number => list[0]!\n',
  'switch-exhaustiveness-check': "export function act(kind: 'a' | 'b'): void {\n  switch (kind) {\n    case 'a':\n      return\n  }\n}\n",
  'consistent-type-imports': "import { Value } from './values.ts'\nexport const keep = (value: Value): Value => value\n",
  'no-import-type-side-effects': "import { type Value } from './values.ts'\nexport const keep = (value: Value): Value => value\n",
  'no-default-export': 'export default 1\n',
  'ban-ts-comment': '// @ts-ignore\nexport const wrong: number = 1\n',
  'parameter-properties': 'export class Box {\n  constructor(readonly size: number) {}\n}\n',
  'only-throw-error': "export function fail(): never {\n  throw 'text'\n}\n",
  'no-console': "console.log('secret')\n",
  'no-restricted-properties': 'export const dice = Math.random()\n',
  eqeqeq: 'export const same = (left: unknown, right: unknown): boolean => left == right\n',
}

describe('the linter', () => {
  let findings: readonly Finding[]
  const brokenPath = (rule: string): string => `client/broken-${rule}.ts`

  beforeAll(async () => {
    const files: Record<string, string> = {
      ...ALLOWED_IMPORTS,
      'client/values.ts': 'export interface Value {\n  readonly key: string\n}\n',
    }
    for (const [path, text] of Object.values(FORBIDDEN_IMPORTS)) files[path] = text
    for (const [rule, text] of Object.entries(BROKEN_RULES)) files[brokenPath(rule)] = text
    files['client/ring-one.ts'] = "import { two } from './ring-two.ts'\nexport const one = (): number => two()\n"
    files['client/ring-two.ts'] = "import { one } from './ring-one.ts'\nexport const two = (): number => one()\n"
    files['shared/clock.ts'] = 'export const now = (): number => Date.now()\n'
    findings = await lint(files)
  })

  const rulesBrokenIn = (path: string): readonly string[] => findings.filter((finding) => finding.path === path).map(({ rule }) => rule)

  test.each(Object.entries(FORBIDDEN_IMPORTS))('refuses %s', (_what, [path]) => {
    expect(rulesBrokenIn(path)).toContain('no-restricted-imports')
  })

  test.each(Object.keys(ALLOWED_IMPORTS))('allows what %s imports', (path) => {
    expect(rulesBrokenIn(path)).not.toContain('no-restricted-imports')
  })

  test.each(Object.keys(BROKEN_RULES))('enforces %s', (rule) => {
    expect(rulesBrokenIn(brokenPath(rule))).toContain(rule)
  })

  test('refuses cycles of imports', () => {
    expect(rulesBrokenIn('client/ring-one.ts')).toContain('no-cycle')
  })

  test('refuses a clock in shared', () => {
    expect(rulesBrokenIn('shared/clock.ts')).toContain('no-restricted-properties')
  })
})

describe('what the server can reach', () => {
  const SECRET_CODE = new Set(['shared/crypto/secret-crypto.ts', 'shared/crypto/noble-secret-crypto.ts', 'shared/crypto/sign.ts'])
  let graph: ImportGraph
  let secretSide: ReadonlySet<string>

  beforeAll(async () => {
    graph = await readImportGraph('shared', 'platform', 'client', 'server')
    const importsCiphers = (path: string): boolean => (graph.get(path) ?? []).some((name) => name.startsWith('@noble/ciphers'))
    secretSide = modulesReaching(graph, (path) => SECRET_CODE.has(path) || importsCiphers(path) || path.startsWith('platform/node/secret'))
  })

  test('the walk sees sealing code in the client', () => {
    for (const path of ['shared/crypto/hpke.ts', 'shared/group/epoch.ts', 'shared/objects/dek.ts', 'client/node/index.ts'])
      expect(secretSide).toContain(path)
  })

  test('holds no code that seals or opens, through any number of imports', () => {
    expect([...secretSide].filter((path) => path.startsWith('server/'))).toEqual([])
  })

  test('the linter names every module of shared that seals or opens', async () => {
    const modules = [...secretSide].filter((path) => path.startsWith('shared/'))
    const found = await lint(Object.fromEntries(modules.map((path, index) => [`server/s${index}.ts`, importing(`../${path}`)])))
    const named = modules.filter((_path, index) =>
      found.some((finding) => finding.path === `server/s${index}.ts` && finding.rule === 'no-restricted-imports'),
    )
    expect(named).toEqual(modules)
  })

  test.each([
    ["import type { A } from './a.ts'", []],
    ["export type { A } from './a.ts'", []],
    ["import { a } from './a.ts'", ['server/a.ts']],
    ["import {\n  a,\n  b,\n} from '../shared/a.ts'", ['shared/a.ts']],
    ["import * as all from './a.ts'", ['server/a.ts']],
    ["import './a.ts'", ['server/a.ts']],
    ["export { a } from './a.ts'", ['server/a.ts']],
    ["const late = await import('./a.ts')", ['server/a.ts']],
    ["import { z } from 'zod/mini'", ['zod/mini']],
  ])('%j imports %j', (text, imports) => {
    expect(importsOf('server/module.ts', text)).toEqual(imports)
  })
})
