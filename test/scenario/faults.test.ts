/** What happens to people’s work when databases, servers and lines go away and come back. */
import type { ChildProcess } from 'node:child_process'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Group, ObjectId } from '../../client/node/index.ts'
import { Claviger, hasCode, idKey } from '../../client/node/index.ts'
import { ClavigerError } from '../../shared/errors.ts'
import type { CastMember } from '../support/cast.ts'
import { castGroup } from '../support/cast.ts'
import type { LyingServer } from '../support/lying-server.ts'
import { TcpProxy } from '../support/tcp-proxy.ts'
import { eventually, nextChange, World } from '../support/world.ts'

const textOf = async (group: Group, id: ObjectId): Promise<string> => (await group.get(id)).text()

async function throughMallory(
  world: World,
  { actor, client, group }: CastMember,
): Promise<{ mallory: LyingServer; group: Group; client: Claviger }> {
  client.close()
  const mallory = await world.mallory()
  const own = await world.connect(actor, { url: mallory.url })
  const opened = await own.group(group.id)
  await opened.sync()
  return { mallory, group: opened, client: own }
}

describe('the database goes away', () => {
  /** The second server reaches its database through the proxy. */
  let world: World
  let line: TcpProxy
  beforeAll(async () => {
    world = await World.start()
    const { hostname, username, password, pathname } = new URL(world.database.url)
    line = await TcpProxy.start({ path: `${decodeURIComponent(hostname)}/.s.PGSQL.5432` })
    await world.addServer({
      database: { kind: 'url', url: `postgres://${username}:${password}@127.0.0.1:${line.port}${pathname}?sslmode=disable` },
    })
  })
  afterAll(async () => {
    await world.close()
    await line.close()
  })
  const onLine = { options: { server: 1 } } as const

  test('for a moment in mid-write: every write is there once, and nobody notices', async () => {
    const { bob } = await castGroup(world, { bob: onLine })
    let written = 0
    const writing = Promise.all(
      Array.from({ length: 8 }, async (_, writer) => {
        for (let index = 0; index < 20; index += 1) {
          await bob.group.put(`${writer}/${index}`)
          written += 1
        }
      }),
    )
    for (const at of [20, 60, 100]) {
      await eventually(() => written >= at)
      line.cut()
    }
    await writing
    const texts = await Promise.all((await bob.group.getMany(await bob.group.list())).map((object) => object.text()))
    expect(texts.toSorted()).toEqual(Array.from({ length: 160 }, (_, index) => `${Math.floor(index / 20)}/${index % 20}`).toSorted())
  })

  test('for longer: writes, reads and commits fail with server_unavailable, and go on when it is back, without a restart', async () => {
    const { alice, bob } = await castGroup(world, { bob: { ...onLine, role: 'admin' } })
    const { id } = await bob.group.put('before')
    line.refuse()
    const failures = await Promise.allSettled([bob.group.put('meanwhile'), bob.group.get(id), bob.group.sync(), bob.group.rekey()])
    for (const failure of failures) expect(failure).toMatchObject({ status: 'rejected', reason: { code: 'server_unavailable' } })
    // The other server has its own way to the database.
    await alice.group.sync()
    const told = nextChange(bob.group, 'object-changed', ({ object }) => idKey(object) !== idKey(id))
    const { id: other } = await alice.group.put('from elsewhere')
    line.accept()
    expect(await told).toMatchObject({ object: other })
    expect(await textOf(bob.group, other)).toBe('from elsewhere')
    expect(await textOf(bob.group, id)).toBe('before')
    await bob.group.put('after')
    await bob.group.rekey()
  })

  test('and a client that connects meanwhile is let in when it is back', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    bob.client.close()
    line.refuse()
    const connecting = world.connect(bob.actor, { server: 1 })
    const { id } = await alice.group.put('early')
    line.accept()
    const group = await (await connecting).group(alice.group.id)
    expect(await textOf(group, id)).toBe('early')
  })

  test('in the middle of a commit: it is made once, whether or not its answer came', async () => {
    const { alice, bob, carol } = await castGroup(world, { alice: onLine, bob: {}, carol: {} })
    for (let round = 0; round < 3; round += 1) {
      const { epoch } = alice.group
      const rekey = alice.group.rekey()
      line.cut()
      await rekey
      await alice.group.sync()
      expect(alice.group.epoch).toBe(epoch + 1)
    }
    line.cut()
    const receipt = await alice.group.remove(carol.client.id)
    line.cut()
    expect((await receipt.finished).retiredThrough).toBe(alice.group.epoch - 1)
    await bob.group.sync()
    expect(bob.group.epoch).toBe(alice.group.epoch)
  })
})

