import pg from 'pg'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { SignedHeader } from '../../shared/objects/header.ts'
import { ops } from '../support/forge.ts'
import { FeedFollower } from '../support/feed-follower.ts'
import { LiveGroup } from '../support/live-group.ts'
import type { Person } from '../support/people.ts'
import { people } from '../support/people.ts'
import type { RawClient } from '../support/raw-client.ts'
import { RawClient as Raw } from '../support/raw-client.ts'
import { ServerStage } from '../support/server-stage.ts'
import { eventually } from '../support/world.ts'

let stage: ServerStage
let cast: Record<'alice' | 'bob' | 'carol' | 'dave', Person>
let alice: RawClient
let bob: RawClient
let group: LiveGroup

beforeAll(async () => {
  stage = await ServerStage.start()
  await stage.addServer()
  cast = await people('alice', 'bob', 'carol', 'dave')
  alice = await stage.open(cast.alice)
  bob = await stage.open(cast.bob, { server: 1 })
})
beforeEach(async () => {
  group = await LiveGroup.found(alice, cast.alice)
  await group.commit(alice, {
    author: cast.alice,
    ops: [ops.add(cast.bob, 'member'), ops.add(cast.carol, 'reader'), ops.add(cast.dave, 'depositor')],
  })
})
afterAll(() => stage.close())

const changeOf = async (client = alice): Promise<number> => (await client.request('log.head', { group: group.id })).change

describe('following a group', () => {
  it('starts with everything after the cursor, and goes on live in both processes', async () => {
    const written = await group.write(alice, cast.alice)
    const [here, there] = [new FeedFollower(alice, group.id), new FeedFollower(bob, group.id)]
    await Promise.all([here.subscribe(), there.subscribe()])
    await Promise.all([here.reach(3), there.reach(3)])
    await group.write(bob, cast.bob, { previous: written })
    await group.commit(alice, { author: cast.alice, ops: [ops.setRole(cast.carol, 'member')] })
    await Promise.all([here.reach(5), there.reach(5)])
    for (const follower of [here, there]) {
      expect([...follower.versions.values()]).toEqual([2])
      expect(follower.commits).toEqual([1, 2])
    }
  })

  it('leaves out commits that the client has, and nothing else', async () => {
    await group.write(alice, cast.alice)
    await group.commit(alice, { author: cast.alice, ops: [ops.setRole(cast.carol, 'member')] })
    const follower = new FeedFollower(bob, group.id)
    await bob.request('feed.subscribe', { group: group.id, cursor: 0, seq: 1 })
    await follower.reach(4)
    expect([follower.commits, follower.versions.size]).toEqual([[2], 1])
  })

  it('from a cursor in the middle leaves out what was overwritten since', async () => {
    const first = await group.write(alice, cast.alice)
    const second = await group.write(alice, cast.alice, { previous: first })
    await group.write(alice, cast.alice, { previous: second })
    const follower = new FeedFollower(bob, group.id, 3)
    await follower.subscribe()
    await follower.reach(5)
    expect([...follower.versions.values()]).toEqual([3])
  })

  it('from a cursor that does not exist yet starts at the end', async () => {
    const { change } = await bob.request('feed.subscribe', { group: group.id, cursor: 1_000_000, seq: 1_000_000 })
    const follower = new FeedFollower(bob, group.id, change)
    await group.write(alice, cast.alice)
    await follower.reach(change + 1)
  })

  it('ends on request', async () => {
    const follower = new FeedFollower(bob, group.id)
    await follower.subscribe()
    await follower.reach(2)
    await bob.request('feed.unsubscribe', { group: group.id })
    await group.write(alice, cast.alice)
    await bob.request('session.ping', {})
    follower.take()
    expect(follower.cursor).toBe(2)
  })

  it('again replaces the first', async () => {
    const follower = new FeedFollower(bob, group.id)
    await follower.subscribe()
    await follower.reach(2)
    await follower.subscribe()
    await group.write(alice, cast.alice)
    await follower.reach(3)
  })

  it('a depositor is sent the log and nothing else', async () => {
    const dave = await stage.open(cast.dave, { server: 1 })
    const follower = new FeedFollower(dave, group.id)
    await follower.subscribe()
    await group.write(alice, cast.alice)
    await group.commit(alice, { author: cast.alice, ops: [ops.setRole(cast.carol, 'member')] })
    await follower.reach(4)
    expect([follower.commits, follower.versions.size]).toEqual([[1, 2], 0])
  })

  it('of more groups than a session may follow is refused', async () => {
    const strict = await stage.addServer({ limits: { subscriptionsPerSession: 1 } })
    const client = await Raw.open(strict.url, cast.alice)
    const other = await LiveGroup.found(client, cast.alice)
    await client.request('feed.subscribe', { group: group.id, cursor: 0, seq: 0 })
    await client.request('feed.subscribe', { group: group.id, cursor: 0, seq: 0 })
    expect((await client.refusal('feed.subscribe', { group: other.id, cursor: 0, seq: 0 })).code).toBe('limit_exceeded')
    client.close()
  })
})

