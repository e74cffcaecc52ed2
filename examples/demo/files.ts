/** The files that alice shares: everything below a folder but what tools put there. */
import { createReadStream } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join, relative } from 'node:path'

const SKIPPED = new Set(['node_modules', '.git', 'dist', 'claviger-data', 'coverage'])
/** Larger files would make the demo about the disk. */
const FILE_BYTES_MAX = 64 * 1024 * 1024

export interface SharedFile {
  readonly path: string
  readonly name: string
  readonly bytes: number
}

/** Every file below `folder`, by name. */
export async function findFiles(folder: string): Promise<SharedFile[]> {
  const files: SharedFile[] = []
  await walk(folder, folder, files)
  return files.toSorted((left, right) => (left.name < right.name ? -1 : 1))
}

async function walk(root: string, folder: string, files: SharedFile[]): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (SKIPPED.has(entry.name)) continue
    const path = join(folder, entry.name)
    if (entry.isDirectory()) await walk(root, path, files)
    else if (entry.isFile()) {
      const { size } = await stat(path)
      if (size <= FILE_BYTES_MAX) files.push({ path, name: relative(root, path), bytes: size })
    }
  }
}

/** The file as a stream of chunks. */
export function readFileStream({ path }: SharedFile): AsyncIterable<Uint8Array> {
  return createReadStream(path)
}