describe('a server that cannot answer now', () => {
  let world: World
  beforeAll(async () => {
    world = await World.start()
  })
  afterAll(() => world.close())
  const unavailable = (): never => {
    throw new ClavigerError('server_unavailable')
  }

  test('while a client comes back keeps nobody in the dark who only listens', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const { mallory, group } = await throughMallory(world, bob)
    let refused = 0
    mallory.lie('feed.subscribe', (_, truth) => ((refused += 1) > 1 ? truth() : unavailable()))
    const told = nextChange(group, 'object-changed')
    mallory.cut()
    await eventually(() => refused > 0)
    const { id } = await alice.group.put('news')
    expect(await told).toMatchObject({ object: id })
  })

  test('while a change is being judged delays it, and no more', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const { mallory, group } = await throughMallory(world, bob)
    // The commit is left out: the header after it names a head that has to be asked for.
    mallory.event = (event) => (event.type === 'feed' ? { ...event, items: event.items.filter(({ kind }) => kind === 'header') } : event)
    let refused = 0
    mallory.lie('log.read', (_, truth) => ((refused += 1) > 1 ? truth() : unavailable()))
    const told = nextChange(group, 'object-changed')
    await alice.group.setRole(bob.client.id, 'admin')
    const { id } = await alice.group.put('news')
    expect(await told).toMatchObject({ object: id })
    expect(refused).toBeGreaterThan(1)
  })
})

describe('the server goes away', () => {
  let world: World
  beforeAll(async () => {
    world = await World.start()
  })
  afterAll(() => world.close())

  test('and comes back: whoever was connected converges, and writes under way end well', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const seen = new Set<string>()
    bob.group.on((change) => {
      if (change.type === 'object-changed') seen.add(idKey(change.object))
    })
    const written: ObjectId[] = []
    const writing = Promise.all(
      Array.from({ length: 4 }, async (_, writer) => {
        for (let index = 0; index < 25; index += 1) written.push((await alice.group.put(`${writer}/${index}`)).id)
      }),
    )
    await eventually(() => written.length >= 10)
    const { port } = world.server()
    await world.server().close()
    await world.addServer({ port })
    await writing
    await eventually(() => seen.size === 100)
    expect(seen).toEqual(new Set(written.map(idKey)))
    expect((await alice.group.list()).length).toBe(100)
  })
})

describe('a server process', () => {
  const RUNNER = fileURLToPath(new URL('../support/run-typescript.mjs', import.meta.url))
  const MAIN = fileURLToPath(new URL('../support/claviger-process.ts', import.meta.url))
  let world: World
  let child: ChildProcess | undefined
  beforeAll(async () => {
    world = await World.start()
  })
  afterAll(async () => {
    child?.kill('SIGKILL')
    await world.close()
  })

  async function start(port: number): Promise<{ process: ChildProcess; url: string }> {
    const started = spawn(process.execPath, [RUNNER, MAIN, 'serve', '--port', String(port)], {
      env: { PATH: process.env['PATH'] ?? '', DATABASE_URL: world.database.url, CLAVIGER_LOG_LEVEL: 'info' },
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    child = started
    for await (const text of createInterface({ input: started.stdout })) {
      const entry = JSON.parse(text) as { url?: string }
      if (entry.url !== undefined) return { process: started, url: entry.url }
    }
    throw new Error('the server did not start')
  }

  test('that is killed has lost no write that it acknowledged', async () => {
    const first = await start(0)
    const alice = await world.person('alice')
    const client = await Claviger.connect(first.url, { identity: alice.identity, store: alice.store, background: false })
    try {
      const group = await client.createGroup()
      const acknowledged = new Map<string, string>()
      let isOver = false
      const writing = Promise.all(
        Array.from({ length: 6 }, async (_, writer) => {
          for (let index = 0; !isOver; index += 1) {
            const { id } = await group.put(`${writer}/${index}`)
            acknowledged.set(idKey(id), `${writer}/${index}`)
          }
        }),
      )
      await eventually(() => acknowledged.size >= 100)
      first.process.kill('SIGKILL')
      await once(first.process, 'exit')
      const atDeath = new Map(acknowledged)
      await start(Number(new URL(first.url).port))
      await eventually(() => acknowledged.size >= atDeath.size + 50)
      isOver = true
      await writing
      const stored = new Map<string, string>()
      for (const object of await group.getMany(await group.list())) stored.set(idKey(object.id), await object.text())
      expect(stored).toEqual(acknowledged)
      for (const [id, text] of atDeath) expect(stored.get(id)).toBe(text)
    } finally {
      client.close()
    }
  })
})

test('a client that was closed says so to everybody who still asks', async () => {
  const world = await World.start()
  try {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const { id } = await alice.group.put('x')
    const asking = [bob.group.get(id), bob.group.put('y'), bob.group.sync()]
    bob.client.close()
    for (const outcome of await Promise.allSettled(asking))
      if (outcome.status === 'rejected') expect(hasCode(outcome.reason, 'closed')).toBe(true)
    await expect(bob.group.get(id)).rejects.toMatchObject({ code: 'closed' })
    await expect(bob.group.put('z')).rejects.toMatchObject({ code: 'closed' })
  } finally {
    await world.close()
  }
})
