/**
 * Everybody at once: members write, come and go, lose their connections and heal each other in the background, on two
 * servers. In the end all agree, everything opens for everybody, and nobody was told of anything bad.
 */
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Claviger, Group, GroupChange, ObjectId } from '../../client/node/index.ts'
import { hasCode, idKey } from '../../client/node/index.ts'
import type { LyingServer } from '../support/lying-server.ts'
import { pick, seededRandom } from '../support/seeded-random.ts'
import { eventually, World } from '../support/world.ts'

let world: World
beforeAll(async () => {
  world = await World.start()
  await world.addServer()
})
afterAll(() => world.close())

interface Somebody {
  readonly name: string
  readonly client: Claviger
  readonly group: Group
  readonly network: LyingServer
}

/** What may come of an operation that others got in the way of. */
const PASSING = [
  'not_a_member',
  'not_authorised',
  'version_conflict',
  'not_found',
  'invite_spent',
  'last_admin',
  'gave_up',
  'rule_violated',
  'already_member',
  'unknown_group',
] as const

class Party {
  readonly random: () => number
  readonly alarms: string[] = []
  readonly written = new Map<string, ObjectId>()
  readonly people: Somebody[] = []
  #names = 0

  constructor(seed: number) {
    this.random = seededRandom(seed)
  }

  async found(): Promise<void> {
    const { client, network, name } = await this.#newcomer()
    this.#enter({ name, client, network, group: await client.createGroup() })
  }

  async invite(by: Somebody): Promise<void> {
    const token = await by.group.invite({ role: pick(this.random, ['member', 'member', 'reader']), maxUses: pick(this.random, [1, 3]) })
    const { client, network, name } = await this.#newcomer()
    this.#enter({ name, client, network, group: await client.join(token) })
  }

  async write(by: Somebody): Promise<void> {
    const known = [...this.written.values()]
    const options = known.length > 0 && this.random() < 0.4 ? { id: pick(this.random, known) } : {}
    const { id } = await by.group.put(`by ${by.name}`, options)
    this.written.set(idKey(id), id)
  }

  /** One step of somebody; refusals because of others are part of it. */
  async step(): Promise<void> {
    const by = pick(this.random, this.people)
    const other = pick(this.random, this.people)
    const chance = this.random()
    try {
      if (chance < 0.55) await this.write(by)
      else if (chance < 0.65) await this.invite(by)
      else if (chance < 0.72) await by.group.rekey()
      else if (chance < 0.8) by.network.cut()
      else if (chance < 0.88) await by.group.setRole(other.client.id, pick(this.random, ['admin', 'member', 'reader']))
      else if (chance < 0.92) await by.group.remove(other.client.id)
      else if (chance < 0.94) await by.group.leave()
      else for (const id of [...this.written.values()].slice(-3)) await (await by.group.get(id)).text()
    } catch (error) {
      if (!hasCode(error, ...PASSING)) throw error
    }
  }

  /** Those who are members in the end, in step with one another. */
  async members(): Promise<Somebody[]> {
    const left: Somebody[] = []
    for (const somebody of this.people) {
      try {
        await somebody.group.sync()
        left.push(somebody)
      } catch (error) {
        if (!hasCode(error, 'not_a_member')) throw error
      }
    }
    return left
  }

  async #newcomer(): Promise<Pick<Somebody, 'client' | 'name' | 'network'>> {
    const name = `member ${(this.#names += 1)}`
    const network = await world.mallory(this.#names % 2)
    const client = await world.connect(await world.person(name), { url: network.url, background: true, jitterMs: 20 })
    return { name, client, network }
  }

  #enter(somebody: Somebody): void {
    this.people.push(somebody)
    somebody.group.on((change: GroupChange) => {
      if (change.type === 'bad-item') this.alarms.push(`${somebody.name}: ${change.error.code} ${change.error.message}`)
      if (change.type === 'ended' && !hasCode(change.error, 'not_a_member', 'closed'))
        this.alarms.push(`${somebody.name}: ended, ${String(change.error)}`)
    })
  }
}

for (const seed of [1, 2, 3]) {
  test(`whatever happens meanwhile, all agree in the end (seed ${seed})`, { timeout: 60_000 }, async () => {
    const party = new Party(seed)
    await party.found()
    const [founder] = party.people
    if (founder === undefined) throw new RangeError('somebody has founded it')
    for (let newcomer = 0; newcomer < 4; newcomer += 1) await party.invite(founder)
    for (let round = 0; round < 12; round += 1) await Promise.all(Array.from({ length: 6 }, () => party.step()))

    const members = await party.members()
    expect(members.length).toBeGreaterThan(0)
    await eventually(async () => {
      const [first, ...others] = await party.members()
      return (
        first !== undefined &&
        !first.group.isRekeyOwed &&
        first.group.retiredThrough === first.group.epoch - 1 &&
        others.every(({ group }) => idKey(group.head.hash) === idKey(first.group.head.hash))
      )
    })
    const [first, ...others] = members
    const listed = (await first?.group.list())?.map(idKey).sort()
    expect(listed).toEqual([...party.written.keys()].sort())
    for (const { group } of others) expect((await group.list()).map(idKey).sort()).toEqual(listed)
    for (const { group } of members)
      for (const id of party.written.values()) expect(await (await group.get(id)).text()).toMatch(/^by member/)
    expect(party.alarms).toEqual([])
    for (const { client } of party.people) client.close()
  })
}
