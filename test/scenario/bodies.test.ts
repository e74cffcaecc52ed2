/** Big bodies: streamed in and out in bounded memory, never half there, never other than signed. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Group, GroupObject, ObjectId } from '../../client/node/index.ts'
import type { Database } from '../../server/storage/database.ts'
import { PostgresBodies } from '../../server/storage/postgres-bodies.ts'
import { concat, equalBytes } from '../../shared/bytes.ts'
import { openAesGcm, sealAesGcm } from '../../shared/crypto/aead.ts'
import { sha256 } from '../../shared/crypto/public-crypto.ts'
import { BODY_PART_BYTES, CHUNK_BYTES, INLINE_BODY_BYTES_MAX } from '../../shared/limits.ts'
import { chunkHash, SEALED_CHUNK_BYTES } from '../../shared/objects/body-layout.ts'
import { bodyKey, epochSealKeys, openDek } from '../../shared/objects/dek.ts'
import { decodeEnvelope } from '../../shared/objects/header.ts'
import type { Result } from '../../shared/protocol/messages.ts'
import { secretsIn } from '../../examples/demo/former-member.ts'
import type { CastMember } from '../support/cast.ts'
import { castGroup, databaseOf } from '../support/cast.ts'
import type { LyingServer } from '../support/lying-server.ts'
import { eventually, World } from '../support/world.ts'

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

const MiB = 1024 * 1024

/** Bytes that tell where they are. */
function pattern(length: number, from = 0): Uint8Array {
  const bytes = new Uint8Array(length)
  const view = new DataView(bytes.buffer)
  for (let at = 0; at + 4 <= length; at += 4) view.setUint32(at, (from + at) * 2_654_435_761)
  for (let at = length - (length % 4); at < length; at += 1) bytes[at] = from + at
  return bytes
}

async function* piecesOf(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let from = 0; from < bytes.length; from += size) yield bytes.subarray(from, from + size)
}

async function collect(pieces: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const all: Uint8Array[] = []
  for await (const piece of pieces) all.push(Uint8Array.from(piece))
  return concat(...all)
}

async function throughMallory({ actor, client, group }: CastMember): Promise<{ mallory: LyingServer; group: Group }> {
  client.close()
  const mallory = await world.mallory()
  const own = await (await world.connect(actor, { url: mallory.url })).group(group.id)
  await own.sync()
  return { mallory, group: own }
}

const bodiesOf = async (group: Group): Promise<string[]> =>
  (await world.sql<{ state: string }>('select state from bodies where group_id = $1 order by state', [group.id])).map(({ state }) => state)

/** What a stream released before it failed, and how it failed. */
async function releasedBefore(pieces: AsyncIterable<Uint8Array>): Promise<{ bytes: number; code: unknown }> {
  let bytes = 0
  try {
    for await (const piece of pieces) bytes += piece.length
    return { bytes, code: null }
  } catch (error) {
    return { bytes, code: error instanceof Error && 'code' in error ? error.code : error }
  }
}

