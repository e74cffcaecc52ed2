import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { concat } from '../../shared/bytes.ts'
import { asBodyId, asCommitHash, asObjectId, asPageId, PROFILE_OBJECT_ID } from '../../shared/ids.ts'
import { BODY_FRAME_BYTES, BODY_PART_BYTES, INLINE_BODY_BYTES_MAX, OBJECTS_ANSWER_BYTES } from '../../shared/limits.ts'
import { randomBytes } from '../../shared/crypto/public-crypto.ts'
import { bodyHash, chunkHash, SEALED_CHUNK_BYTES } from '../../shared/objects/body-layout.ts'
import { decodeEnvelope } from '../../shared/objects/header.ts'
import { LOOSE_SEAL_BYTES as SEALED_DEK_BYTES } from '../../shared/objects/dek.ts'
import type { PutItem, PutResult } from '../../shared/protocol/messages.ts'
import { LOOSE_SEAL_BYTES } from '../../server/object-judge.ts'
import { ops } from '../support/forge.ts'
import { LiveGroup } from '../support/live-group.ts'
import type { PutOptions } from '../support/live-group.ts'
import type { Person } from '../support/people.ts'
import { people } from '../support/people.ts'
import type { RawClient } from '../support/raw-client.ts'
import { ServerStage } from '../support/server-stage.ts'

let stage: ServerStage
let cast: Record<'alice' | 'bob' | 'carol', Person>
let alice: RawClient
let bob: RawClient
let group: LiveGroup

beforeAll(async () => {
  stage = await ServerStage.start()
  await stage.addServer()
  cast = await people('alice', 'bob', 'carol')
  alice = await stage.open(cast.alice)
  bob = await stage.open(cast.bob, { server: 1 })
})
beforeEach(async () => {
  group = await LiveGroup.found(alice, cast.alice)
  await group.commit(alice, { author: cast.alice, ops: [ops.add(cast.bob, 'member'), ops.add(cast.carol, 'reader')] })
})
afterAll(() => stage.close())

/** The code with which one item of a put is refused. */
async function refusedFor(options: PutOptions, author = cast.alice, client = alice): Promise<string> {
  const [result] = await group.put(client, [await group.item(author, options)])
  return codeOf(result)
}

function codeOf(result: PutResult | undefined): string {
  return result?.state === 'refused' ? result.code : 'accepted'
}

