/** A server that lies in the feed: leaves commits out, shows what was made too late, counts backwards. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Group, GroupChange } from '../../client/node/index.ts'
import { asObjectId } from '../../client/node/index.ts'
import { randomBytes } from '../../shared/crypto/public-crypto.ts'
import { signHeader } from '../../shared/objects/header-signing.ts'
import type { FeedEvent } from '../../shared/protocol/messages.ts'
import type { CastMember } from '../support/cast.ts'
import { castGroup } from '../support/cast.ts'
import type { LyingServer } from '../support/lying-server.ts'
import { eventually, nextChange, World } from '../support/world.ts'

let world: World
beforeAll(async () => {
  world = await World.start()
})
afterAll(() => world.close())

/** Somebody’s client behind mallory. */
async function throughMallory({ actor, client, group }: CastMember): Promise<{ mallory: LyingServer; group: Group; told: GroupChange[] }> {
  client.close()
  const mallory = await world.mallory()
  const own = await (await world.connect(actor, { url: mallory.url })).group(group.id)
  await own.sync()
  const told: GroupChange[] = []
  own.on((change) => void told.push(change))
  return { mallory, group: own, told }
}

/** Leaves commits out of the feed from now on. @returns how far the feed has come. */
function leaveOutCommits(mallory: LyingServer): { readonly sent: number } {
  const state = { sent: 0 }
  mallory.event = (event) => {
    if (event.type !== 'feed') return event
    state.sent = event.to
    return { ...event, items: event.items.filter(({ kind }) => kind !== 'commit') }
  }
  return state
}

/** A new object, made with what its author had at this moment. */
async function headerOf({ actor, group }: CastMember): Promise<Uint8Array> {
  const content = { dekCommitment: randomBytes(32), bodyHash: randomBytes(32), bodyLength: 0, metadata: randomBytes(64) }
  const { id: author, signer } = actor.identity
  return signHeader(signer, {
    v: 1,
    group: group.id,
    object: asObjectId(randomBytes(16)),
    version: 1,
    generation: 1,
    epoch: group.epoch,
    at: group.head,
    author,
    previous: null,
    ...content,
  })
}

/** The server shows a header as the newest change. */
function show(mallory: LyingServer, group: Group, header: Uint8Array, after: number): void {
  const event: FeedEvent = {
    type: 'feed',
    group: group.id,
    from: after,
    to: after + 1,
    items: [{ kind: 'header', change: after + 1, header }],
  }
  mallory.say(event)
}

const withheld = (told: readonly GroupChange[]): unknown[] =>
  told.flatMap((change) => (change.type === 'bad-item' && change.error.code === 'withheld' ? [change.error.data] : []))

describe('a commit that the feed leaves out', () => {
  test('A73: one’s own removal: what the removed member wrote too late is refused in the same session all the same', async () => {
    const { alice, carol } = await castGroup(world, { carol: {} })
    const late = await headerOf(carol)
    const { mallory, group, told } = await throughMallory(alice)
    const feed = leaveOutCommits(mallory)
    const { head } = group
    await group.remove(carol.client.id)
    await group.sync()
    await eventually(() => withheld(told).length > 0)
    expect(withheld(told)).toEqual([{ seq: head.seq + 1 }])
    const refused = nextChange(group, 'bad-item')
    show(mallory, group, late, feed.sent)
    expect(await refused).toMatchObject({ signer: carol.client.id, error: { code: 'stale_epoch' } })
  })

  test('A73: somebody else’s removal, once one has heard of it in any other way', async () => {
    const { alice, bob, carol } = await castGroup(world, { bob: {}, carol: {} })
    const late = await headerOf(carol)
    const { mallory, group } = await throughMallory(bob)
    const feed = leaveOutCommits(mallory)
    await alice.group.remove(carol.client.id)
    const asked = mallory.count('log.head')
    // The server refuses a write under the old epoch, and the log is read.
    await group.put('mine')
    expect(group.epoch).toBe(alice.group.epoch)
    await eventually(() => mallory.count('log.head') > asked)
    await group.sync()
    const refused = nextChange(group, 'bad-item')
    show(mallory, group, late, feed.sent)
    expect(await refused).toMatchObject({ signer: carol.client.id, error: { code: 'stale_epoch' } })
  })

  test('is told when a later one is shown, and followed', async () => {
    const { alice, bob, carol } = await castGroup(world, { bob: {}, carol: {} })
    const { mallory, group, told } = await throughMallory(bob)
    leaveOutCommits(mallory)
    const { head } = group
    await alice.group.setRole(carol.client.id, 'reader')
    const { id } = await alice.group.put('between')
    await eventually(() => told.some(({ type }) => type === 'object-changed'))
    mallory.event = (event) => event
    await alice.group.setRole(carol.client.id, 'member')
    await eventually(() => withheld(told).length > 0)
    expect(withheld(told)[0]).toEqual({ seq: head.seq + 1 })
    await group.sync()
    expect(group.head).toEqual(alice.group.head)
    expect(await (await group.get(id)).text()).toBe('between')
  })

  test('is none where the server leaves out what one has already', async () => {
    const { alice, bob, carol } = await castGroup(world, { bob: { role: 'admin' }, carol: {} })
    const { mallory, group, told } = await throughMallory(bob)
    for (const role of ['reader', 'member'] as const) {
      await group.setRole(carol.client.id, role)
      mallory.cut()
      await group.sync()
      await alice.group.rekey()
      await group.sync()
      await group.rekey()
      await group.put('x')
    }
    await group.sync()
    expect(withheld(told)).toEqual([])
  })
})

describe('a server that counts backwards', () => {
  test('A13: behind where the feed had come stops the group, when it is asked again and when it is followed again', async () => {
    for (const method of ['log.head', 'feed.subscribe'] as const) {
      const { alice, bob } = await castGroup(world, { bob: {} })
      const { mallory, group } = await throughMallory(bob)
      await alice.group.put('news')
      await group.sync()
      if (method === 'log.head') mallory.lie(method, async (_, truth) => ({ ...(await truth()), change: 1 }))
      else mallory.lie(method, async (_, truth) => ({ ...(await truth()), change: 1 }))
      const ended = nextChange(group, 'ended')
      mallory.cut()
      await group.sync().catch(() => undefined)
      expect((await ended).error).toMatchObject({ code: 'rollback', data: { accepted: group.head, offeredChange: 1 } })
      await expect(group.put('no')).rejects.toMatchObject({ code: 'group_stopped' })
    }
  })

  test('a server that merely restarts is followed on', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const other = await world.addServer()
    const { id } = await alice.group.put('before')
    await bob.group.sync()
    bob.client.close()
    const again = await (await world.connect(bob.actor, { url: other.url })).group(bob.group.id)
    await again.sync()
    expect(await (await again.get(id)).text()).toBe('before')
  })
})
