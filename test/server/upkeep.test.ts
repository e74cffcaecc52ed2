import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Audit } from '../../server/audit.ts'
import { createLog } from '../../server/log.ts'
import { createMetrics } from '../../server/metrics.ts'
import { RetiredSpace } from '../../server/retired-space.ts'
import { listAudit } from '../../server/storage/audit.ts'
import type { Database } from '../../server/storage/database.ts'
import { openDatabase } from '../../server/storage/database.ts'
import { inTurn } from '../../server/upkeep.ts'
import { asGroupId } from '../../shared/ids.ts'
import { ManualClock } from '../support/manual-clock.ts'
import type { FreshDatabase } from '../support/postgres.ts'
import { freshDatabase } from '../support/postgres.ts'
import { openStage } from '../support/session-stage.ts'

let fresh: FreshDatabase
let database: Database
beforeAll(async () => {
  fresh = await freshDatabase()
  database = openDatabase({ url: fresh.url, poolSize: 2 })
})
afterAll(async () => {
  await database.close()
  await fresh.drop()
})

it('a step of upkeep that fails does not keep the next from running', async () => {
  const lines: string[] = []
  const ran: number[] = []
  const failing = async (): Promise<void> => {
    throw new RangeError('this step')
  }
  await inTurn(createLog('debug', { write: (line) => lines.push(line) }), [
    failing,
    async () => ran.push(1),
    failing,
    async () => ran.push(2),
  ])
  expect([ran, lines.length]).toEqual([[1, 2], 2])
})

describe('space of retired epochs', () => {
  it('is reclaimed once, and only if something was retired', async () => {
    const retired = new RetiredSpace(fresh.url)
    await retired.reclaim()
    retired.note()
    expect(retired.wanted).toBe(true)
    await retired.reclaim()
    expect(retired.wanted).toBe(false)
  })

  it('is still wanted after a failure', async () => {
    const url = new URL(fresh.url)
    url.pathname = '/no_such_database'
    const retired = new RetiredSpace(url.href)
    retired.note()
    await expect(retired.reclaim()).rejects.toThrow(/no_such_database/)
    expect(retired.wanted).toBe(true)
  })
})

it('audit entries of one kind never keep those of another from being written, and dropped ones are counted', async () => {
  const metrics = createMetrics()
  const audit = new Audit({ database, log: createLog('silent'), clock: new ManualClock(), metrics })
  const { peer } = await openStage()
  const group = asGroupId(new Uint8Array(32).fill(9))
  for (let count = 0; count < 2003; count += 1) audit.authenticationFailed(null, '192.0.2.1', 'authentication_failed')
  audit.unopenable(group, peer, [])
  await audit.settle()
  expect((await metrics.droppedAuditEntries.get()).values).toEqual([{ value: 3, labels: { kind: 'authentication-failed' } }])
  expect(await listAudit(database, group, { before: new Date(Date.now() + 60_000), limit: 5 })).toMatchObject([{ kind: 'unopenable' }])
})
