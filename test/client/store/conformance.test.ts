/** One suite over every store: what the rest of the client relies on. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, describe, expect, test } from 'vitest'
import { MemoryStore } from '../../../client/memory-store.ts'
import { FileStore } from '../../../client/node/file-store.ts'
import type { Store } from '../../../client/store.ts'
import { applyBatch } from '../../../client/store.ts'
import { STORE_BATCH_BYTES_MAX, STORE_KEY_CHARACTERS_MAX } from '../../../shared/limits.ts'

const cleanups: (() => Promise<void>)[] = []

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

async function fileStore(): Promise<Store> {
  const directory = await mkdtemp(join(tmpdir(), 'claviger-store-'))
  const store = await FileStore.open(directory)
  cleanups.push(
    () => rm(directory, { recursive: true }),
    () => store.close(),
  )
  return store
}

const STORES: Record<string, () => Promise<Store>> = {
  'the memory store': async () => new MemoryStore(),
  'the file store': fileStore,
}

const bytes = (...values: number[]): Uint8Array => Uint8Array.of(...values)

describe.each(Object.entries(STORES))('%s', (_name, open) => {
  test('a key that was never written is null', async () => {
    expect(await (await open()).get('missing')).toBeNull()
  })

  test('what was written is read', async () => {
    const store = await open()
    await store.write(
      new Map([
        ['a', bytes(1, 2)],
        ['empty', bytes()],
      ]),
    )
    expect(await store.get('a')).toEqual(bytes(1, 2))
    expect(await store.get('empty')).toEqual(bytes())
  })

  test('null deletes, in the same batch as writes', async () => {
    const store = await open()
    await store.write(
      new Map([
        ['a', bytes(1)],
        ['b', bytes(2)],
      ]),
    )
    await store.write(
      new Map<string, Uint8Array | null>([
        ['a', null],
        ['c', bytes(3)],
        ['never there', null],
      ]),
    )
    expect([...(await store.getAll(''))]).toEqual([
      ['b', bytes(2)],
      ['c', bytes(3)],
    ])
  })

  test('a prefix selects its keys, sorted by code units', async () => {
    const store = await open()
    const keys = ['g/2', 'g/10', 'g', 'g/', 'h/1', 'g/é', 'g/😀', 'g/z']
    await store.write(new Map(keys.map((key) => [key, bytes(1)])))
    expect([...(await store.getAll('g/')).keys()]).toEqual(['g/', 'g/10', 'g/2', 'g/z', 'g/é', 'g/😀'])
    expect((await store.getAll('nobody')).size).toBe(0)
  })

  test('writes that are not waited for take effect in the order of the calls', async () => {
    const store = await open()
    const writes = Array.from({ length: 50 }, (_, index) =>
      store.write(
        new Map([
          ['a', bytes(index)],
          [`k${index}`, bytes(index)],
        ]),
      ),
    )
    await Promise.all(writes)
    expect(await store.get('a')).toEqual(bytes(49))
    expect((await store.getAll('k')).size).toBe(50)
  })

  test('nobody else holds the arrays: neither the writer’s nor the reader’s changes show', async () => {
    const store = await open()
    const written = bytes(1, 2, 3)
    const batch = new Map([['a', written]])
    const done = store.write(batch)
    written.fill(9)
    batch.set('b', bytes(1))
    await done
    const read = await store.get('a')
    expect(read).toEqual(bytes(1, 2, 3))
    read?.fill(9)
    ;(await store.getAll('a')).get('a')?.fill(9)
    expect(await store.get('a')).toEqual(bytes(1, 2, 3))
    expect(await store.get('b')).toBeNull()
  })

  test('a view into a larger array is stored as the view alone', async () => {
    const store = await open()
    await store.write(new Map([['a', bytes(1, 2, 3, 4).subarray(1, 3)]]))
    expect(await store.get('a')).toEqual(bytes(2, 3))
  })

  test('an empty batch changes nothing', async () => {
    const store = await open()
    await store.write(new Map())
    expect((await store.getAll('')).size).toBe(0)
  })

  test.each([
    ['an empty key', '', bytes(1), TypeError],
    ['a key with half a character', 'a\ud800', bytes(1), TypeError],
    ['a key past its limit', 'k'.repeat(STORE_KEY_CHARACTERS_MAX + 1), bytes(1), RangeError],
    ['a value that is no bytes', 'a', 'text', TypeError],
    ['a value that is undefined', 'a', undefined, TypeError],
  ])('%s is refused and nothing of its batch is written', async (_what, key, value, error) => {
    const store = await open()
    const batch = new Map<string, unknown>([
      ['good', bytes(1)],
      [key, value],
    ]) as Map<string, Uint8Array>
    await expect(store.write(batch)).rejects.toThrow(error)
    expect((await store.getAll('')).size).toBe(0)
  })

  test('keys and batches up to their limits are taken, past them refused', async () => {
    const store = await open()
    const key = '\uffff'.repeat(STORE_KEY_CHARACTERS_MAX)
    const room = STORE_BATCH_BYTES_MAX - 3 * key.length - 16
    await expect(store.write(new Map([[key, new Uint8Array(room + 1)]]))).rejects.toThrow(RangeError)
    await store.write(new Map([[key, new Uint8Array(room)]]))
    expect((await store.get(key))?.length).toBe(room)
  })

  test('a closed store answers nothing, and closing again is nothing', async () => {
    const store = await open()
    const writing = store.write(new Map([['a', bytes(1)]]))
    await store.close()
    await store.close()
    await writing
    for (const use of [store.get('a'), store.getAll(''), store.write(new Map([['a', bytes(1)]]))]) {
      await expect(use).rejects.toMatchObject({ code: 'closed' })
    }
  })

  test('a store is what a map is after the same batches', async () => {
    const key = fc.constantFrom('a', 'b', 'a/b', 'a/c', 'z')
    const value = fc.option(fc.uint8Array({ maxLength: 20 }), { nil: null })
    const batches = fc.array(fc.array(fc.tuple(key, value), { maxLength: 4 }), { maxLength: 12 })
    await fc.assert(
      fc.asyncProperty(batches, async (script) => {
        const store = await open()
        const model = new Map<string, Uint8Array>()
        for (const entries of script) {
          await store.write(new Map(entries))
          applyBatch(model, new Map(entries))
        }
        const sorted = [...model].sort(([left], [right]) => (left < right ? -1 : 1))
        expect([...(await store.getAll(''))]).toEqual(sorted)
        await store.close()
      }),
      { numRuns: 30 },
    )
  })
})
