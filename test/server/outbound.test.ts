import { describe, expect, it } from 'vitest'
import { OutboundBudget } from '../../server/outbound-budget.ts'
import { addressBlock, AddressBuckets, TokenBucket } from '../../server/token-bucket.ts'
import { ManualClock } from '../support/manual-clock.ts'
import { openStage, request, turn } from '../support/session-stage.ts'

describe('a token bucket', () => {
  it('gives its burst at once and then its rate', () => {
    const clock = new ManualClock()
    const bucket = new TokenBucket(clock, { perSecond: 10, burst: 3 })
    const take = (): number => {
      let taken = 0
      while (bucket.take()) taken += 1
      return taken
    }
    expect(take()).toBe(3)
    expect(bucket.waitMs).toBe(100)
    clock.advance(250)
    expect(take()).toBe(2)
    clock.advance(60_000)
    expect([bucket.full, take()]).toEqual([true, 3])
  })

  it('is not emptied by a clock that is set back', () => {
    const clock = new ManualClock()
    const bucket = new TokenBucket(clock, { perSecond: 1, burst: 2 })
    expect(bucket.take()).toBe(true)
    clock.advance(-3_600_000)
    expect(bucket.take()).toBe(true)
    clock.advance(1000)
    expect(bucket.take()).toBe(true)
  })

  it('belongs to one IPv4 address or one IPv6 network', () => {
    const buckets = new AddressBuckets(new ManualClock(), { perSecond: 1, burst: 1 })
    expect([buckets.take('192.0.2.1'), buckets.take('192.0.2.2'), buckets.take('::ffff:192.0.2.1')]).toEqual([true, true, false])
    expect([buckets.take('2001:db8::1'), buckets.take('2001:db8:0:0:ffff::2'), buckets.take('2001:db8:0:1::1')]).toEqual([
      true,
      false,
      true,
    ])
    expect([buckets.isEmpty('192.0.2.1'), buckets.isEmpty('192.0.2.9')]).toEqual([true, false])
  })

  it.each([
    ['::1', '0:0:0:0::/64'],
    ['2001:0db8::', '2001:db8:0:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['1:2:3:4:5:6:7:8', '1:2:3:4::/64'],
    ['127.0.0.1', '127.0.0.1'],
    ['', ''],
  ])('%s counts as %s', (address, block) => {
    expect(addressBlock(address)).toBe(block)
  })
})

describe('the bound of all sessions together', () => {
  it('closes the largest first', () => {
    const closed: string[] = []
    const budget = new OutboundBudget(1_000_000)
    const [small, large, other] = ['small', 'large', 'other'].map((name) => ({ overflow: () => closed.push(name) }))
    if (small === undefined || large === undefined || other === undefined) throw new Error('three queues')
    budget.report(small, 100_000)
    budget.report(large, 700_000)
    budget.report(other, 150_000)
    expect(closed).toEqual([])
    budget.report(other, 250_000)
    expect(closed).toEqual(['large'])
    expect(budget.bufferedBytes).toBe(350_000)
    budget.report(small, 0)
    budget.report(other, 10)
    expect(budget.bufferedBytes).toBe(0)
  })

  it('ends sessions whose peers do not read', async () => {
    const budget = new OutboundBudget(3_000_000)
    const stages = await Promise.all(Array.from({ length: 3 }, () => openStage({ budget, call: async () => new Uint8Array(1_200_000) })))
    for (const { transport } of stages) {
      transport.stuck = true
      transport.receive(request(1))
      await turn()
    }
    expect(stages.filter(({ transport }) => transport.closedFor === 'lagging')).toHaveLength(1)
    expect(budget.bufferedBytes).toBeLessThan(3_000_000)
  })
})