describe('writing', () => {
  it('is read by everybody, whichever process they reach', async () => {
    const body = randomBytes(500)
    const written = await group.write(alice, cast.alice, { body })
    const { objects, seq } = await bob.request('object.get', {
      group: group.id,
      objects: [written.header.object, asObjectId(randomBytes(16))],
      openPages: [],
    })
    expect(seq).toBe(group.state.head.seq)
    expect(objects[0]?.header).toEqual(new Uint8Array(written.bytes))
    expect([objects[0]?.body?.length, objects[0]?.dek?.kind, objects[1]]).toEqual([516, 'loose', null])
    expect((await bob.request('object.headers', { group: group.id, objects: [written.header.object] })).headers[0]).toEqual(
      new Uint8Array(written.bytes),
    )
  })

  it('is read in answers of bounded length, each with the first ones that fit', async () => {
    const items = await Promise.all(Array.from({ length: 400 }, () => group.item(cast.alice, { body: randomBytes(INLINE_BODY_BYTES_MAX) })))
    for (let from = 0; from < items.length; from += 200) await group.put(alice, items.slice(from, from + 200))
    const asked = items.map(({ header }) => decodeEnvelope(header).header.object)
    const first = await bob.request('object.get', { group: group.id, objects: asked, openPages: [] })
    expect(first.objects.length).toBeGreaterThan(200)
    expect(first.objects.length).toBeLessThan(OBJECTS_ANSWER_BYTES / INLINE_BODY_BYTES_MAX)
    const rest = await bob.request('object.get', { group: group.id, objects: asked.slice(first.objects.length), openPages: [] })
    expect([...first.objects, ...rest.objects].map((object) => object?.header)).toEqual(items.map(({ header }) => new Uint8Array(header)))
  })

  it('numbers changes without a gap', async () => {
    const results = await group.put(alice, [await group.item(cast.alice), await group.item(cast.alice), await group.item(cast.alice)])
    expect(results.map((result) => (result.state === 'accepted' ? result.change : 0))).toEqual([3, 4, 5])
    expect((await alice.request('log.head', { group: group.id })).change).toBe(5)
  })

  it('a bad item never fails its neighbours', async () => {
    const good = await group.item(cast.alice)
    const bad = await group.item(cast.alice, { header: { author: cast.bob.id } })
    const [one, two, three] = await group.put(alice, [good, bad, await group.item(cast.alice)])
    expect([codeOf(one), codeOf(two), codeOf(three)]).toEqual(['accepted', 'not_authorised', 'accepted'])
  })

  it('two objects of a batch that name one body are refused as a whole', async () => {
    const bodyId = asBodyId(randomBytes(16))
    const items = (await Promise.all([group.item(cast.alice), group.item(cast.alice)])).map((item) => ({ ...item, body: null, bodyId }))
    const { head, roster } = group.state
    expect((await alice.refusal('object.put', { group: group.id, seq: head.seq, epoch: roster.epoch, items })).code).toBe('malformed')
  })

  it('one object twice in a batch is refused as a whole', async () => {
    const object = asObjectId(randomBytes(16))
    const { head, roster } = group.state
    const items = [await group.item(cast.alice, { object }), await group.item(cast.alice, { object })]
    expect((await alice.refusal('object.put', { group: group.id, seq: head.seq, epoch: roster.epoch, items })).code).toBe('malformed')
  })

  it('in the name of somebody else is refused', async () => {
    expect(await refusedFor({ header: { author: cast.bob.id } })).toBe('not_authorised')
    expect(await refusedFor({}, cast.alice, bob)).toBe('not_authorised')
  })

  it('with a signature by another key is refused', async () => {
    const forged: Person = { ...cast.alice, signer: cast.bob.signer }
    expect(await refusedFor({}, forged)).toBe('invalid_signature')
  })

  it('for another group, epoch or head is refused', async () => {
    const other = await LiveGroup.found(alice, cast.alice)
    expect(await refusedFor({ header: { group: other.id } })).toBe('rule_violated')
    expect(await refusedFor({ header: { epoch: 1 } })).toBe('stale_epoch')
    expect(await refusedFor({ header: { at: { ...group.state.head, hash: asCommitHash(randomBytes(32)) } } })).toBe('bad_head')
    expect(await refusedFor({ header: { at: { ...group.state.head, seq: 99 } } })).toBe('bad_head')
    expect(await refusedFor({ header: { at: other.state.head } })).toBe('bad_head')
  })

  it('at an earlier head of the same epoch is accepted, but not before the version it replaces', async () => {
    const early = group.state.head
    await group.commit(alice, { author: cast.alice, ops: [ops.setRole(cast.carol, 'member')] })
    const written = await group.write(alice, cast.alice, { header: { at: early } })
    const next = await group.write(alice, cast.alice, { previous: written })
    expect(await refusedFor({ previous: next, header: { at: early } })).toBe('bad_head')
  })

  it('the group’s profile is for admins', async () => {
    expect(await refusedFor({ object: PROFILE_OBJECT_ID }, cast.bob, bob)).toBe('not_authorised')
    expect(await refusedFor({ object: PROFILE_OBJECT_ID })).toBe('accepted')
  })

  it('on a version that is not the newest gives the newest', async () => {
    const first = await group.write(alice, cast.alice)
    const second = await group.write(bob, cast.bob, { previous: first })
    const [again] = await group.put(alice, [await group.item(cast.alice, { previous: first })])
    expect(codeOf(again)).toBe('version_conflict')
    expect(again?.state === 'refused' ? again.data['header'] : null).toEqual(new Uint8Array(second.bytes))
    const [fresh] = await group.put(alice, [await group.item(cast.alice, { object: first.header.object })])
    expect(codeOf(fresh)).toBe('version_conflict')
  })

  it('on a version of the same number that is not the stored one is refused', async () => {
    const first = await group.write(alice, cast.alice)
    expect(await refusedFor({ previous: first, header: { previous: randomBytes(32) } })).toBe('version_conflict')
  })

  it('of two on one version accepts one', async () => {
    const first = await group.write(alice, cast.alice)
    const items = [await group.item(cast.alice, { previous: first }), await group.item(cast.bob, { previous: first })] as const
    const [one, two] = await Promise.all([group.put(alice, [items[0]]), group.put(bob, [items[1]])])
    expect([codeOf(one[0]), codeOf(two[0])].sort()).toEqual(['accepted', 'version_conflict'])
  })

  it('needs a seal and exactly one body, as signed', async () => {
    const cases: [Partial<PutItem>, string][] = [
      [{ seal: null }, 'malformed'],
      [{ seal: new Uint8Array(71) }, 'malformed'],
      [{ body: null }, 'malformed'],
      [{ bodyId: asBodyId(randomBytes(16)) }, 'malformed'],
      [{ body: new Uint8Array(16) }, 'body_invalid'],
      [{ body: new Uint8Array(17) }, 'body_invalid'],
      [{ header: new Uint8Array(10) }, 'malformed'],
    ]
    for (const [item, code] of cases) expect(await refusedFor({ item })).toBe(code)
  })

  it('an inline body is at most 16 KiB', async () => {
    expect(await refusedFor({ body: new Uint8Array(INLINE_BODY_BYTES_MAX) })).toBe('accepted')
    const length = INLINE_BODY_BYTES_MAX + 1
    const body = new Uint8Array(length + 16)
    expect(
      await refusedFor({
        header: { bodyLength: length, bodyHash: bodyHash({ suite: 1, length, hashes: chunkHash(body) }) },
        item: { body },
      }),
    ).toBe('limit_exceeded')
  })

  it('a tombstone has nothing, and can be followed by a new version', async () => {
    const first = await group.write(alice, cast.alice)
    expect(await refusedFor({ previous: first, tombstone: true, item: { seal: new Uint8Array(72) } })).toBe('malformed')
    const deleted = await group.write(alice, cast.alice, { previous: first, tombstone: true })
    const { objects } = await bob.request('object.get', { group: group.id, objects: [first.header.object], openPages: [] })
    expect(objects[0]).toMatchObject({ body: null, bodyId: null, dek: null })
    expect((await group.write(bob, cast.bob, { previous: deleted })).header.version).toBe(3)
  })

  it('at a head, epoch or while a rekey is owed that is not the current one says where the group stands', async () => {
    const { head, roster } = group.state
    const item = await group.item(cast.alice)
    const put = { group: group.id, seq: head.seq, epoch: roster.epoch, items: [item] }
    await group.commit(bob, { author: cast.bob, ops: [ops.leave()] })
    const stale = await alice.refusal('object.put', put)
    expect([stale.code, stale.data['seq'], stale.data['hash']]).toEqual(['stale_head', group.state.head.seq, group.state.head.hash])
    expect((await alice.refusal('object.put', { ...put, seq: group.state.head.seq })).code).toBe('rekey_owed')
    await group.commit(alice, { author: cast.alice, rekey: 'fresh' })
    expect((await alice.refusal('object.put', { ...put, seq: group.state.head.seq })).code).toBe('stale_epoch')
    expect((await alice.refusal('object.put', { ...put, seq: 1000 })).code).toBe('stale_epoch')
  })

  it('by a member removed meanwhile is refused, whatever process they write through', async () => {
    const late = await group.item(cast.bob)
    const { head, roster } = group.state
    await bob.request('object.headers', { group: group.id, objects: [] })
    await group.commit(alice, { author: cast.alice, ops: [ops.remove(cast.bob)], rekey: 'fresh' })
    const refusal = await bob.refusal('object.put', { group: group.id, seq: head.seq, epoch: roster.epoch, items: [late] })
    expect(['not_a_member', 'stale_epoch', 'stale_head']).toContain(refusal.code)
    expect((await bob.refusal('object.get', { group: group.id, objects: [], openPages: [] })).code).toBe('not_a_member')
  })

  it('a seal is as long as its makers make it', () => {
    expect(LOOSE_SEAL_BYTES).toBe(SEALED_DEK_BYTES)
  })
})

