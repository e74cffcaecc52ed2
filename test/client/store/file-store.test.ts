import type { ChildProcess } from 'node:child_process'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { FileStore } from '../../../client/node/file-store.ts'

const RUNNER = fileURLToPath(new URL('../../support/run-typescript.mjs', import.meta.url))
const WRITER = fileURLToPath(new URL('writer.ts', import.meta.url))

let directory: string
const opened: FileStore[] = []

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'claviger-store-'))
})

afterEach(async () => {
  for (const store of opened.splice(0)) await store.close()
  await rm(directory, { recursive: true })
})

async function openStore(path: string = directory): Promise<FileStore> {
  const store = await FileStore.open(path)
  opened.push(store)
  return store
}

async function reopened(store: FileStore): Promise<FileStore> {
  await store.close()
  return openStore()
}

const logPath = (): string => join(directory, 'log')

function one(key: string, value: Uint8Array | null): Map<string, Uint8Array | null> {
  return new Map([[key, value]])
}

/** A closed store of three batches; the sizes of its log after each. */
async function threeBatches(): Promise<readonly number[]> {
  const store = await FileStore.open(directory)
  const sizes: number[] = [(await stat(logPath())).size]
  for (const [index, length] of [40, 10, 60].entries()) {
    await store.write(
      new Map([
        [`k${index}`, new Uint8Array(length).fill(index + 1)],
        ['shared', Uint8Array.of(index)],
      ]),
    )
    sizes.push((await stat(logPath())).size)
  }
  await store.close()
  return sizes
}

/** Opens a store whose log holds `bytes` and nothing else. */
async function openBytes(bytes: Uint8Array): Promise<FileStore> {
  const path = await mkdtemp(join(directory, 'copy-'))
  await writeFile(join(path, 'log'), bytes)
  return FileStore.open(path)
}

