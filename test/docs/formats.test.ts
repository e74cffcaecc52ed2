/** docs/FORMATS.md and the code say the same about sizes, tables, keys and vectors. */
import { access, readFile } from 'node:fs/promises'
import { describe, expect, test } from 'vitest'
import { METADATA_BYTES_MAX, PAGE_DEKS_MAX, SNAPSHOT_COMMITS } from '../../shared/limits.ts'
import { LINK_BYTES } from '../../shared/group/epoch.ts'
import { SUITES } from '../../shared/crypto/suites.ts'
import { asDek } from '../../shared/crypto/keys.ts'
import { asGroupId, asObjectId } from '../../shared/ids.ts'
import { SEALED_CHUNK_BYTES } from '../../shared/objects/body-layout.ts'
import { LOOSE_SEAL_BYTES } from '../../shared/objects/dek.ts'
import { sealMetadata } from '../../shared/objects/metadata.ts'
import { ENTRY_BYTES, PAIR_BYTES } from '../../shared/objects/page.ts'
import { sealedPageBytes } from '../../shared/objects/page-seal.ts'

const text = await read('docs/FORMATS.md')

describe('docs/FORMATS.md', () => {
  test.each([
    ['wrap with a shared encapsulation', `${SUITES[1].wrapBytes}`],
    ['wrap alone', `${SUITES[1].nEnc + SUITES[1].wrapBytes}`],
    ['link', `${LINK_BYTES}`],
    ['loose seal', `${LOOSE_SEAL_BYTES}`],
    ['page entry', `${ENTRY_BYTES}`],
    ['packed pair', `${PAIR_BYTES}`],
    ['page seal of k DEKs', `${sealedPageBytes(1) - 32} + 32 k; ${sealedPageBytes(0)} for k = 0`],
    ['full page, entries and seal', `${PAGE_DEKS_MAX * ENTRY_BYTES + sealedPageBytes(PAGE_DEKS_MAX)}`],
    ['chunk of ciphertext', `${SEALED_CHUNK_BYTES}`],
  ])('gives the size of a %s', (what, bytes) => {
    expect(text).toContain(`| ${what} | ${bytes} |`)
  })

  test('gives every length that sealed metadata can have', () => {
    const dek = asDek(new Uint8Array(32))
    const of = { group: asGroupId(new Uint8Array(32)), object: asObjectId(new Uint8Array(16)), generation: 1 }
    const lengths = new Set<number>()
    for (let bytes = 0; ; bytes += 16) {
      try {
        lengths.add(sealMetadata(dek, of, { custom: new Uint8Array(bytes) }).length)
      } catch {
        break
      }
    }
    const [last, ...others] = [...lengths].toReversed()
    expect(last).toBe(METADATA_BYTES_MAX)
    expect(text).toContain(`| sealed metadata | ${others.toReversed().join(', ')} or ${last} |`)
  })

  test('has every table of the database, and no other', async () => {
    const source = await read('server/storage/schema.ts')
    const schema = /export interface Schema \{([^}]*)\}/u.exec(source)?.[1] ?? ''
    const tables = [...schema.matchAll(/^  (\w+):/gmu)].map(([, name = '']) => name)
    const database = text.slice(text.indexOf('\n## Database'), text.indexOf('\n## Embedded'))
    const told = [...database.matchAll(/^\| (`[^|]+) \|/gmu)].flatMap(([, names = '']) =>
      names.split(', ').map((name) => name.replaceAll('`', '')),
    )
    expect(told.toSorted()).toEqual(tables.toSorted())
  })

  test('has every key of a client store', async () => {
    const source = await read('client/group-store.ts')
    const keys = [...source.matchAll(/#key\([`'](\w+)/gu), ...source.matchAll(/#load(?:State)?\('(\w+)'/gu)].map(([, key = '']) => key)
    expect(new Set(keys).size).toBeGreaterThan(5)
    for (const key of keys) expect(text).toMatch(new RegExp(`[\`]g/<group>/${key}\\b`, 'u'))
    expect(source).toContain("'groups/'")
    expect(text).toContain('| `groups/<group>` |')
    expect(text).toContain(`at most ${SNAPSHOT_COMMITS} commits before it`)
  })

  test('names vectors that are there', async () => {
    const files = [...text.matchAll(/`(test\/[^`]+)`/gu)].map(([, path = '']) => path)
    for (const file of files) await expect(access(new URL(`../../${file}`, import.meta.url)), file).resolves.toBeUndefined()
  })
})

function read(path: string): Promise<string> {
  return readFile(new URL(`../../${path}`, import.meta.url), 'utf8')
}