describe('sizes', () => {
  test('every size around every boundary comes back as it went in, in one piece and streamed', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const boundaries = [0, 1, INLINE_BODY_BYTES_MAX, CHUNK_BYTES, 2 * CHUNK_BYTES, MiB, 16 * SEALED_CHUNK_BYTES - 256]
    const sizes = [...new Set(boundaries.flatMap((size) => [size - 1, size, size + 1]))].filter((size) => size >= 0)
    const written: { id: ObjectId; body: Uint8Array }[] = []
    for (const size of sizes) {
      const body = pattern(size)
      written.push({ id: (await alice.group.put(body)).id, body })
      written.push({ id: (await alice.group.put(piecesOf(body, 50_000))).id, body })
    }
    await bob.group.sync()
    const objects = await bob.group.getMany(written.map(({ id }) => id))
    for (const [index, object] of objects.entries()) {
      const { body } = written[index] ?? { body: new Uint8Array(0) }
      expect(object.length).toBe(body.length)
      expect(equalBytes(await object.bytes(), body)).toBe(true)
    }
  })

  test('a string of more bytes than characters is a body as any other', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const text = 'Ж'.repeat(INLINE_BODY_BYTES_MAX)
    const { id } = await alice.group.put(text)
    expect(await (await bob.group.get(id)).text()).toBe(text)
  })

  test('any range reads as that part of the whole', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const body = pattern(3 * MiB + 12_345)
    const { id } = await alice.group.put(body)
    const { id: small } = await alice.group.put(body.subarray(0, 1000))
    const object = await bob.group.get(id)
    const edges = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, MiB, 2 * MiB + 7, body.length - 1, body.length]
    for (const start of edges)
      for (const end of edges)
        if (start <= end) expect(equalBytes(await collect(object.stream(start, end)), body.subarray(start, end))).toBe(true)
    const inline = await bob.group.get(small)
    expect(await collect(inline.stream(10, 20))).toEqual(body.subarray(10, 20))
    expect(await collect(inline.stream(10, 10))).toEqual(new Uint8Array(0))
  })

  test('a range outside the body is the caller’s mistake, inline or not', async () => {
    const { alice } = await castGroup(world, {})
    for (const size of [10, 100_000]) {
      const object = await alice.group.get((await alice.group.put(pattern(size))).id)
      for (const [start, end] of [
        [-1, 5],
        [5, 4],
        [0, size + 1],
        [0.5, 2],
      ])
        await expect(collect(object.stream(start, end))).rejects.toBeInstanceOf(RangeError)
    }
  })

  test('a range of a big body costs the chunks it touches', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const { id } = await alice.group.put(pattern(8 * MiB))
    const { mallory, group } = await throughMallory(bob)
    const object = await group.get(id)
    await collect(object.stream(5 * MiB, 5 * MiB + 10))
    const asked = mallory.requests.filter(({ method }) => method === 'body.read')
    expect(asked).toHaveLength(1)
    expect(asked[0]?.params).toMatchObject({ bytes: SEALED_CHUNK_BYTES })
  })

  test('many big bodies go up side by side', async () => {
    const { alice } = await castGroup(world, {})
    const bodies = Array.from({ length: 24 }, (_, index) => pattern(300_000 + index, index))
    const receipts = await Promise.all(bodies.map((body) => alice.group.put(piecesOf(body, 70_000))))
    const objects = await alice.group.getMany(receipts.map(({ id }) => id))
    for (const [index, object] of objects.entries()) expect(equalBytes(await object.bytes(), bodies[index] ?? new Uint8Array(0))).toBe(true)
  })
})

describe('64 MiB', () => {
  test('are streamed in and out in bounded memory', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const total = 64 * MiB
    let highest = 0
    const watch = (): void => {
      highest = Math.max(highest, process.memoryUsage.rss())
    }
    const hash = (left: Uint8Array, right: Uint8Array): Uint8Array => sha256(left, right)
    let [sent, received]: [Uint8Array, Uint8Array] = [new Uint8Array(32), new Uint8Array(32)]
    const source = async function* (): AsyncGenerator<Uint8Array> {
      for (let from = 0; from < total; from += CHUNK_BYTES) {
        const piece = pattern(CHUNK_BYTES, from)
        sent = hash(sent, piece)
        watch()
        yield piece
      }
    }
    // What is loaded and cached once is not what is measured.
    await (await bob.group.get((await alice.group.put(pattern(2 * MiB))).id)).bytes()
    const before = process.memoryUsage.rss()
    const { id } = await alice.group.put(source())
    const object = await bob.group.get(id)
    let length = 0
    for await (const piece of object.stream()) {
      received = hash(received, piece)
      length += piece.length
      watch()
    }
    expect(length).toBe(total)
    expect(received).toEqual(sent)
    // The server of this test lives in the same process: both ends and the database’s driver are in it.
    process.stdout.write(`64 MiB in and out: RSS grew by ${Math.round((highest - before) / MiB)} MiB\n`)
    expect(highest - before).toBeLessThan(total)
  })
})

