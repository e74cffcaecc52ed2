import { describe, expect, it } from 'vitest'
import { RequestCosts, unitsOf } from '../../server/request-costs.ts'
import { DEFAULT_LIMITS } from '../../server/server-limits.ts'
import { BATCH_ITEMS_MAX, UNITS_BURST } from '../../shared/limits.ts'
import { ManualClock } from '../support/manual-clock.ts'
import { openStage, turn } from '../support/session-stage.ts'

const PING = { method: 'session.ping', params: {} }

function costs(limits: { unitsPerSecond?: number; unitsBurst?: number } = {}): { costs: RequestCosts; clock: ManualClock } {
  const clock = new ManualClock()
  return { costs: new RequestCosts({ clock, limits: { ...DEFAULT_LIMITS, ...limits } }), clock }
}

describe('what a request costs', () => {
  it('grows with its items, its bytes, and its signatures', () => {
    const items = Array.from({ length: 1000 }, () => ({ header: new Uint8Array(500), seal: null }))
    expect(unitsOf(PING)).toBe(1)
    expect(Math.round(unitsOf({ method: 'object.put', params: { items } }))).toBe(1032)
    expect(unitsOf({ method: 'group.create', params: { commit: new Uint8Array(512 * 1024) } })).toBe(2049)
    expect(unitsOf({ method: 'rewrap.status', params: {} })).toBeGreaterThan(50)
    expect(unitsOf({ method: 'body.read', params: { bytes: 256 * 1024 } })).toBe(17)
    expect(unitsOf({ method: 'body.read', params: { bytes: -5 } })).toBe(1)
  })

  it('lets twenty full batches of one identity pass at once', () => {
    const params = { items: Array.from({ length: BATCH_ITEMS_MAX }, () => ({ header: new Uint8Array(500), body: new Uint8Array(2000) })) }
    expect(20 * unitsOf({ method: 'object.put', params })).toBeLessThan(UNITS_BURST / 2)
  })

  it('is paid by the identity, whatever its sessions', async () => {
    const { costs: shared, clock } = costs({ unitsPerSecond: 10, unitsBurst: 10 })
    const [one, two] = [(await openStage()).peer, (await openStage()).peer]
    let ran = 0
    const run = (peer: typeof one): Promise<number> => shared.run(peer, PING, async () => (ran += 1))
    for (let count = 0; count < 10; count += 1) void run(one)
    void run(two)
    await turn()
    expect(ran).toBe(10)
    clock.advance(100)
    await turn()
    expect(ran).toBe(11)
  })
})

describe('heavy methods', () => {
  it('run two at once in one session, in order, and others pass them', async () => {
    const { costs: shared } = costs()
    const { peer, transport } = await openStage()
    const started: number[] = []
    const finish: (() => void)[] = []
    const heavy = (id: number): Promise<void> =>
      shared.run(peer, { method: 'rewrap.status', params: {} }, async () => {
        started.push(id)
        await new Promise<void>((resolve) => finish.push(resolve))
      })
    const all = [1, 2, 3, 4].map((id) => heavy(id))
    await turn()
    expect(started).toEqual([1, 2])
    expect(await shared.run(peer, PING, async () => 'through')).toBe('through')
    finish[1]?.()
    await turn()
    expect(started).toEqual([1, 2, 3])
    transport.disconnect()
    finish[0]?.()
    await expect(all[3]).rejects.toMatchObject({ code: 'closed' })
    finish[2]?.()
    await Promise.all(all.slice(0, 3))
  })
})
