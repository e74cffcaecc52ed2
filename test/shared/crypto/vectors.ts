/**
 * Reading test vectors: our own typed-in ones, and outside files that a clone may not have.
 */
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

/** A file of test/vectors/crypto. */
export function readVectors<Vectors>(name: string): Vectors {
  return readJson<Vectors>(fileURLToPath(new URL(`../../vectors/crypto/${name}`, import.meta.url)))
}

/** A file of the outside vectors that may lie beside the repository; null if it does not. */
export function readOutsideVectors<Vectors>(name: string): Vectors | null {
  const path = fileURLToPath(new URL(`../../../../shared/vectors/${name}`, import.meta.url))
  return existsSync(path) ? readJson<Vectors>(path) : null
}

// Vectors are our own or reviewed files: their shape is declared, not checked.
function readJson<Content>(path: string): Content {
  return JSON.parse(readFileSync(path, 'utf8')) as Content
}
