/** What a server that lies about objects, a member who forges them, and somebody who was removed can do: make reads fail, nothing else. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { attackKeys, attackObjects, collectKeys, secretsIn } from '../../examples/demo/former-member.ts'
import type { Group, ObjectId } from '../../client/node/index.ts'
import { MemoryStore } from '../../client/node/index.ts'
import type { Database } from '../../server/storage/database.ts'
import { equalBytes } from '../../shared/bytes.ts'
import { decodeCanonical, encodeCanonical } from '../../shared/codec.ts'
import { randomBytes } from '../../shared/crypto/public-crypto.ts'
import { INLINE_BODY_BYTES_MAX } from '../../shared/limits.ts'
import { bodyHash, chunkHash } from '../../shared/objects/body-layout.ts'
import { dekCommitment, epochSealKeys, generateDek, openDek, sealDek } from '../../shared/objects/dek.ts'
import type { SignedHeader } from '../../shared/objects/header.ts'
import { decodeEnvelope } from '../../shared/objects/header.ts'
import { signHeader } from '../../shared/objects/header-signing.ts'
import { sealMetadata } from '../../shared/objects/metadata.ts'
import type { CastMember } from '../support/cast.ts'
import { castGroup, databaseOf } from '../support/cast.ts'
import { World } from '../support/world.ts'

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

const BIG = INLINE_BODY_BYTES_MAX + 1

/** Exchanges one column or more of two rows of the objects table. */
async function swapColumns(columns: readonly string[], left: ObjectId, right: ObjectId): Promise<void> {
  const pairs = columns.map((column) => `${column} = other.${column}`).join(', ')
  await world.sql(
    `update objects o set ${pairs} from objects other where o.object_id = any($1) and other.object_id = any($1) and o.object_id <> other.object_id`,
    [[left, right]],
  )
}

async function swapSeals(left: ObjectId, right: ObjectId): Promise<void> {
  await world.sql(
    'update loose_deks o set seal = other.seal from loose_deks other where o.object_id = any($1) and other.object_id = any($1) and o.object_id <> other.object_id',
    [[left, right]],
  )
}

async function storedHeader(id: ObjectId): Promise<SignedHeader> {
  const [row] = await world.sql<{ header: Uint8Array }>('select header from objects where object_id = $1', [id])
  return decodeEnvelope(Uint8Array.from(row?.header ?? []))
}

async function storeHeader(id: ObjectId, envelope: Uint8Array): Promise<void> {
  await world.sql('update objects set header = $2 where object_id = $1', [id, envelope])
}

/** An object’s rows, to be put back later as an older state of the database. */
async function rowsOf(id: ObjectId): Promise<{ restore(): Promise<void> }> {
  const [object] = await world.sql('select version, generation, header, header_hash, body from objects where object_id = $1', [id])
  const [dek] = await world.sql('select generation, seal from loose_deks where object_id = $1', [id])
  return {
    restore: async () => {
      await world.sql('update objects set version = $2, generation = $3, header = $4, header_hash = $5, body = $6 where object_id = $1', [
        id,
        ...Object.values(object ?? {}),
      ])
      await world.sql('update loose_deks set generation = $2, seal = $3 where object_id = $1', [id, ...Object.values(dek ?? {})])
    },
  }
}

const read = async (group: Group, id: ObjectId): Promise<string> => (await group.get(id)).text()

/** A client of the same person that knows nothing yet but the group itself: everything it is shown it sees for the first time. */
async function fresh({ actor, group }: CastMember): Promise<Group> {
  const known = await actor.store.getAll('')
  const store = new MemoryStore()
  await store.write(new Map([...known].filter(([key]) => !key.includes('/object/') && !key.endsWith('/cursor'))))
  return (await world.connect({ ...actor, store })).group(group.id)
}

