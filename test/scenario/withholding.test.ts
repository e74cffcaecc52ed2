/** A server that holds back, repeats, drops and reorders. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Claviger, Group } from '../../client/node/index.ts'
import { asObjectId, idKey } from '../../client/node/index.ts'
import { randomBytes } from '../../shared/crypto/public-crypto.ts'
import type { Event } from '../../shared/protocol/messages.ts'
import { decodeEnvelope } from '../../shared/objects/header.ts'
import { signHeader } from '../../shared/objects/header-signing.ts'
import type { CastMember } from '../support/cast.ts'
import { castGroup } from '../support/cast.ts'
import { pick, seededRandom } from '../support/seeded-random.ts'
import type { LyingServer } from '../support/lying-server.ts'
import { SILENCE } from '../support/lying-server.ts'
import { eventually, nextChange, World } from '../support/world.ts'

let world: World
beforeAll(async () => {
  world = await World.start()
})
afterAll(() => world.close())

/** Somebody of the cast, from now on behind mallory. */
async function behind({ actor, client, group }: CastMember): Promise<{ mallory: LyingServer; client: Claviger; group: Group }> {
  client.close()
  const mallory = await world.mallory()
  const again = await world.connect(actor, { url: mallory.url })
  const own = await again.group(group.id)
  await own.ready()
  return { mallory, client: again, group: own }
}

describe('a commit that is held back', () => {
  test('A09: is fetched as soon as somebody who has it signs a head, and a refusal to give it is an alarm', async () => {
    const { alice, bob, carol } = await castGroup(world, { bob: {}, carol: {} })
    await alice.group.rekey()
    const { mallory, group } = await behind(alice)
    const old = group.head
    mallory.event = (event) => (event.type === 'feed' ? null : event)
    await bob.group.leave()
    await carol.group.sync()
    expect(group.isRekeyOwed).toBe(false)

    // The log is held back as well: what carol has signed cannot be.
    mallory.lie('log.read', (params, truth) => (params.from > old.seq ? { commits: [], head: old } : truth()))
    const alarm = nextChange(group, 'bad-item')
    const again = await (await world.connect(carol.actor)).group(group.id)
    await again.ready()
    expect(await alarm).toMatchObject({ signer: carol.client.id, error: { code: 'bad_head' } })

    mallory.relent('log.read')
    const owed = nextChange(group, 'rekey-owed')
    const third = await (await world.connect(carol.actor)).group(group.id)
    await third.ready()
    await owed
    expect(group.isRekeyOwed).toBe(true)
  })

  test('A15: does not make others take what an honest member goes on writing under the old epoch', async () => {
    const { alice, bob, carol, dave } = await castGroup(world, { bob: {}, carol: {}, dave: {} })
    await alice.group.rekey()
    const { client: behindBob, group } = await behind(bob)
    const { head, epoch, id } = group
    const { mallory, group: admin } = await behind(alice)
    // The old epoch is not retired yet.
    mallory.lie('rewrap.start', () => SILENCE)
    await admin.remove(dave.client.id)
    await carol.group.sync()
    // What bob would have been let write, if the server let him.
    const object = asObjectId(randomBytes(16))
    const content = { dekCommitment: randomBytes(32), bodyHash: randomBytes(32), bodyLength: 0, metadata: randomBytes(64) }
    const { signer, id: author } = bob.actor.identity
    const header = await signHeader(signer, {
      v: 1,
      group: id,
      object,
      version: 1,
      generation: 1,
      epoch,
      at: head,
      author,
      previous: null,
      ...content,
    })
    const item = { header, seal: randomBytes(72), body: randomBytes(16), bodyId: null }
    await expect(behindBob.connection.request('object.put', { group: id, seq: head.seq, epoch, items: [item] })).rejects.toMatchObject({
      code: 'stale_epoch',
    })
    const alarms = [admin, carol.group].map((member) => nextChange(member, 'bad-item'))
    await world.sql('update groups set change_seq = change_seq + 1 where group_id = $1', [id])
    await world.sql(
      `insert into objects (group_id, object_id, version, generation, live, change_seq, header, header_hash, author, epoch, body)
       select $1, $2, 1, 1, true, change_seq, $3, $4, $5, $6, $7 from groups where group_id = $1`,
      [id, object, header, decodeEnvelope(header).hash, author, epoch, item.body],
    )
    await Promise.all([admin.sync(), carol.group.sync()])
    for (const alarm of await Promise.all(alarms)) expect(alarm).toMatchObject({ signer: author, error: { code: 'stale_epoch' } })
    expect((await carol.group.list()).map(idKey)).toEqual([])
  })
})

