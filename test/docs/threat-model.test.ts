/** docs/THREAT-MODEL.md names tests: each is there under that name. */
import { readdir, readFile } from 'node:fs/promises'
import { describe, expect, test } from 'vitest'

const text = await read('docs/THREAT-MODEL.md')
/** A bullet with a file and the quoted names of its tests. */
const CLAIMS = [...text.matchAll(/^- `(test\/[^`]+)`: (.*)$/gmu)].map(([, file = '', rest = '']) => ({
  file,
  names: [...rest.matchAll(/“([^”]+)”/gu)].map(([, name = '']) => name),
}))
const PROMISES = ['C1', 'C2', 'C3', 'I1', 'I2', 'I3', 'A1']

describe('docs/THREAT-MODEL.md', () => {
  test.each(CLAIMS)('the tests it names in $file exist', async ({ file, names }) => {
    const source = await read(file)
    expect(names).not.toEqual([])
    expect(names.filter((name) => !source.includes(`'${name}'`) && !source.includes(`\`${name}\``))).toEqual([])
  })

  test('has tests for each promise', () => {
    const sections = text.split(/^### /mu).slice(1)
    expect(sections.map((section) => section.slice(0, 2))).toEqual(PROMISES)
    for (const section of sections) expect(section).toMatch(/^- `test\//mu)
  })
})

describe('the decision records', () => {
  test('are numbered without gaps, short, and say context, choice and price', async () => {
    const names = (await readdir(new URL('../../docs/adr/', import.meta.url))).toSorted()
    expect(names.map((name) => Number(name.slice(0, 4)))).toEqual(names.map((_, index) => index + 1))
    for (const name of names) {
      const record = await read(`docs/adr/${name}`)
      for (const heading of ['## Context', '## Choice', '## Price']) expect(record, name).toContain(heading)
      expect(record.split('\n').length, name).toBeLessThanOrEqual(61)
    }
  })
})

function read(path: string): Promise<string> {
  return readFile(new URL(`../../${path}`, import.meta.url), 'utf8')
}
