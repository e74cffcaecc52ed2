/** A process that writes batches until it is killed, and says on standard output which ones were acknowledged. */
import { writeSync } from 'node:fs'
import { FileStore } from '../../../client/node/file-store.ts'

const STANDARD_OUTPUT = 1
const WRITERS = 8
const VALUE_BYTES = 3000

/** @param args - the store’s directory. */
export async function main([directory = '']: readonly string[]): Promise<void> {
  const store = await FileStore.open(directory)
  writeSync(STANDARD_OUTPUT, 'open\n')
  await Promise.all(Array.from({ length: WRITERS }, (_, writer) => writeWithoutEnd(store, writer)))
}

/** Several writers at once, so that batches share frames. The keys of one batch must appear together. */
async function writeWithoutEnd(store: FileStore, writer: number): Promise<never> {
  for (let count = 0; ; count += 1) {
    const value = new Uint8Array(VALUE_BYTES).fill(count % 251)
    const counter = Uint8Array.from(Buffer.from(`${count}`))
    await store.write(
      new Map([
        [`w${writer}/a/${count % 40}`, value],
        [`w${writer}/b/${count % 40}`, value],
        [`w${writer}/count`, counter],
      ]),
    )
    writeSync(STANDARD_OUTPUT, `${writer} ${count}\n`)
  }
}
