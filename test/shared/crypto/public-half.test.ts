/**
 * What a server may load: the public half reaches no module that signs, seals, opens or agrees on keys.
 */
import { readFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { BoundedCache } from '../../../shared/crypto/bounded-cache.ts'

const root = fileURLToPath(new URL('../../..', import.meta.url))
const PUBLIC_ENTRIES = [
  'platform/node/index.ts',
  'shared/crypto/kdf.ts',
  'shared/crypto/kem-public-key.ts',
  'shared/crypto/keys.ts',
  'shared/crypto/labels.ts',
  'shared/crypto/public-crypto.ts',
  'shared/crypto/signature.ts',
  'shared/crypto/suites.ts',
] as const
const SECRET = /\/(secret|sign|aead|hpke|kem|dhkem-x25519|xchacha)\.ts$/

/** Files that a file loads at run time, itself included: type imports leave nothing behind. */
function reachable(file: string, seen = new Set<string>()): Set<string> {
  if (seen.has(file)) return seen
  seen.add(file)
  const source = readFileSync(file, 'utf8')
  for (const [, clause, path] of source.matchAll(/^(?:import|export)\s+(?!type\b)([^'"]*?)\s*from\s+'(\.[^']+)'/gm)) {
    if (clause !== undefined && path !== undefined) reachable(resolve(dirname(file), path), seen)
  }
  return seen
}

describe('the public half', () => {
  test.each(PUBLIC_ENTRIES)('%s loads nothing of the secret half', (entry) => {
    const files = [...reachable(resolve(root, entry))]
    expect(files.filter((file) => SECRET.test(file))).toEqual([])
    expect(files.filter((file) => file.includes('secret-crypto'))).toEqual([])
  })

  test('the search would find it: the secret entry loads the secret half', () => {
    expect([...reachable(resolve(root, 'platform/node/secret.ts'))].some((file) => file.includes('secret-crypto'))).toBe(true)
  })
})

describe('a bounded cache', () => {
  test('makes each value once and forgets what was used longest ago', () => {
    const cache = new BoundedCache<number>(2)
    let made = 0
    const make = (): number => (made += 1)
    expect([cache.getOrMake('a', make), cache.getOrMake('b', make), cache.getOrMake('a', make)]).toEqual([1, 2, 1])
    expect(cache.getOrMake('c', make)).toBe(3)
    expect(cache.getOrMake('a', make)).toBe(1)
    expect(cache.getOrMake('b', make)).toBe(4)
  })

  test('keeps nothing when making fails', () => {
    const cache = new BoundedCache<number>(1)
    expect(() => cache.getOrMake('a', () => JSON.parse('{'))).toThrow(SyntaxError)
    expect(cache.getOrMake('a', () => 1)).toBe(1)
  })
})