describe('DEKs', () => {
  it('are sealed again by writers, at the head they name', async () => {
    const written = await group.write(alice, cast.alice)
    const { object, generation } = written.header
    const at = { group: group.id, seq: group.state.head.seq, epoch: group.state.roster.epoch, object, generation }
    await bob.request('dek.reseal', { ...at, seal: new Uint8Array(72).fill(1) })
    const { deks } = await alice.request('dek.fallback', { group: group.id, object, generation })
    expect(deks.map(({ kind }) => kind)).toEqual(['loose'])
    expect((await bob.refusal('dek.reseal', { ...at, seal: new Uint8Array(71) })).code).toBe('malformed')
    expect((await bob.refusal('dek.reseal', { ...at, seq: 0, seal: new Uint8Array(72) })).code).toBe('stale_head')
  })

  it('that do not open are listed and told to those who read', async () => {
    const { object, generation } = (await group.write(alice, cast.alice)).header
    await bob.request('feed.subscribe', { group: group.id, cursor: 0, seq: 0 })
    await alice.request('dek.report', { group: group.id, epoch: 0, deks: [{ object, generation }] })
    await bob.until(() => bob.eventsOf('unopenable').some(({ deks }) => deks.length === 1))
    expect((await alice.request('rewrap.status', { group: group.id })).unopenable).toBe(1)
    expect((await alice.refusal('dek.report', { group: group.id, epoch: 7, deks: [] })).code).toBe('stale_epoch')
  })
})