describe('an upload', () => {
  test('that is cut goes on with the part it was at', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const { mallory, group } = await throughMallory(bob)
    const body = pattern(5 * MiB + 99)
    let frames = 0
    mallory.lie('body.write', async (params, truth) => {
      frames += 1
      // The third part: two of its frames have got through.
      if (frames === 11) mallory.cut()
      return truth(params)
    })
    const { id } = await group.put(piecesOf(body, 33_333))
    await alice.group.sync()
    expect(equalBytes(await (await alice.group.get(id)).bytes(), body)).toBe(true)
    const parts = mallory.requests.flatMap(({ method, params }) => (method === 'body.write' ? [(params as { part: number }).part] : []))
    expect(parts.filter((part) => part < 2)).toHaveLength(8)
    expect(mallory.count('body.begin')).toBe(1)
  })

  test('whose beginning or end is not acknowledged is not begun or ended twice', async () => {
    const { bob } = await castGroup(world, { bob: {} })
    const { mallory, group } = await throughMallory(bob)
    const once = <Answer>(): ((truth: () => Promise<Answer>) => Promise<Answer>) => {
      let calls = 0
      return async (truth) => {
        const answer = await truth()
        calls += 1
        if (calls === 1) mallory.cut()
        return answer
      }
    }
    const [atBegin, atEnd] = [once<Result<'body.begin'>>(), once<Result<'body.complete'>>()]
    mallory.lie('body.begin', (_, truth) => atBegin(truth))
    mallory.lie('body.complete', (_, truth) => atEnd(truth))
    for (const body of [pattern(MiB), pattern(MiB, 1)]) {
      const { id } = await group.put(piecesOf(body, MiB))
      expect(equalBytes(await (await group.get(id)).bytes(), body)).toBe(true)
    }
    expect([mallory.count('body.begin'), mallory.count('body.complete')]).toEqual([3, 3])
    expect(await bodiesOf(group)).toEqual(['live', 'live'])
  })

  test('is never half visible: nobody can read it before its object is written', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const { mallory, group } = await throughMallory(bob)
    const seen: string[][] = []
    const look = async (): Promise<void> => {
      seen.push(await bodiesOf(group))
      expect(await alice.group.list()).toEqual([])
    }
    mallory.lie('body.write', (_, truth) => look().then(() => truth()))
    mallory.lie('body.complete', (_, truth) => look().then(() => truth()))
    mallory.lie('object.put', (_, truth) => look().then(() => truth()))
    await group.put(pattern(MiB))
    expect(new Set(seen.map(([state]) => state))).toEqual(new Set(['uploading', 'complete']))
    expect(await bodiesOf(group)).toEqual(['live'])
  })

  test('can be aborted, even while its source hangs, and leaves nothing that is read', async () => {
    const { alice } = await castGroup(world, {})
    const abort = new AbortController()
    const source = async function* (): AsyncGenerator<Uint8Array> {
      yield pattern(2 * MiB)
      queueMicrotask(() => abort.abort(new Error('enough')))
      await new Promise(() => undefined)
    }
    await expect(alice.group.put(source(), { signal: abort.signal })).rejects.toThrow('enough')
    await expect(alice.group.put('x', { signal: AbortSignal.abort(new Error('never')) })).rejects.toThrow('never')
    expect(await alice.group.list()).toEqual([])
    expect(await bodiesOf(alice.group)).toEqual(['uploading'])
  })

  test('whose source fails fails with it', async () => {
    const { alice } = await castGroup(world, {})
    const source = async function* (): AsyncGenerator<Uint8Array> {
      yield pattern(MiB)
      throw new Error('the disk is gone')
    }
    await expect(alice.group.put(source())).rejects.toThrow('the disk is gone')
    expect(await alice.group.list()).toEqual([])
  })

  test('of nobody is collected in the end, and one that is used is not', async () => {
    const { alice } = await castGroup(world, {})
    const failing = async function* (): AsyncGenerator<Uint8Array> {
      yield pattern(2 * MiB)
      throw new Error('given up')
    }
    await expect(alice.group.put(failing())).rejects.toThrow('given up')
    const { id } = await alice.group.put(pattern(MiB))
    await alice.group.put(pattern(MiB, 1), { id })
    const { id: deleted } = await alice.group.put(pattern(MiB))
    await alice.group.delete(deleted)
    expect(await bodiesOf(alice.group)).toEqual(['live', 'orphan', 'orphan', 'uploading'])
    await world.sql("update bodies set since = now() - interval '2 days' where group_id = $1", [alice.group.id])
    const collector = new PostgresBodies(database)
    while (await collector.collect());
    expect(await bodiesOf(alice.group)).toEqual(['live'])
    const parts = await world.sql('select distinct body_id from body_parts where group_id = $1', [alice.group.id])
    expect(parts).toHaveLength(1)
    expect(equalBytes(await (await alice.group.get(id)).bytes(), pattern(MiB, 1))).toBe(true)
  })
})

