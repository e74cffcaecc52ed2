/** A process whose store is on a disk of 1 MiB: prints what became of a batch that does not fit, and of the others. */
import { writeSync } from 'node:fs'
import { FileStore } from '../../../client/node/file-store.ts'

/** @param args - the store’s directory. */
export async function main([directory = '']: readonly string[]): Promise<void> {
  const store = await FileStore.open(directory)
  await store.write(new Map([['before', new Uint8Array(200_000)]]))
  const large = await attempt(store, new Map([['large', new Uint8Array(2_000_000).fill(1)]]))
  const stillThere = (await store.get('before'))?.length === 200_000 && (await store.get('large')) === null
  const small = await attempt(store, new Map([['small', new Uint8Array(100)]]))
  await store.close()
  const again = await FileStore.open(directory)
  const afterReopening = [...(await again.getAll('')).keys()]
  await again.close()
  writeSync(1, JSON.stringify({ large, stillThere, small, afterReopening }))
}

async function attempt(store: FileStore, batch: ReadonlyMap<string, Uint8Array>): Promise<unknown> {
  return store.write(batch).then(
    () => 'written',
    (error: { readonly code: unknown }) => error.code,
  )
}