describe('what survives', () => {
  test('a store that is opened again has what was written', async () => {
    const store = await openStore()
    await store.write(
      new Map([
        ['a', Uint8Array.of(1)],
        ['b', Uint8Array.of(2)],
      ]),
    )
    await store.write(one('b', null))
    const again = await reopened(store)
    expect([...(await again.getAll(''))]).toEqual([['a', Uint8Array.of(1)]])
  })

  test('cut at every byte of its tail, the log gives the last whole batch and takes new ones', async () => {
    const sizes = await threeBatches()
    const log = await readFile(logPath())
    const [first = 0, , second = 0] = sizes
    for (let length = first; length <= log.length; length += 1) {
      const store = await openBytes(log.subarray(0, length))
      const whole = sizes.filter((size) => size <= length).length - 1
      expect((await store.getAll('k')).size).toBe(whole)
      expect(await store.get('shared')).toEqual(whole === 0 ? null : Uint8Array.of(whole - 1))
      if (length % 16 === 0 || length === second) {
        await store.write(one('after', Uint8Array.of(1)))
        await store.close()
      } else await store.close()
    }
  })

  test('what is written after a torn tail is there the next time', async () => {
    const sizes = await threeBatches()
    const log = await readFile(logPath())
    const [, , second = 0] = sizes
    await writeFile(logPath(), log.subarray(0, second + 20))
    const store = await openStore()
    await store.write(one('after', Uint8Array.of(1)))
    const again = await reopened(store)
    expect([...(await again.getAll('')).keys()]).toEqual(['after', 'k0', 'k1', 'shared'])
  })

  test('zeros in place of the last batch are a torn tail', async () => {
    const sizes = await threeBatches()
    const log = await readFile(logPath())
    log.fill(0, sizes[2])
    const store = await openBytes(log)
    expect((await store.getAll('k')).size).toBe(2)
    await store.close()
  })

  test('every single changed byte of the last batch drops that batch alone', async () => {
    const sizes = await threeBatches()
    const log = await readFile(logPath())
    for (let index = sizes[2] ?? 0; index < log.length; index += 1) {
      const changed = Uint8Array.from(log)
      changed[index] = (changed[index] ?? 0) ^ 1
      const store = await openBytes(changed)
      expect((await store.getAll('k')).size).toBe(2)
      await store.close()
    }
  })

  test('every single changed byte before it is damage, not a torn tail', async () => {
    const sizes = await threeBatches()
    const log = await readFile(logPath())
    for (let index = 0; index < (sizes[2] ?? 0); index += 1) {
      const changed = Uint8Array.from(log)
      changed[index] = (changed[index] ?? 0) ^ 1
      await expect(openBytes(changed)).rejects.toMatchObject({ code: 'store_invalid' })
    }
  })

  test.each(['a batch taken out', 'two batches exchanged', 'a batch repeated'])('%s is damage', async (change) => {
    const sizes = await threeBatches()
    const log = await readFile(logPath())
    const [start = 0, first = 0, second = 0] = sizes
    const [header, one, two, three] = [
      log.subarray(0, start),
      log.subarray(start, first),
      log.subarray(first, second),
      log.subarray(second),
    ]
    const spliced = {
      'a batch taken out': [header, one, three],
      'two batches exchanged': [header, two, one, three],
      'a batch repeated': [header, one, one, two, three],
    }[change]
    await expect(openBytes(Buffer.concat(spliced ?? []))).rejects.toMatchObject({ code: 'store_invalid' })
  })

  test('a value that is itself a log cannot pass for batches', async () => {
    await threeBatches()
    const inner = await readFile(logPath())
    await rm(logPath())
    const store = await openStore()
    await store.write(one('outer', Uint8Array.of(1)))
    await store.write(one('inner', inner))
    await store.close()
    const log = await readFile(logPath())
    const torn = await openBytes(log.subarray(0, log.length - 1))
    expect([...(await torn.getAll('')).keys()]).toEqual(['outer'])
    await torn.close()
  })

  test.each([
    ['an empty file', ''],
    ['a file of another kind', 'SQLite format 3\0'.repeat(10)],
  ])('%s is no store', async (_what, content) => {
    await expect(openBytes(Buffer.from(content))).rejects.toMatchObject({ code: 'store_invalid' })
  })

  test('a log that was being written anew when the process died is ignored', async () => {
    await threeBatches()
    await writeFile(join(directory, 'log.new'), 'half a log')
    const store = await openStore()
    expect((await store.getAll('k')).size).toBe(3)
    expect(await readdir(directory)).not.toContain('log.new')
  })
})

describe('the file', () => {
  test('only its owner can read it', async () => {
    const path = join(directory, 'new', 'deeper')
    const store = await openStore(path)
    await store.write(one('a', Uint8Array.of(1)))
    expect((await stat(path)).mode & 0o777).toBe(0o700)
    for (const name of await readdir(path)) expect((await stat(join(path, name))).mode & 0o777).toBe(0o600)
  })

  test('overwriting for ever does not let it grow for ever', async () => {
    const store = await openStore()
    const value = new Uint8Array(100_000)
    for (let count = 0; count < 100; count += 1) await store.write(one(`k${count % 3}`, value.fill(count)))
    expect((await stat(logPath())).size).toBeLessThan(2_500_000)
    const again = await reopened(store)
    expect([...(await again.getAll(''))].map(([key, content]) => [key, content.length, content[0]])).toEqual([
      ['k0', 100_000, 99],
      ['k1', 100_000, 97],
      ['k2', 100_000, 98],
    ])
    expect((await stat(logPath())).mode & 0o777).toBe(0o600)
  })

  test('a store larger than one batch of the new log is written anew whole', async () => {
    const store = await openStore()
    const keys = Array.from({ length: 30 }, (_, index) => `k${index}`)
    for (let round = 0; round < 6; round += 1) await store.write(new Map(keys.map((key) => [key, new Uint8Array(100_000).fill(round)])))
    await store.write(one('last', Uint8Array.of(1)))
    const again = await reopened(store)
    expect((await again.getAll('k')).size).toBe(30)
    expect((await again.get('k29'))?.every((byte) => byte === 5)).toBe(true)
    expect(await again.get('last')).toEqual(Uint8Array.of(1))
  })

  test('concurrent writes share frames', async () => {
    const store = await openStore()
    const start = (await stat(logPath())).size
    await store.write(one('warm', Uint8Array.of(1)))
    const single = (await stat(logPath())).size - start
    await Promise.all(Array.from({ length: 100 }, (_, index) => store.write(one(`k${index}`, Uint8Array.of(index)))))
    const grown = (await stat(logPath())).size - start - single
    expect(grown).toBeLessThan(100 * 12)
    expect((await store.getAll('k')).size).toBe(100)
  })
})

