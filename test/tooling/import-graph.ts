/** Which module of the repository imports which at run time: `import type` leaves nothing (verbatimModuleSyntax). */
import { readFile, readdir } from 'node:fs/promises'
import { join, posix } from 'node:path'
import { fileURLToPath } from 'node:url'

export const ROOT = fileURLToPath(new URL('../..', import.meta.url))

/** What each module imports at run time: paths from the root, or names of packages. */
export type ImportGraph = ReadonlyMap<string, readonly string[]>

/** Statements start a line in formatted code; a name before `from` is never a string. */
const IMPORT = /^(?:import|export)\s+(?!type\b)(?:[^'"]*?\sfrom\s+)?'([^']+)'/gm
const DYNAMIC_IMPORT = /\bimport\(\s*'([^']+)'/g

/** Reads the modules in `folders` of the repository. */
export async function readImportGraph(...folders: readonly string[]): Promise<ImportGraph> {
  const graph = new Map<string, readonly string[]>()
  for (const folder of folders) {
    for (const name of await readdir(join(ROOT, folder), { recursive: true })) {
      if (!name.endsWith('.ts')) continue
      const path = posix.join(folder, name)
      graph.set(path, importsOf(path, await readFile(join(ROOT, path), 'utf8')))
    }
  }
  return graph
}

/** What a module with this text imports at run time. */
export function importsOf(path: string, text: string): readonly string[] {
  const names = [...text.matchAll(IMPORT), ...text.matchAll(DYNAMIC_IMPORT)].map(([, name = '']) => name)
  return names.map((name) => (name.startsWith('.') ? posix.join(posix.dirname(path), name) : name))
}

/** The modules from which one that `isTarget` can be reached, themselves included. */
export function modulesReaching(graph: ImportGraph, isTarget: (path: string) => boolean): ReadonlySet<string> {
  const reaching = new Set([...graph.keys()].filter(isTarget))
  let before = -1
  while (before !== reaching.size) {
    before = reaching.size
    for (const [path, imports] of graph) if (imports.some((name) => reaching.has(name))) reaching.add(path)
  }
  return reaching
}