describe('a server that shows other rows', () => {
  test('A25: the seal of one object’s DEK under another opens neither, and the others read on', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const [a, b, c] = await alice.group.putMany([{ body: 'a' }, { body: 'b' }, { body: 'c' }])
    if (a === undefined || b === undefined || c === undefined) throw new Error('three objects were written')
    await swapSeals(a.id, b.id)
    for (const group of [alice.group, bob.group, await fresh(bob)]) {
      await expect(group.get(a.id)).rejects.toMatchObject({ code: 'decryption_failed', data: { object: a.id } })
      await expect(group.get(b.id)).rejects.toMatchObject({ code: 'decryption_failed' })
      expect(await read(group, c.id)).toBe('c')
    }
  })

  test('A25: one object’s body under another’s header is refused before anything of it is released', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const { id: a } = await alice.group.put('the body of a')
    const { id: b } = await alice.group.put('the body of b')
    const { id: big } = await alice.group.put(new Uint8Array(BIG).fill(1))
    const { id: other } = await alice.group.put(new Uint8Array(BIG).fill(2))
    await swapColumns(['body'], a, b)
    await swapColumns(['body_id'], big, other)
    for (const id of [a, b, big, other]) await expect((await bob.group.get(id)).bytes()).rejects.toMatchObject({ code: 'body_invalid' })
  })

  test('A26: names cannot be swapped: the header of one object is not that of another', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const { id: a } = await alice.group.put('a', { name: 'a.txt' })
    const { id: b } = await alice.group.put('b', { name: 'b.txt' })
    await swapColumns(['header', 'header_hash'], a, b)
    for (const group of [bob.group, await fresh(bob)]) {
      await expect(group.get(a)).rejects.toMatchObject({ code: 'object_fork' })
      await expect(group.get(b)).rejects.toMatchObject({ code: 'object_fork' })
    }
  })

  test('A26: metadata in another header breaks its signature', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const { id: a } = await alice.group.put('a', { name: 'a.txt' })
    const { id: b } = await alice.group.put('b', { name: 'b.txt' })
    const [left, right] = [await storedHeader(a), await storedHeader(b)]
    await storeHeader(
      a,
      encodeCanonical({
        header: encodeCanonical({ ...left.header, metadata: right.header.metadata }),
        signature: left.signature,
        batch: null,
      }),
    )
    await expect((await fresh(bob)).get(a)).rejects.toMatchObject({ code: 'invalid_signature' })
    // Who holds the true version is shown a second one of the same number.
    await expect(bob.group.get(a)).rejects.toMatchObject({ code: expect.stringMatching(/object_fork|invalid_signature/) })
  })

  test('an object that vanishes is withheld, not missing, also after a restart', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const { id } = await alice.group.put('here')
    await bob.group.sync()
    await world.sql('delete from objects where object_id = $1', [id])
    await expect(bob.group.get(id)).rejects.toMatchObject({ code: 'withheld', data: { object: id } })
    bob.client.close()
    const again = await (await world.connect(bob.actor)).group(bob.group.id)
    await expect(again.get(id)).rejects.toMatchObject({ code: 'withheld' })
  })

  test('an older version is a fork to whoever has seen the newer one, also after a restart', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const { id } = await alice.group.put('one')
    const older = await rowsOf(id)
    await alice.group.put('two', { id })
    await bob.group.sync()
    await older.restore()
    await expect(bob.group.get(id)).rejects.toMatchObject({ code: 'object_fork', data: { object: id } })
    bob.client.close()
    const again = await (await world.connect(bob.actor)).group(bob.group.id)
    await expect(again.get(id)).rejects.toMatchObject({ code: 'object_fork' })
    // Somebody who has seen neither cannot tell: a fresh client is promised no fresh versions.
    expect(await read(await fresh(alice), id)).toBe('one')
  })

  test('two second versions on one first: who holds one refuses the other, with both as evidence', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const { id } = await alice.group.put('one')
    const older = await rowsOf(id)
    await alice.group.put('two for bob', { id })
    await bob.group.sync()
    expect(await read(bob.group, id)).toBe('two for bob')
    // The server forgets the second version and lets a client of alice that has not seen it write another.
    await older.restore()
    await (await fresh(alice)).put('two for carol', { id })
    await expect(bob.group.get(id)).rejects.toMatchObject({
      code: 'object_fork',
      data: { rule: 'O12_versionGrows', held: expect.any(Uint8Array), offered: expect.any(Uint8Array) },
    })
  })

  test('a seal that lost bits is an error and never other content', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const { id } = await alice.group.put('content')
    await world.sql('update loose_deks set seal = set_byte(seal, 30, get_byte(seal, 30) # 1) where object_id = $1', [id])
    await expect(bob.group.get(id)).rejects.toMatchObject({ code: 'decryption_failed' })
    // The next write of the object heals it.
    await alice.group.put('again', { id })
    await bob.group.sync()
    expect(await read(bob.group, id)).toBe('again')
  })

  test('an answer with too few objects or results is malformed', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const { id } = await alice.group.put('one')
    const mallory = await world.mallory()
    bob.client.close()
    const group = await (await world.connect(bob.actor, { url: mallory.url })).group(bob.group.id)
    mallory.lie('object.get', async (_, truth) => ({ ...(await truth()), objects: [] }))
    await expect(group.get(id)).rejects.toMatchObject({ code: 'malformed' })
    mallory.lie('object.put', () => ({ results: [] }))
    await expect(group.put('x')).rejects.toMatchObject({ code: 'malformed' })
  })
})