describe('eviction', () => {
  it('a removed member is shown the commit that removed them and nothing beyond, in another process', async () => {
    const follower = new FeedFollower(bob, group.id)
    await follower.subscribe()
    await follower.reach(2)
    await group.commit(alice, { author: cast.alice, ops: [ops.remove(cast.bob)], rekey: 'fresh' })
    await group.write(alice, cast.alice)
    await bob.until(() => bob.eventsOf('evicted').length > 0)
    follower.take()
    expect([follower.commits.at(-1), follower.cursor, follower.versions.size]).toEqual([2, 3, 0])
    expect(bob.eventsOf('evicted').at(-1)?.reason).toBe('removed')
    expect((await bob.refusal('log.read', { group: group.id, from: 0 })).code).toBe('not_a_member')
    expect((await bob.refusal('feed.subscribe', { group: group.id, cursor: 0, seq: 0 })).code).toBe('not_a_member')
    expect(bob.closedFor).toBe(null)
  })

  it('whoever was put out and hangs up takes nobody’s feed along', async () => {
    const [mallory, carol] = [await stage.open(cast.bob), await stage.open(cast.carol)]
    for (const client of [mallory, carol]) await new FeedFollower(client, group.id).subscribe()
    await group.commit(alice, { author: cast.alice, ops: [ops.remove(cast.bob)], rekey: 'fresh' })
    await mallory.until(() => mallory.eventsOf('evicted').length === 1)
    await carol.request('feed.unsubscribe', { group: group.id })
    const follower = new FeedFollower(alice, group.id)
    await follower.subscribe()
    await mallory.request('feed.unsubscribe', { group: group.id })
    await group.write(alice, cast.alice)
    await follower.reach(await changeOf())
  })

  it('one who lost the keys goes on with the log alone', async () => {
    const carol = await stage.open(cast.carol, { server: 1 })
    const follower = new FeedFollower(carol, group.id)
    await follower.subscribe()
    await group.write(alice, cast.alice)
    await follower.reach(3)
    await group.commit(alice, { author: cast.alice, ops: [ops.setRole(cast.carol, 'depositor')], rekey: 'fresh' })
    await group.write(alice, cast.alice)
    await group.commit(alice, { author: cast.alice, ops: [ops.setRole(cast.bob, 'reader')] })
    await follower.reach(6)
    expect([follower.versions.size, follower.commits]).toEqual([1, [1, 2, 3]])
  })
})

describe('gaps', () => {
  it('there are none while everybody writes, comes and goes, in two processes', async () => {
    await group.commit(alice, { author: cast.alice, ops: [ops.setRole(cast.carol, 'admin')] })
    const writers = await Promise.all([0, 1, 0, 1].map((server) => stage.open(cast.alice, { server })))
    const followers: FeedFollower[] = []
    let writing = true
    const comeAndGo = async (server: number): Promise<void> => {
      while (writing) {
        const client = await stage.open(cast.bob, { server })
        const follower = new FeedFollower(client, group.id, followers.length % 3)
        followers.push(follower)
        await follower.subscribe()
        await new Promise((resolve) => setTimeout(resolve, 15))
      }
    }
    const write = async (client: RawClient): Promise<void> => {
      let previous: SignedHeader | null = null
      for (let count = 0; count < 60; count += 1) previous = await group.write(client, cast.alice, count % 3 === 0 ? {} : { previous })
    }
    const coming = [comeAndGo(0), comeAndGo(1)]
    await Promise.all(writers.map(write))
    writing = false
    await Promise.all(coming)
    const change = await changeOf()
    expect(change).toBe(3 + 240)
    await Promise.all(followers.map((follower) => follower.reach(change)))
    const early = followers.filter(({ versions }) => versions.size > 0)
    for (const { versions } of early) expect(versions.size).toBe(early[0]?.versions.size)
    expect(followers.length).toBeGreaterThan(4)
  })

  it('a process that lost its notices finds what it missed', async () => {
    const follower = new FeedFollower(bob, group.id)
    await follower.subscribe()
    await follower.reach(2)
    const client = new pg.Client({ connectionString: stage.database.url })
    await client.connect()
    await client.query(
      `select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'claviger notices' and datname = current_database()`,
    )
    await client.end()
    await group.write(alice, cast.alice)
    await follower.reach(3)
    await eventually(async () => (await stage.get('/readyz', 1)).status === 200)
  })
})

describe('slow readers', () => {
  it('lag, and read on from their cursor without a gap', async () => {
    const server = await stage.addServer({ limits: { laggingBytes: 20_000, laggingResumeBytes: 5_000 } })
    const slow = await Raw.open(server.url, cast.bob)
    const follower = new FeedFollower(slow, group.id)
    await follower.subscribe()
    await follower.reach(2)
    slow.socket.pause()
    const body = new Uint8Array(16)
    for (let round = 0; round < 40; round += 1) {
      await group.put(
        alice,
        await Promise.all(Array.from({ length: 250 }, () => group.item(cast.alice, { body, header: { metadata: new Uint8Array(400) } }))),
      )
    }
    const change = await changeOf()
    await eventually(async () =>
      /claviger_lagging_sessions_total [1-9]/.test(await (await fetch(`${server.url.replace('ws', 'http')}/metrics`)).text()),
    )
    slow.socket.resume()
    await follower.reach(change)
    expect(follower.versions.size).toBe(10_000)
    expect(slow.closedFor).toBe(null)
    slow.close()
  }, 120_000)
})

describe('draining', () => {
  it('finishes what is under way and tells sessions to come back', async () => {
    const server = await stage.addServer()
    const client = await Raw.open(server.url, cast.alice)
    const items = await Promise.all(Array.from({ length: 20 }, () => group.item(cast.alice)))
    const puts = Promise.allSettled(items.map((item) => group.put(client, [item])))
    await new Promise((resolve) => setTimeout(resolve, 5))
    const [outcomes] = await Promise.all([puts, server.close()])
    expect(client.closedFor).toBe('draining')
    const written = outcomes.filter(({ status }) => status === 'fulfilled').length
    const codes = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [(outcome.reason as { code: string }).code] : []))
    for (const code of codes) expect(['server_draining', 'disconnected']).toContain(code)
    const follower = new FeedFollower(bob, group.id)
    await follower.subscribe()
    await follower.reach(await changeOf())
    expect(follower.versions.size).toBeGreaterThanOrEqual(written)
    expect(written + codes.length).toBe(20)
  })
})