describe('a download', () => {
  test('that is cut goes on where it was', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const body = pattern(4 * MiB)
    const { id } = await alice.group.put(body)
    const { mallory, group } = await throughMallory(bob)
    let reads = 0
    mallory.lie('body.read', async (_, truth) => {
      reads += 1
      if (reads === 7) mallory.cut()
      return truth()
    })
    expect(equalBytes(await (await group.get(id)).bytes(), body)).toBe(true)
  })

  test('of a version that has been replaced reads to its end', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const body = pattern(3 * MiB)
    const { id } = await alice.group.put(body)
    const object: GroupObject = await bob.group.get(id)
    const stream = object.stream()[Symbol.asyncIterator]()
    const first = await stream.next()
    await alice.group.put(pattern(MiB, 5), { id })
    await alice.group.delete(id)
    const rest = await collect({ [Symbol.asyncIterator]: () => stream })
    expect(equalBytes(concat(first.done === true ? new Uint8Array(0) : first.value, rest), body)).toBe(true)
  })

  test('that nobody reads on from stops asking', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const { id } = await alice.group.put(pattern(8 * MiB))
    const { mallory, group } = await throughMallory(bob)
    for await (const piece of (await group.get(id)).stream()) {
      expect(piece.length).toBeGreaterThan(0)
      break
    }
    expect(mallory.count('body.read')).toBeLessThan(10)
  })
})