describe('a member who forges', () => {
  test('A39: what mallory signs as alice is refused, though the server lets it through', async () => {
    const { alice, mallory, bob } = await castGroup(world, { mallory: {}, bob: {} })
    const { id } = await mallory.group.put('by mallory')
    const { header } = await storedHeader(id)
    await storeHeader(id, await signHeader(mallory.actor.identity.signer, { ...header, author: alice.client.id }))
    await expect((await fresh(bob)).get(id)).rejects.toMatchObject({ code: 'invalid_signature' })
  })

  test('A40: a DEK other than the committed one is refused, though its seal opens and the body would', async () => {
    const { alice, mallory } = await castGroup(world, { mallory: {} })
    const { id } = await mallory.group.put('one')
    const { header } = await storedHeader(id)
    const [row] = await world.sql<{ seal: Uint8Array }>('select seal from loose_deks where object_id = $1', [id])
    const secret = (await secretsIn(mallory.actor.store, mallory.group.id)).get(header.epoch)
    if (secret === undefined) throw new Error('mallory has the secret of that epoch')
    const keys = epochSealKeys(secret, { group: header.group, epoch: header.epoch })
    const other = generateDek()
    expect(equalBytes(openDek(keys, header, Uint8Array.from(row?.seal ?? [])), other)).toBe(false)
    await world.sql('update loose_deks set seal = $2 where object_id = $1', [id, sealDek(keys, header, other)])
    await expect(alice.group.get(id)).rejects.toMatchObject({ code: 'dek_invalid' })
  })

  test('A27: a header of another version or with an unknown field is refused', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const { id } = await alice.group.put('one')
    const { headerBytes, signature } = await storedHeader(id)
    const plain = decodeCanonical(headerBytes) as Record<string, unknown>
    for (const changed of [
      { ...plain, v: 0 },
      { ...plain, compression: 'none' },
    ]) {
      await storeHeader(id, encodeCanonical({ header: encodeCanonical(changed), signature, batch: null }))
      await expect((await fresh(bob)).get(id)).rejects.toMatchObject({ code: 'malformed' })
    }
  })
})