describe('a feed', () => {
  test('A17: whose last batch is lost is asked for it again by whoever waits', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const { mallory, group } = await behind(bob)
    mallory.event = () => null
    const { id } = await alice.group.put('never told')
    const syncing = group.sync()
    await eventually(() => mallory.count('log.head') > 0)
    mallory.event = (event) => event
    await syncing
    expect(await group.list()).toEqual([id])
  })

  for (const seed of [1, 2, 3, 4]) {
    test(`A17: whose batches are dropped, repeated and shuffled brings everybody to the same state (seed ${seed})`, async () => {
      const random = seededRandom(seed)
      const { alice, bob } = await castGroup(world, { bob: {} })
      const { mallory, group } = await behind(bob)
      const held: Event[] = []
      mallory.event = (event) => {
        if (event.type !== 'feed') return event
        const chance = random()
        if (chance < 0.25) return null
        if (chance < 0.5) held.push(event)
        if (chance < 0.75 || held.length === 0) return event
        const earlier = pick(random, held)
        mallory.say(earlier)
        return event
      }
      const written = new Map<string, number>()
      for (let round = 0; round < 12; round += 1) {
        const receipts = await Promise.all([alice.group.put('a'), alice.group.put('b')])
        for (const { id } of receipts) written.set(idKey(id), 1)
        const [{ id }] = receipts
        if (random() < 0.5) written.set(idKey(id), (await alice.group.put('again', { id })).version)
        if (random() < 0.2) await alice.group.rekey()
        for (const earlier of held) if (random() < 0.3) mallory.say(earlier)
      }
      mallory.event = (event) => event
      await group.sync()
      expect(group.head).toEqual(alice.group.head)
      expect((await group.list()).map(idKey).sort()).toEqual([...written.keys()].sort())
      for (const id of await group.list()) expect((await group.get(id)).version).toBe(written.get(idKey(id)))
    })
  }
})

describe('a clock that is wrong by a year', () => {
  for (const years of [-1, 1]) {
    test(`A21: of a client (${years > 0 ? 'fast' : 'slow'}) stops neither its commits nor its writes`, async () => {
      const { alice } = await castGroup(world, {})
      const now = (): number => Date.now() + years * 365 * 86_400_000
      const client = await world.connect(await world.person('bob'), { now, background: true, jitterMs: 0 })
      const group = await client.join(await alice.group.invite())
      const { id } = await group.put('on time')
      expect(await (await alice.group.get(id)).text()).toBe('on time')
      await alice.group.sync()
      await alice.group.setRole(client.id, 'admin')
      await group.sync()
      await alice.group.invite({ expiresIn: '1h' })
      await group.rekey()
      await alice.group.sync()
      expect(alice.group.epoch).toBe(group.epoch)
      // An invite of somebody else that is good for an hour is not expired by a clock that is alone in thinking so.
      expect(alice.group.invites()).toHaveLength(1)
      client.close()
    })
  }
})

describe('silence', () => {
  test('about a wrap request is no answer: the owner asks again, and whoever comes next helps', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    bob.client.close()
    await alice.group.rekey()
    await world.sql('delete from wraps where group_id = $1 and epoch = $2', [alice.group.id, alice.group.epoch])
    const mallory = await world.mallory()
    mallory.lie('wrap.request', () => ({}))
    const group = await (await world.connect(bob.actor, { url: mallory.url })).group(alice.group.id)
    await expect(group.put('no key')).rejects.toMatchObject({ code: 'wrap_invalid' })
    mallory.relent('wrap.request')
    await eventually(async () => (await group.put('again').catch(() => null)) !== null)
  })
})