describe('pages', () => {
  it('of a new group are one empty page', async () => {
    const range = await alice.request('pages.range', { group: group.id, lo: new Uint8Array(0), pages: 64 })
    expect([range.pages.length, range.pages[0]?.hi, range.loose.length, range.next]).toEqual([1, null, 0, null])
  })

  it('are replaced by an admin, and progress is told to everybody', async () => {
    await group.write(alice, cast.alice)
    await group.commit(alice, { author: cast.alice, rekey: 'fresh' })
    await bob.request('feed.subscribe', { group: group.id, cursor: 0, seq: 0 })
    const started = await alice.request('rewrap.start', { group: group.id, epoch: 1 })
    expect([started.total, started.done, started.leased]).toEqual([1, 0, true])
    const { pages, loose } = await alice.request('pages.range', { group: group.id, lo: new Uint8Array(0), pages: 64 })
    const [page] = pages
    const [dek] = loose
    if (page === undefined || dek === undefined) throw new Error('there is nothing to replace')
    const pair = concat(dek.object, new Uint8Array([0, 0, 0, dek.generation]))
    const next = {
      lo: page.lo,
      hi: page.hi,
      pageId: asPageId(randomBytes(16)),
      epoch: 1,
      entries: concat(pair, dek.headerHash),
      sealed: randomBytes(24 + 32 + 16),
    }
    const replacement = { group: group.id, epoch: 1, replaced: [{ lo: page.lo, pageId: page.pageId }], absorbed: pair, pages: [next] }
    expect(await alice.request('pages.replace', replacement)).toEqual({ epoch: 1, total: 1, done: 1 })
    await bob.until(() => bob.eventsOf('progress').some(({ progress }) => progress.done === 1))
    expect((await alice.refusal('pages.replace', replacement)).code).toBe('page_conflict')
    expect((await alice.refusal('pages.replace', { ...replacement, epoch: 0 })).code).toBe('stale_epoch')
  })
})