describe('somebody who was removed', () => {
  test('A33: the DEK she had of an object does not open what is written after her removal', async () => {
    const { alice, carol } = await castGroup(world, { carol: {} })
    const { id } = await alice.group.put('before')
    await carol.group.sync()
    expect(await read(carol.group, id)).toBe('before')
    const held = await collectKeys(carol.actor.store, alice.group.id, { tokens: [], database: database.pool })
    expect(held.deks.length).toBeGreaterThan(0)
    const control = await attackObjects(database.pool, alice.group.id, { held, objects: [id] })
    expect(control.opened).toBeGreaterThan(0)
    const receipt = await alice.group.remove(carol.client.id)
    await alice.group.put('after', { id })
    expect(await attackObjects(database.pool, alice.group.id, { held, objects: [id] })).toMatchObject({ opened: 0 })
    await receipt.finished
    const everything = await attackKeys(database.pool, alice.group.id, held)
    expect(everything.tried).toBeGreaterThan(0)
    expect(everything.opened).toBe(0)
  })

  test('A37: an object unchanged since the removal opens with a DEK she kept: this is what reencrypt is for', async () => {
    const { alice, carol } = await castGroup(world, { carol: {} })
    const { id } = await alice.group.put('unchanged')
    await carol.group.sync()
    expect(await read(carol.group, id)).toBe('unchanged')
    const held = await collectKeys(carol.actor.store, alice.group.id, { tokens: [], database: database.pool })
    await (
      await alice.group.remove(carol.client.id)
    ).finished
    const { opened } = await attackObjects(database.pool, alice.group.id, { held, objects: [id] })
    expect(opened).toBeGreaterThan(0)
  })

  test('A73: a header that she dates before her removal is refused by whoever was there, and by everybody once its epoch is retired', async () => {
    const { alice, bob, carol } = await castGroup(world, { bob: {}, carol: {} })
    const { id } = await carol.group.put('hers, from before')
    for (const { group } of [alice, bob]) await group.sync()
    const forged = await backdated(carol, id)
    const receipt = await alice.group.remove(carol.client.id)
    await bob.group.sync()
    // The server helps her: it stores the version as if it had come in time.
    await forged.store()
    await expect(bob.group.get(id)).rejects.toMatchObject({ code: 'stale_epoch' })
    await expect(alice.group.get(id)).rejects.toMatchObject({ code: 'stale_epoch' })
    await receipt.finished
    await forged.store()
    const dave = await world.person('dave')
    const daveGroup = await (await world.connect(dave)).join(await alice.group.invite())
    await expect(daveGroup.get(id)).rejects.toMatchObject({ code: expect.stringMatching(/dek_invalid|page_invalid|gave_up/) })
  })
})

/** A next version, made with all that somebody had before her removal, and put into the database by the server’s own hand. */
async function backdated({ actor, group }: CastMember, id: ObjectId): Promise<{ store(): Promise<void> }> {
  const stored = await storedHeader(id)
  const dek = generateDek()
  const generation = stored.header.version + 1
  const of = { group: group.id, object: id, generation }
  const sealed = randomBytes(17)
  const envelope = await signHeader(actor.identity.signer, {
    ...stored.header,
    version: generation,
    generation,
    previous: stored.hash,
    dekCommitment: dekCommitment(dek, of),
    bodyLength: 1,
    bodyHash: bodyHash({ suite: 1, length: 1, hashes: chunkHash(sealed) }),
    metadata: sealMetadata(dek, of, {}),
  })
  const secret = (await secretsIn(actor.store, group.id)).get(stored.header.epoch)
  if (secret === undefined) throw new Error('she had the secret of that epoch')
  const seal = sealDek(epochSealKeys(secret, { group: group.id, epoch: stored.header.epoch }), { object: id, generation }, dek)
  return {
    store: async () => {
      await world.sql(
        'update objects set version = $2, generation = $3, header = $4, header_hash = $5, body = $6, body_id = null where object_id = $1',
        [id, generation, generation, envelope, decodeEnvelope(envelope).hash, sealed],
      )
      await world.sql(
        'insert into loose_deks (group_id, object_id, generation, epoch, seal) values ($1, $2, $3, $4, $5) on conflict do nothing',
        [group.id, id, generation, stored.header.epoch, seal],
      )
    },
  }
}
