import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { quickStart } from '../../examples/quick-start.ts'
import { World } from '../support/world.ts'

test('the example in the README is the one that is compiled and run here', async () => {
  const [readme, source] = await Promise.all([readFile('README.md', 'utf8'), readFile('examples/quick-start.ts', 'utf8')])
  const example = /<!-- examples\/quick-start\.ts -->\n```ts\n([\s\S]*?)```/.exec(readme)?.[1]
  const [, ...code] = source.replace("'../client/node/index.ts'", "'claviger'").split('\n')
  expect(example).toBe(code.join('\n'))
})

test('the example in the README does what it says', async () => {
  const world = await World.start()
  const directory = await mkdtemp(join(tmpdir(), 'claviger-readme-'))
  try {
    expect(await quickStart(world.server().url, directory)).toBe('plan.md, version 1: # The plan')
  } finally {
    await world.close()
    await rm(directory, { recursive: true, force: true })
  }
})

test('every file the README links to exists', async () => {
  const readme = await readFile('README.md', 'utf8')
  const links = [...readme.matchAll(/\]\((?!http)([^)#]+)\)/g)].map(([, link]) => link ?? '')
  const missing = links.filter((link) => !existsSync(link))
  expect(missing).toEqual([])
})
