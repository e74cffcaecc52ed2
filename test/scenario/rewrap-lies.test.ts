/** Rewrap jobs among admins who seal nonsense, seals that nobody needs, and epochs that are owed. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Group, ObjectId } from '../../client/node/index.ts'
import { secretsIn } from '../../examples/demo/former-member.ts'
import { randomBytes } from '../../shared/crypto/public-crypto.ts'
import { asPageId } from '../../shared/ids.ts'
import { epochSealKeys } from '../../shared/objects/dek.ts'
import { openPage, sealPage } from '../../shared/objects/page-seal.ts'
import type { CastMember } from '../support/cast.ts'
import { castGroup } from '../support/cast.ts'
import { eventually, World } from '../support/world.ts'

let world: World
beforeAll(async () => {
  world = await World.start()
})
afterAll(() => world.close())

async function fill(group: Group, count: number): Promise<ObjectId[]> {
  return (await group.putMany(Array.from({ length: count }, (_, index) => ({ body: `record ${index}` })))).map(({ id }) => id)
}

async function textsOf(group: Group, ids: readonly ObjectId[]): Promise<string[]> {
  await group.sync()
  return Promise.all((await group.getMany(ids)).map((object) => object.text()))
}

const recordsOf = (ids: readonly ObjectId[]): string[] => ids.map((_, index) => `record ${index}`)

/** An admin seals pages again that open and hold other DEKs: of all their objects, or of the first of each page. */
async function sealNonsense({ actor, group }: CastMember, which: 'all' | 'first'): Promise<number> {
  const pages = await world.sql<{ page_id: Uint8Array; epoch: number; entries: Uint8Array; sealed: Uint8Array }>(
    'select page_id, epoch, entries, sealed from key_pages where group_id = $1 and count > 0',
    [group.id],
  )
  for (const { page_id: id, epoch, entries, sealed } of pages) {
    const secret = (await secretsIn(actor.store, group.id)).get(Number(epoch))
    if (secret === undefined) throw new Error('the admin has the secret')
    const keys = epochSealKeys(secret, { group: group.id, epoch: Number(epoch) })
    const page = openPage(keys, {
      pageId: asPageId(Uint8Array.from(id)),
      entries: Uint8Array.from(entries),
      sealed: Uint8Array.from(sealed),
    })
    const deks = Uint8Array.from(page.deks)
    deks.set(randomBytes(which === 'all' ? deks.length : 32))
    await world.sql('update key_pages set sealed = $3 where group_id = $1 and page_id = $2', [
      group.id,
      id,
      sealPage(keys, { ...page, deks }),
    ])
  }
  return pages.length
}

/** Bob, an admin, has moved everything under a new epoch, and has not retired the old one. */
async function movedByBob(): Promise<{ alice: CastMember; bob: CastMember; ids: ObjectId[] }> {
  const { alice, bob } = await castGroup(world, { bob: { role: 'admin' } })
  const ids = await fill(alice.group, 300)
  await bob.group.sync()
  await bob.group.rekey()
  await bob.group.compact()
  await alice.group.sync()
  return { alice, bob, ids }
}

describe('pages of another admin that open and hold the wrong DEKs', () => {
  test('are healed from the superseded seals, and block no retiring', async () => {
    for (const which of ['all', 'first'] as const) {
      const { alice, bob, ids } = await movedByBob()
      expect(await sealNonsense(bob, which)).toBe(2)
      expect(await alice.group.rewrap()).toMatchObject({ unopenable: 0, retiredThrough: alice.group.epoch - 1 })
      expect(await textsOf(bob.group, ids)).toEqual(recordsOf(ids))
    }
  })

  test('cost no more than the DEKs that open nowhere, which are told, and block no retiring', async () => {
    const { alice, bob, ids } = await movedByBob()
    await world.sql('delete from superseded_deks where group_id = $1', [alice.group.id])
    const pages = await sealNonsense(bob, 'first')
    const lost = new Set<string>()
    bob.group.on((change) => {
      if (change.type === 'unopenable') for (const id of change.objects) lost.add(String(id))
    })
    expect(await alice.group.rewrap()).toMatchObject({ unopenable: pages, retiredThrough: alice.group.epoch - 1 })
    await eventually(() => lost.size === pages)
    const kept = ids.filter((id) => !lost.has(String(id)))
    expect(await textsOf(bob.group, kept)).toEqual(kept.map((id) => `record ${ids.indexOf(id)}`))
    await bob.group.putMany(ids.flatMap((id, index) => (lost.has(String(id)) ? [{ id, body: `record ${index}` }] : [])))
    expect(await textsOf(alice.group, ids)).toEqual(recordsOf(ids))
  })
})

describe('a seal that nobody needs any more', () => {
  test('and that does not open either is dropped, and blocks no retiring', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const ids = await fill(bob.group, 3)
    await bob.group.putMany(ids.map((id, index) => ({ id, body: `record ${index}` })))
    const seal = randomBytes(72)
    for (const id of ids) {
      await world.sql('insert into loose_deks (group_id, object_id, generation, epoch, seal) values ($1, $2, 1, $3, $4)', [
        alice.group.id,
        id,
        bob.group.epoch,
        seal,
      ])
    }
    await alice.group.sync()
    await alice.group.rekey()
    expect(await alice.group.rewrap()).toMatchObject({ unopenable: 0, retiredThrough: alice.group.epoch - 1 })
    expect(await world.sql('select from loose_deks where group_id = $1', [alice.group.id])).toEqual([])
    expect(await textsOf(bob.group, ids)).toEqual(recordsOf(ids))
  })
})

describe('while an epoch is owed', () => {
  test('A38: neither a rewrap nor a compaction seals anything under the one before', async () => {
    for (const work of ['rewrap', 'compact'] as const) {
      const { alice, bob, carol } = await castGroup(world, { bob: {}, carol: {} })
      const ids = await fill(carol.group, 20)
      alice.client.close()
      const mallory = await world.mallory()
      const group = await (await world.connect(alice.actor, { url: mallory.url })).group(alice.group.id)
      await group.sync()
      await group.rekey()
      await bob.group.sync()
      await bob.group.leave()
      await group.sync()
      const { epoch, isRekeyOwed } = group
      expect(isRekeyOwed).toBe(true)
      const sealed: number[] = []
      mallory.lie('pages.replace', (params, truth) => {
        sealed.push(params.epoch)
        return truth()
      })
      await group[work]()
      expect(sealed.length).toBeGreaterThan(0)
      expect(sealed.every((under) => under === epoch + 1)).toBe(true)
      expect(group.isRekeyOwed).toBe(false)
      expect(await textsOf(carol.group, ids)).toEqual(recordsOf(ids))
    }
  })
})
