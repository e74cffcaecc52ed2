import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { asGroupId, asIdentityId } from '../../shared/ids.ts'
import { toBase64Url } from '../../shared/bytes.ts'
import { encodeCanonical } from '../../shared/codec.ts'
import type { Bus } from '../../server/bus/bus.ts'
import type { Notice } from '../../server/bus/notice.ts'
import { encodeNotice, NOTICE_CHARACTERS_MAX, parseNotice } from '../../server/bus/notice.ts'
import { openPostgresBus } from '../../server/bus/postgres-bus.ts'
import { systemClock } from '../../server/clock.ts'
import { createLog } from '../../server/log.ts'
import type { Database } from '../../server/storage/database.ts'
import { openDatabase } from '../../server/storage/database.ts'
import type { FreshDatabase } from '../support/postgres.ts'
import { freshDatabase } from '../support/postgres.ts'
import { eventually } from '../support/world.ts'

const group = asGroupId(new Uint8Array(32).fill(7))
const other = asGroupId(new Uint8Array(32).fill(8))

let fresh: FreshDatabase
let database: Database
const buses: Bus[] = []

beforeAll(async () => {
  fresh = await freshDatabase()
  database = openDatabase(fresh.url)
})
afterAll(async () => {
  for (const bus of buses) await bus.close()
  await database.close()
  await fresh.drop()
})

/** A bus that listens, and what it heard. */
async function listen(): Promise<{ bus: Bus; heard: Notice[]; connected: () => number }> {
  const heard: Notice[] = []
  let connected = 0
  const listener = { noticed: (notice: Notice) => void heard.push(notice), reconnected: () => void (connected += 1) }
  const bus = openPostgresBus({ database, url: fresh.url, clock: systemClock, log: createLog('silent'), listener })
  buses.push(bus)
  await eventually(() => connected > 0)
  return { bus, heard, connected: () => connected }
}

describe('notices', () => {
  it('reach the other processes and not the one that sends', async () => {
    const [one, two] = [await listen(), await listen()]
    one.bus.publish({ kind: 'card', identity: asIdentityId(group), revision: 2 })
    one.bus.publish({ kind: 'event', event: { type: 'signed-head', group, head: new Uint8Array(1024) } })
    await eventually(() => two.heard.length === 2)
    expect(two.heard.map(({ kind }) => kind)).toEqual(['card', 'event'])
    expect(one.heard).toEqual([])
    expect(Date.now() - (one.bus.aliveAt ?? 0)).toBeLessThan(10_000)
  })

  it('about one group that come together are one, the furthest', async () => {
    const [one, two] = [await listen(), await listen()]
    for (const change of [5, 9, 7]) one.bus.publish({ kind: 'advanced', group, change, seq: change - 1 })
    one.bus.publish({ kind: 'advanced', group: other, change: 1, seq: 0 })
    await eventually(() => two.heard.length === 2)
    expect(two.heard).toEqual([
      { kind: 'advanced', group, change: 9, seq: 8 },
      { kind: 'advanced', group: other, change: 1, seq: 0 },
    ])
  })

  it('go on after the connection was lost, and whoever listens is told to look', async () => {
    const [one, two] = [await listen(), await listen()]
    await database.pool.query(
      `select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'claviger notices' and datname = current_database()`,
    )
    await eventually(() => one.connected() > 1 && two.connected() > 1)
    one.bus.publish({ kind: 'advanced', group, change: 10, seq: 1 })
    await eventually(() => two.heard.some((notice) => notice.kind === 'advanced' && notice.change === 10))
  })

  it('that nobody here has written are ignored', async () => {
    const { heard, bus } = await listen()
    for (const payload of [
      '',
      'x',
      'x.y',
      `x.${toBase64Url(encodeCanonical({ kind: 'unknown' }))}`,
      `x.${toBase64Url(new Uint8Array(9).fill(0x81))}`,
    ]) {
      await database.pool.query(`select pg_notify('claviger_07', $1)`, [payload])
    }
    expect([heard, bus.aliveAt === null]).toEqual([[], false])
  })

  it('are read as they were written, and are too long only for what is looked up anyway', () => {
    const notice: Notice = { kind: 'event', event: { type: 'wrap-requested', group, epoch: 3, recipient: new Uint8Array(32) as never } }
    expect(parseNotice(encodeNotice(notice) ?? '')).toEqual(notice)
    const long = encodeNotice({ kind: 'event', event: { type: 'join-requested', group, request: new Uint8Array(16_000) } })
    expect(long).toBe(null)
    expect(NOTICE_CHARACTERS_MAX).toBeLessThan(8000)
  })
})