describe('bodies', () => {
  /** Uploads ciphertext in frames. */
  async function upload(client: RawClient, data: Uint8Array): Promise<ReturnType<typeof asBodyId>> {
    const bodyId = asBodyId(randomBytes(16))
    await client.request('body.begin', { group: group.id, bodyId })
    for (let start = 0, part = 0; start < data.length; start += BODY_PART_BYTES, part += 1) {
      const bytes = data.subarray(start, start + BODY_PART_BYTES)
      const frames = []
      for (let offset = 0; offset < bytes.length; offset += BODY_FRAME_BYTES) {
        const frame = bytes.subarray(offset, offset + BODY_FRAME_BYTES)
        frames.push(
          client.request('body.write', {
            group: group.id,
            bodyId,
            part,
            offset,
            data: frame,
            last: offset + frame.length === bytes.length,
          }),
        )
      }
      expect((await Promise.all(frames)).map(({ durable }) => durable).filter(Boolean)).toEqual([true])
    }
    return bodyId
  }
  const hashesOf = (data: Uint8Array): Uint8Array => {
    const hashes: Uint8Array[] = []
    for (let start = 0; start < data.length; start += SEALED_CHUNK_BYTES)
      hashes.push(chunkHash(data.subarray(start, start + SEALED_CHUNK_BYTES)))
    return concat(...hashes)
  }

  it('go up in parts and come down in any span, once an object names them', async () => {
    const length = 2_500_000
    const data = randomBytes(length + Math.ceil(length / 65_536) * 16)
    const bodyId = await upload(bob, data)
    const hashes = hashesOf(data)
    const stored = { bodyId, bodyLength: length, bodyHash: bodyHash({ suite: 1, length, hashes }) }
    expect(await refusedFor({ stored }, cast.bob, bob)).toBe('body_incomplete')
    await bob.request('body.complete', { group: group.id, bodyId, hashes })
    expect((await alice.refusal('body.read', { group: group.id, bodyId, offset: 0, bytes: 10 })).code).toBe('not_found')
    const written = await group.write(bob, cast.bob, { stored })
    const { objects } = await alice.request('object.get', { group: group.id, objects: [written.header.object], openPages: [] })
    expect([objects[0]?.body, objects[0]?.bodyId]).toEqual([null, bodyId])
    const span = await alice.request('body.read', { group: group.id, bodyId, offset: BODY_PART_BYTES - 5, bytes: 10 })
    expect(span.data).toEqual(new Uint8Array(data.subarray(BODY_PART_BYTES - 5, BODY_PART_BYTES + 5)))
    expect((await alice.request('body.hashes', { group: group.id, bodyId, offset: 32, bytes: 32 })).data).toEqual(
      new Uint8Array(hashes.subarray(32, 64)),
    )
  })

  it('frames may arrive in any order and twice', async () => {
    const bodyId = asBodyId(randomBytes(16))
    await alice.request('body.begin', { group: group.id, bodyId })
    const write = (offset: number, bytes: number, last: boolean): Promise<{ durable: boolean }> =>
      alice.request('body.write', { group: group.id, bodyId, part: 0, offset, data: new Uint8Array(bytes), last })
    expect((await write(100, 50, true)).durable).toBe(false)
    expect((await write(0, 60, false)).durable).toBe(false)
    expect((await write(0, 60, false)).durable).toBe(false)
    expect((await write(60, 40, false)).durable).toBe(true)
    expect((await alice.request('body.begin', { group: group.id, bodyId })).partsPresent).toEqual([0])
  })

  it('a part past 1 MiB, or of somebody else’s upload, is refused', async () => {
    const bodyId = asBodyId(randomBytes(16))
    await alice.request('body.begin', { group: group.id, bodyId })
    const frame = { group: group.id, bodyId, part: 0, offset: BODY_PART_BYTES, data: new Uint8Array(1), last: true }
    expect((await alice.refusal('body.write', frame)).code).toBe('malformed')
    expect((await bob.refusal('body.write', { ...frame, offset: 0 })).code).toBe('not_found')
    expect((await bob.refusal('body.begin', { group: group.id, bodyId })).code).toBe('body_invalid')
    expect((await alice.refusal('body.complete', { group: group.id, bodyId, hashes: new Uint8Array(0) })).code).toBe('body_incomplete')
  })

  it('a session has at most eight parts unfinished', async () => {
    const bodyId = asBodyId(randomBytes(16))
    await alice.request('body.begin', { group: group.id, bodyId })
    const write = (part: number): Promise<unknown> =>
      alice.ask('body.write', { group: group.id, bodyId, part, offset: 0, data: new Uint8Array(1), last: false })
    for (let part = 0; part < 8; part += 1) await write(part)
    await expect(write(8)).rejects.toMatchObject({ code: 'limit_exceeded' })
  })
})