describe('a stored body that is not the signed one', () => {
  const CHUNK = 20
  /** Changes what is stored of one body’s ciphertext. */
  const tamper = (id: ObjectId, sql: string): Promise<unknown> =>
    world.sql(
      `update body_parts p set data = ${sql} from objects o where o.object_id = $1 and p.group_id = o.group_id and p.body_id = o.body_id and p.part = ${Math.floor((CHUNK * SEALED_CHUNK_BYTES) / BODY_PART_BYTES)}`,
      [id],
    )
  const offset = (CHUNK * SEALED_CHUNK_BYTES) % BODY_PART_BYTES

  test('A24: a flipped bit fails at its chunk, and nothing of the chunk is released', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const body = pattern(3 * MiB)
    const { id } = await alice.group.put(body)
    await tamper(id, `set_byte(p.data, ${offset + 9}, get_byte(p.data, ${offset + 9}) # 1)`)
    const object = await bob.group.get(id)
    expect(await releasedBefore(object.stream())).toEqual({ bytes: CHUNK * CHUNK_BYTES, code: 'body_invalid' })
    expect(await releasedBefore(object.stream(CHUNK * CHUNK_BYTES + 5, CHUNK * CHUNK_BYTES + 6))).toEqual({
      bytes: 0,
      code: 'body_invalid',
    })
    // What is before and after it reads.
    expect(equalBytes(await collect(object.stream(0, CHUNK * CHUNK_BYTES)), body.subarray(0, CHUNK * CHUNK_BYTES))).toBe(true)
    expect(equalBytes(await collect(object.stream((CHUNK + 1) * CHUNK_BYTES)), body.subarray((CHUNK + 1) * CHUNK_BYTES))).toBe(true)
  })

  test('A72: a chunk that a reader has encrypted anew under the same key and nonce is refused before it is released', async () => {
    const { alice, mallory } = await castGroup(world, { mallory: { role: 'reader' } })
    const { id } = await alice.group.put(pattern(3 * MiB))
    await (await mallory.group.get(id)).bytes()
    const [row] = await world.sql<{ header: Uint8Array; seal: Uint8Array; data: Uint8Array }>(
      `select o.header, l.seal, p.data from objects o join loose_deks l using (group_id, object_id) join body_parts p on p.body_id = o.body_id and p.part = ${Math.floor((CHUNK * SEALED_CHUNK_BYTES) / BODY_PART_BYTES)} where o.object_id = $1`,
      [id],
    )
    if (row === undefined) throw new Error('the object is stored')
    const { header } = decodeEnvelope(Uint8Array.from(row.header))
    const secret = (await secretsIn(mallory.actor.store, mallory.group.id)).get(header.epoch)
    if (secret === undefined) throw new Error('mallory has read it')
    const dek = openDek(epochSealKeys(secret, { group: header.group, epoch: header.epoch }), header, Uint8Array.from(row.seal))
    const key = bodyKey(dek, { group: header.group, object: id, generation: header.generation })
    const nonce = new Uint8Array(12)
    new DataView(nonce.buffer).setUint32(7, CHUNK)
    const data = Uint8Array.from(row.data)
    const old = data.subarray(offset, offset + SEALED_CHUNK_BYTES)
    expect((await openAesGcm(key, nonce, new Uint8Array(0), old)).length).toBe(CHUNK_BYTES)
    const forged = await sealAesGcm(key, nonce, new Uint8Array(0), new Uint8Array(CHUNK_BYTES).fill(66))
    expect(equalBytes(chunkHash(forged), chunkHash(old))).toBe(false)
    data.set(forged, offset)
    await world.sql('update body_parts p set data = $2 from objects o where o.object_id = $1 and p.body_id = o.body_id and p.part = $3', [
      id,
      data,
      Math.floor((CHUNK * SEALED_CHUNK_BYTES) / BODY_PART_BYTES),
    ])
    const object = await alice.group.get(id)
    expect(await releasedBefore(object.stream())).toEqual({ bytes: CHUNK * CHUNK_BYTES, code: 'body_invalid' })
    expect(await releasedBefore(object.stream(CHUNK * CHUNK_BYTES, CHUNK * CHUNK_BYTES + 1))).toEqual({ bytes: 0, code: 'body_invalid' })
  })

  test('A24: parts that are gone, exchanged, shortened or too long are errors, never a shorter body', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const ofBody =
      'group_id = (select group_id from objects where object_id = $1) and body_id = (select body_id from objects where object_id = $1)'
    const attacks = {
      'the last part is gone': `delete from body_parts where ${ofBody} and part = 2`,
      'a part in the middle is gone': `delete from body_parts where ${ofBody} and part = 1`,
      'the last part is shorter': `update body_parts set data = substring(data for octet_length(data) - 16) where ${ofBody} and part = 2`,
      'two parts are exchanged': `update body_parts p set data = o.data from body_parts o where p.body_id = o.body_id and p.part + o.part = 1 and p.group_id = o.group_id and p.body_id = (select body_id from objects where object_id = $1)`,
      'all parts are gone': `delete from body_parts where ${ofBody}`,
      'the list is cut': `update bodies set hashes = substring(hashes for octet_length(hashes) - 32) where ${ofBody}`,
      'the list is another': `update bodies set hashes = set_byte(hashes, 5, get_byte(hashes, 5) # 1) where ${ofBody}`,
    }
    for (const [name, attack] of Object.entries(attacks)) {
      const { id } = await alice.group.put(pattern(2 * MiB + 5))
      await world.sql(attack, [id])
      const { code } = await releasedBefore((await bob.group.get(id)).stream())
      expect({ name, code }).toEqual({ name, code: 'body_invalid' })
    }
  })

  test('A24: a longer answer than was asked for is refused', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const { id } = await alice.group.put(pattern(CHUNK_BYTES * 3))
    const { mallory, group } = await throughMallory(bob)
    mallory.lie('body.read', async (_, truth) => ({ data: concat((await truth()).data, new Uint8Array(100)) }))
    expect(await releasedBefore((await group.get(id)).stream())).toMatchObject({ code: 'body_invalid' })
    mallory.lie('body.read', () => ({ data: new Uint8Array(0) }))
    expect(await releasedBefore((await group.get(id)).stream())).toEqual({ bytes: 0, code: 'body_invalid' })
  })
})

test('closing a client in mid-upload ends the upload and nothing else', async () => {
  const { alice, bob } = await castGroup(world, { bob: {} })
  let isUnderWay = false
  const source = async function* (): AsyncGenerator<Uint8Array> {
    for (let from = 0; ; from += MiB) {
      yield pattern(MiB, from)
      isUnderWay = from > 0
    }
  }
  const upload = bob.group.put(source())
  upload.catch(() => undefined)
  await eventually(() => isUnderWay)
  bob.client.close()
  await expect(upload).rejects.toMatchObject({ code: 'closed' })
  const { id } = await alice.group.put(pattern(MiB))
  expect((await alice.group.get(id)).length).toBe(MiB)
})
