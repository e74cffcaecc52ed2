/** Conventions that no linter knows. */
import { readFile, readdir } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { ROOT } from './import-graph.ts'

const FOLDERS = ['shared', 'platform', 'client', 'server', 'cli', 'examples']

const textByPath = new Map<string, string>()
for (const folder of FOLDERS) {
  for (const name of await readdir(join(ROOT, folder), { recursive: true })) {
    if (name.endsWith('.ts')) textByPath.set(join(folder, name), await readFile(join(ROOT, folder, name), 'utf8'))
  }
}

function pathsWhere(isBad: (text: string, path: string) => boolean): readonly string[] {
  return [...textByPath].filter(([path, text]) => isBad(text, path)).map(([path]) => path)
}

describe('a module', () => {
  test('starts with what it is for', () => {
    expect(pathsWhere((text) => !/^(#!.*\n)?\/\*\*/.test(text))).toEqual([])
  })

  test('names what it exports', () => {
    expect(pathsWhere((text) => /^export \*/m.test(text))).toEqual([])
  })

  test('is named by its idea', () => {
    expect(pathsWhere((_text, path) => /^(utils?|helpers?|common|misc|.*-?manager)\.ts$/.test(basename(path)))).toEqual([])
  })

  test('holds no enum and no note of work undone', () => {
    expect(pathsWhere((text) => /^(export )?(const )?enum /m.test(text) || /\b(TODO|FIXME|XXX)\b/.test(text))).toEqual([])
  })
})
