import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { RunningServer } from '../../server/index.ts'
import { startServer } from '../../server/index.ts'
import { FeedFollower } from '../support/feed-follower.ts'
import { ops } from '../support/forge.ts'
import { LiveGroup } from '../support/live-group.ts'
import type { Person } from '../support/people.ts'
import { people } from '../support/people.ts'
import { RawClient } from '../support/raw-client.ts'
import { ServerStage } from '../support/server-stage.ts'
import { TcpProxy } from '../support/tcp-proxy.ts'
import { eventually } from '../support/world.ts'

/** Of the connection that listens for notices, in its first message. */
const NOTICES = Buffer.from('claviger notices')

let stage: ServerStage
let proxy: TcpProxy
/** The server whose way to the database fails. */
let remote: RunningServer
let cast: Record<'alice' | 'bob', Person>
let alice: RawClient
let group: LiveGroup

beforeAll(async () => {
  stage = await ServerStage.start()
  const url = new URL(stage.database.url)
  proxy = await TcpProxy.start({ path: `${decodeURIComponent(url.hostname)}/.s.PGSQL.5432` })
  url.host = `127.0.0.1:${proxy.port}`
  remote = await startServer({
    port: 0,
    database: { kind: 'url', url: url.href },
    logLevel: 'silent',
    limits: { sweepMs: 100, busSilenceMs: 4000 },
  })
  cast = await people('alice', 'bob')
  alice = await stage.open(cast.alice)
})
afterAll(async () => {
  proxy.thaw()
  proxy.accept()
  await remote.close()
  await proxy.close()
  await stage.close()
})

async function isReady(): Promise<boolean> {
  return (await fetch(`${remote.url.replace('ws', 'http')}/readyz`)).status === 200
}

async function found(): Promise<FeedFollower> {
  group = await LiveGroup.found(alice, cast.alice)
  await group.commit(alice, { author: cast.alice, ops: [ops.add(cast.bob, 'member')] })
  const follower = new FeedFollower(await RawClient.open(remote.url, cast.bob), group.id)
  await follower.subscribe()
  await follower.reach(2)
  return follower
}

describe('a server without its database', () => {
  it('says so, is not ready, and goes on where it was once it is back', async () => {
    const follower = await found()
    await eventually(isReady)
    proxy.refuse()
    expect((await follower.client.refusal('log.head', { group: group.id })).code).toBe('server_unavailable')
    await eventually(async () => !(await isReady()))
    const written = await group.write(alice, cast.alice)
    proxy.accept()
    await follower.reach(3)
    expect((await follower.client.request('object.headers', { group: group.id, objects: [written.header.object] })).headers).toHaveLength(1)
    await eventually(isReady)
    expect(follower.client.closedFor).toBe(null)
    follower.client.close()
  })

  it('takes no one in, and tells them to come back', async () => {
    proxy.refuse()
    const client = await RawClient.dial(remote.url)
    await client.signIn(cast.bob)
    expect([client.complaints[0]?.code, client.closedFor]).toEqual(['server_unavailable', 'internal'])
    proxy.accept()
    await eventually(isReady)
  })
})

describe('a server that no notices reach', () => {
  it('does not go on serving a removed member, and is not ready', async () => {
    const follower = await found()
    await eventually(isReady)
    proxy.freeze((opening) => opening.includes(NOTICES))
    await eventually(async () => !(await isReady()))
    await group.commit(alice, { author: cast.alice, ops: [ops.remove(cast.bob)], rekey: 'fresh' })
    await group.write(alice, cast.alice)
    expect((await follower.client.refusal('object.get', { group: group.id, objects: [], openPages: [] })).code).toBe('not_a_member')
    await follower.client.until(() => follower.client.eventsOf('evicted').length > 0)
    follower.take()
    expect([follower.commits.at(-1), follower.versions.size]).toEqual([2, 0])
    proxy.thaw()
    proxy.cut()
    await eventually(isReady)
    follower.client.close()
  })
})
