/**
 * The storage fuzz for 15 seconds. Longer, or again with the seed it printed:
 * `FUZZ_MS=60000 FUZZ_SEED=1 npx vitest run test/server/storage/fuzz.test.ts`.
 */
import { expect, test } from 'vitest'
import { freshDatabase } from '../../support/postgres.ts'
import { runStorageFuzz } from '../../support/storage-fuzz.ts'

const durationMs = Number(process.env['FUZZ_MS'] ?? 15_000)
const seed = Number(process.env['FUZZ_SEED'] ?? Date.now() % 1_000_000)

/** A fuzz in which nothing happens proves nothing. */
const MUST_HAPPEN = [
  'puts',
  'replaces',
  'deletes',
  'replacements',
  'epochs',
  'retired epochs',
  'kills',
  'reseals',
  'cheats refused',
  'checks',
]

test(
  'no live DEK is lost or doubled while writers, jobs, commits, retires and faults run at once',
  { timeout: durationMs + 60_000 },
  async () => {
    const fresh = await freshDatabase()
    try {
      const { figures, violations } = await runStorageFuzz({ url: fresh.url, seed, durationMs, killMs: 150, epochMs: 500 })
      console.log(`storage fuzz, seed ${seed}: ${JSON.stringify(figures)}`)
      expect(violations.slice(0, 5)).toEqual([])
      expect(MUST_HAPPEN.filter((name) => (figures[name] ?? 0) < 3)).toEqual([])
    } finally {
      await fresh.drop()
    }
  },
)
