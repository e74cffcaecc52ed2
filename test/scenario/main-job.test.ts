import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { World } from '../support/world.ts'

describe('the main job', () => {
  let world: World
  beforeAll(async () => {
    world = await World.start()
  })
  afterAll(() => world.close())

  test('bob joins while alice is offline and reads what she wrote', async () => {
    const [alice, bob] = [await world.person('alice'), await world.person('bob')]
    const aliceClient = await world.connect(alice)
    const created = await aliceClient.createGroup({ name: 'Design' })
    const { id } = await created.put('the plan', { name: 'plan.md' })
    const token = await created.invite({ role: 'member', expiresIn: '7d' })
    aliceClient.close()

    const bobClient = await world.connect(bob)
    const group = await bobClient.join(token)
    const object = await group.get(id)
    expect(await object.text()).toBe('the plan')
    expect(object.name).toBe('plan.md')
    expect(object.author).toEqual(aliceClient.id)
    expect(group.name).toBe('Design')
  })

  test('a removed member opens nothing new, and the old epoch is retired', async () => {
    const [alice, bob, carol] = [await world.person('alice'), await world.person('bob'), await world.person('carol')]
    const aliceClient = await world.connect(alice)
    const group = await aliceClient.createGroup({ name: 'Removal' })
    const bobGroup = await (await world.connect(bob)).join(await group.invite())
    const carolClient = await world.connect(carol)
    const carolGroup = await carolClient.join(await group.invite())
    const { id } = await bobGroup.put('before', { name: 'a.txt' })
    expect(await (await carolGroup.get(id)).text()).toBe('before')

    await group.sync()
    const receipt = await group.remove(carolClient.id)
    expect(receipt.epoch).toBe(group.epoch)
    const outcome = await receipt.finished
    expect(outcome.retiredThrough).toBe(group.epoch - 1)
    await bobGroup.sync()
    const { id: later } = await bobGroup.put('after', { name: 'b.txt' })
    expect(await (await bobGroup.get(id)).text()).toBe('before')
    expect(await (await group.get(later)).text()).toBe('after')
    await expect(carolGroup.get(later)).rejects.toMatchObject({ code: 'not_a_member' })
  })

  test('a member who was away catches up with one wrap', async () => {
    const [alice, bob] = [await world.person('alice'), await world.person('bob')]
    const aliceClient = await world.connect(alice)
    const group = await aliceClient.createGroup({ name: 'Away' })
    const bobClient = await world.connect(bob)
    await bobClient.join(await group.invite())
    const { id } = await group.put('one')
    bobClient.close()
    for (let round = 0; round < 5; round += 1) await group.rekey()
    const { id: second } = await group.put('two')

    const again = await world.connect(bob)
    const returned = await again.group(group.id)
    await returned.sync()
    expect(await (await returned.get(id)).text()).toBe('one')
    expect(await (await returned.get(second)).text()).toBe('two')
    expect(returned.counters.wrapsOpened).toBe(1)
    expect(await returned.safetyNumber(aliceClient.id)).toBe(await group.safetyNumber(bobClient.id))
  })
})
