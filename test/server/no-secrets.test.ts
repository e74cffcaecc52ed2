/** The server has no decryption code: nothing that seals or opens can be reached from its entry by a value import. */
import { readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))

/** Modules that seal, open, wrap, derive keys or hold tokens. */
const SECRET_SIDE = [
  'platform/node/secret-crypto.ts',
  'platform/node/secret.ts',
  'platform/node/xchacha.ts',
  'shared/crypto/aead.ts',
  'shared/crypto/dhkem-x25519.ts',
  'shared/crypto/hpke.ts',
  'shared/crypto/hpke-labels.ts',
  'shared/crypto/kdf.ts',
  'shared/crypto/kem.ts',
  'shared/crypto/noble-secret-crypto.ts',
  'shared/crypto/secret-crypto.ts',
  'shared/crypto/sign.ts',
  'shared/group/epoch.ts',
  'shared/group/invite.ts',
  'shared/group/plan-commit.ts',
  'shared/objects/body.ts',
  'shared/objects/dek.ts',
  'shared/objects/header-signing.ts',
  'shared/objects/metadata.ts',
  'shared/objects/page-seal.ts',
  'shared/objects/rewrap.ts',
]

/** Packages and names with which something could be opened. */
const OPENING = [/^@noble\/ciphers/, /^hpke$/, /^@noble\/post-quantum/]
const OPENING_CALLS = /\b(createDecipheriv|createCipheriv|privateDecrypt|decapsulate)\b/

interface Graph {
  /** Files relative to the repository, with what they import as values. */
  readonly importsByFile: ReadonlyMap<string, readonly string[]>
}

/** Everything that is loaded when `entry` is. */
function walk(entry: string): Graph {
  const importsByFile = new Map<string, string[]>()
  const open = [resolve(ROOT, entry)]
  for (let file = open.pop(); file !== undefined; file = open.pop()) {
    const name = relative(ROOT, file)
    if (importsByFile.has(name)) continue
    const imports = valueImports(readFileSync(file, 'utf8'))
    importsByFile.set(name, imports)
    for (const specifier of imports) if (specifier.startsWith('.')) open.push(join(dirname(file), specifier))
  }
  return { importsByFile }
}

/** Specifiers of imports and re-exports that are left after types are erased, and of dynamic imports. */
function valueImports(source: string): string[] {
  const statements = source.matchAll(/^(?:import|export)\s+(?!type\b)(?:[^'";]*?\sfrom\s+)?'([^']+)'/gms)
  const dynamic = source.matchAll(/\bimport\(\s*'([^']+)'\s*\)/g)
  return [...statements, ...dynamic].flatMap(([, specifier]) => (specifier === undefined ? [] : [specifier]))
}

describe('the server’s import graph', () => {
  const { importsByFile } = walk('server/index.ts')
  const files = [...importsByFile.keys()]

  it('is the whole server', () => {
    expect(files).toContain('server/handlers/objects.ts')
    expect(files).toContain('shared/group/fold.ts')
    expect(files).toContain('platform/node/public-crypto.ts')
    expect(files.length).toBeGreaterThan(80)
  })

  it('has no module that seals or opens', () => {
    expect(files.filter((file) => SECRET_SIDE.includes(file))).toEqual([])
  })

  it('has no package and no call that could open anything', () => {
    const packages = [...importsByFile].flatMap(([file, imports]) =>
      imports.filter((name) => OPENING.some((pattern) => pattern.test(name))).map((name) => `${file}: ${name}`),
    )
    expect(packages).toEqual([])
    expect(files.filter((file) => OPENING_CALLS.test(withoutComments(file)))).toEqual([])
  })

  it('would show a secret module if there were one', () => {
    const client = [...walk('client/node/index.ts').importsByFile.keys()]
    expect(client).toContain('shared/crypto/aead.ts')
    expect(client).toContain('shared/group/epoch.ts')
    expect(SECRET_SIDE.filter((file) => !client.includes(file))).toEqual([])
  })
})

function withoutComments(file: string): string {
  return readFileSync(join(ROOT, file), 'utf8').replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '')
}