describe('the disk', () => {
  test('a full disk fails the batch that does not fit, and nothing else', async ({ skip }) => {
    const program = fileURLToPath(new URL('full-disk.ts', import.meta.url))
    const script = 'mount -t tmpfs -o size=1m tmpfs "$1" && exec "$2" "$3" "$4" "$1"'
    const child = spawn('unshare', ['--map-root-user', '--mount', 'sh', '-c', script, 'sh', directory, process.execPath, RUNNER, program], {
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    const [output, code] = await Promise.all([textOf(child.stdout), exitOf(child)])
    if (code !== 0 && output === '') skip('this machine does not let tests mount a small file system')
    expect(JSON.parse(output)).toEqual({ large: 'store_failed', stillThere: true, small: 'written', afterReopening: ['before', 'small'] })
  })
})

describe('one process at a time', () => {
  test('a store that is open cannot be opened again', async () => {
    await openStore()
    await expect(FileStore.open(directory)).rejects.toMatchObject({
      code: 'store_locked',
      message: expect.stringContaining(`${process.pid}`),
    })
  })

  test('a store that could not be opened is not left locked', async () => {
    await writeFile(logPath(), 'no store')
    await expect(FileStore.open(directory)).rejects.toMatchObject({ code: 'store_invalid' })
    await rm(logPath())
    await openStore()
  })

  test('killed at any moment, a process leaves a store that opens with every acknowledged batch', async () => {
    for (const milliseconds of [5, 120, 400]) {
      const killed = await killedWriter(milliseconds)
      const store = await FileStore.open(directory)
      await expectWhole(store, killed.acknowledged)
      expect(killed.lockedMeanwhile).toBe('store_locked')
      await store.close()
    }
  })
})

/** The last acknowledged number of each writer, after a process was killed that had written for a while. */
async function killedWriter(milliseconds: number): Promise<{ acknowledged: ReadonlyMap<string, number>; lockedMeanwhile: unknown }> {
  const child = spawn(process.execPath, [RUNNER, WRITER, directory], { stdio: ['ignore', 'pipe', 'inherit'] })
  const lines = createInterface({ input: child.stdout })
  const acknowledged = new Map<string, number>()
  lines.on('line', (line) => {
    const [writer = '', count] = line.split(' ')
    if (count !== undefined) acknowledged.set(writer, Number(count))
  })
  await once(lines, 'line')
  const lockedMeanwhile = await FileStore.open(directory).then(
    () => 'opened',
    (error: { code: unknown }) => error.code,
  )
  await delay(milliseconds)
  child.kill('SIGKILL')
  await Promise.all([once(child, 'exit'), once(lines, 'close')])
  return { acknowledged, lockedMeanwhile }
}

async function expectWhole(store: FileStore, acknowledged: ReadonlyMap<string, number>): Promise<void> {
  for (const [writer, count] of acknowledged) {
    const stored = Number(Buffer.from((await store.get(`w${writer}/count`)) ?? []).toString())
    expect(stored).toBeGreaterThanOrEqual(count)
  }
  const left = await store.getAll('w')
  for (const [key, value] of left) if (key.includes('/a/')) expect(left.get(key.replace('/a/', '/b/'))).toEqual(value)
}

async function textOf(stream: Readable): Promise<string> {
  let text = ''
  for await (const chunk of stream) text += String(chunk)
  return text
}

async function exitOf(child: ChildProcess): Promise<number | null> {
  return new Promise((resolve) => {
    child.on('exit', resolve)
    child.on('error', () => resolve(null))
  })
}
