/** Whatever happens in the life of a group, in whatever order: nothing acknowledged is lost, and nobody who is out opens anything new. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { idKey } from '../../client/node/index.ts'
import type { Group } from '../../client/node/index.ts'
import { attackKeys, attackObjects, collectKeys } from '../../examples/demo/former-member.ts'
import type { Database } from '../../server/storage/database.ts'
import { databaseOf } from '../support/cast.ts'
import { findViolations, readGroupRows } from '../support/storage-invariants.ts'
import { SeededRandom } from '../support/storage-random.ts'
import { World } from '../support/world.ts'
import { GroupLife } from './group-life.ts'

const STEPS = 60
const NAMES = ['alice', 'bob', 'carol', 'dave', 'erin']
const SEEDS =
  process.env['GROUP_LIFE_SEED'] === undefined ? [...crypto.getRandomValues(new Uint32Array(3))] : [Number(process.env['GROUP_LIFE_SEED'])]

let world: World
let database: Database
beforeAll(async () => {
  world = await World.start()
  database = databaseOf(world)
})
afterAll(async () => {
  await database.close()
  await world.close()
})

async function contentsOf(group: Group): Promise<Map<string, string>> {
  const read = new Map<string, string>()
  for (const object of await group.getMany(await group.list())) {
    const text = await object.text()
    if (object.name !== null) expect(object.name).toBe(text)
    read.set(idKey(object.id), text)
  }
  return read
}

/** What is read is what was written, as far as anybody can know. */
function assertExpected(life: GroupLife, read: ReadonlyMap<string, string>): void {
  for (const [key, { content, uncertain }] of life.objects) {
    const text = read.get(key) ?? null
    const allowed = [content, ...[...uncertain].map((attempt) => attempt.content)]
    if (!allowed.includes(text)) throw new Error(`${key} reads ${String(text)}, expected ${allowed.map(String).join(' or ')}`)
  }
  for (const [key, text] of read) if (!life.objects.has(key) && !life.maybe.has(text)) throw new Error(`nobody has written ${text}`)
}

describe('the life of a group', () => {
  for (const [index, seed] of SEEDS.entries()) {
    test(`by chance, number ${index + 1}, ends with everything readable to those who are in and to nobody else`, async () => {
      process.stdout.write(`group life: GROUP_LIFE_SEED=${seed}\n`)
      const random = new SeededRandom(seed)
      const life = await GroupLife.begin(world, database, { random, names: NAMES.slice(0, 3 + (seed % 3)) })
      try {
        for (let step = 0; step < STEPS; step += 1) await life.step()
        await assertEnd(life)
      } catch (error) {
        process.stdout.write(`${life.story.join('\n')}\n`)
        throw error
      } finally {
        for (const { client } of life.livers) client?.close()
      }
    })
  }
})

async function assertEnd(life: GroupLife): Promise<void> {
  await life.gather()
  const admin = life.admin()
  for (const { id } of admin.invites()) await admin.revokeInvite(id)
  await admin.rekey()
  const { id: last } = await admin.put('the last word')
  const outcome = await admin.rewrap()
  expect(outcome.retiredThrough).toBe(admin.epoch - 1)
  const inside = await life.gather()
  expect(findViolations(await readGroupRows(database, admin.id), () => false)).toEqual([])

  const read = await contentsOf(admin)
  expect(read.get(idKey(last))).toBe('the last word')
  read.delete(idKey(last))
  assertExpected(life, read)
  for (const { group } of inside) {
    if (group === null) throw new Error('everybody inside is online')
    expect(group.head).toEqual(admin.head)
    const own = await contentsOf(group)
    own.delete(idKey(last))
    expect(own).toEqual(read)
  }
  await assertShutOut(life, { admin, inside: new Set(inside.map(({ actor }) => actor.name)) })
}

/** Everything that somebody has ever held, with every token there was, opens nothing of what the database has now. */
async function assertShutOut(life: GroupLife, { admin, inside }: { admin: Group; inside: ReadonlySet<string> }): Promise<void> {
  for (const { liver, held, later } of life.formers) {
    const written = await attackObjects(database.pool, admin.id, { held, objects: later })
    expect({ who: liver.actor.name, opened: written.opened }).toEqual({ who: liver.actor.name, opened: 0 })
    if (inside.has(liver.actor.name)) continue
    const now = await collectKeys(liver.actor.store, admin.id, { tokens: life.tokens, database: database.pool })
    const keys = { kemKeys: now.kemKeys, secrets: new Map([...held.secrets, ...now.secrets]), deks: [...held.deks, ...now.deks] }
    expect((await attackKeys(database.pool, admin.id, keys)).opened).toBe(0)
  }
}
