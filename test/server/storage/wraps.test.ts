/** Wraps and links: append-only, at most four, gone with their epoch. */
import type { IdentityId } from '../../../shared/ids.ts'
import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Database } from '../../../server/storage/database.ts'
import { openDatabase } from '../../../server/storage/database.ts'
import { offerLink, readLinks } from '../../../server/storage/links.ts'
import { listWrapRequests, offerWrap, readWraps, requestWrap } from '../../../server/storage/wraps.ts'
import type { KemKeyId } from '../../../shared/crypto/keys.ts'
import { asKemKeyId } from '../../../shared/crypto/keys.ts'
import type { FreshDatabase } from '../../support/postgres.ts'
import { freshDatabase } from '../../support/postgres.ts'
import { commitNext, newGroup, newGroupId, newIdentityId } from '../../support/storage-group.ts'

let fresh: FreshDatabase
let database: Database

beforeAll(async () => {
  fresh = await freshDatabase()
  database = openDatabase(fresh.url)
})

afterAll(async () => {
  await database.close()
  await fresh.drop()
})

const newRecipient = (): KemKeyId => asKemKeyId(randomBytes(32))
const newWrap = (): Uint8Array => new Uint8Array(randomBytes(48))

describe('wraps', () => {
  test('are read in the order asked for, none where there is none', async () => {
    const { group } = await newGroup(database)
    const { wraps, opening } = await commitNext(database, group, { opens: true })
    const [first, second] = wraps
    if (first === undefined || second === undefined) throw new Error('two wraps are expected')
    const read = await readWraps(database, group, { epoch: 1, recipients: [second.recipient, newRecipient(), first.recipient] })
    expect(read).toEqual({
      enc: new Uint8Array(opening?.enc ?? []),
      wraps: [[new Uint8Array(second.wrap)], [], [new Uint8Array(first.wrap)]],
    })
  })

  test('are added beside those there are, never in their place, and at most four', async () => {
    const { group } = await newGroup(database)
    const recipient = newRecipient()
    const offered = Array.from({ length: 4 }, newWrap)
    for (const wrap of offered) await offerWrap(database, group, { epoch: 0, recipient, wrap, seq: 0, offerer: newIdentityId() })
    await offerWrap(database, group, { epoch: 0, recipient, wrap: offered[1] ?? newWrap(), seq: 0, offerer: newIdentityId() })
    await expect(
      offerWrap(database, group, { epoch: 0, recipient, wrap: newWrap(), seq: 0, offerer: newIdentityId() }),
    ).rejects.toMatchObject({
      code: 'limit_exceeded',
    })
    expect((await readWraps(database, group, { epoch: 0, recipients: [recipient] })).wraps).toEqual([offered])
  })

  test('of 20 offered at once four are kept', async () => {
    const { group } = await newGroup(database)
    const recipient = newRecipient()
    const offers = await Promise.allSettled(
      Array.from({ length: 20 }, () =>
        offerWrap(database, group, { epoch: 0, recipient, wrap: newWrap(), seq: 0, offerer: newIdentityId() }),
      ),
    )
    expect(offers.filter(({ status }) => status === 'fulfilled')).toHaveLength(4)
  })

  test('of a retired, unknown or future epoch are refused', async () => {
    const { group } = await newGroup(database)
    await commitNext(database, group, { opens: true })
    await commitNext(database, group, { retireThrough: 0 })
    const offer = (epoch: number) =>
      offerWrap(database, group, { epoch, recipient: newRecipient(), wrap: newWrap(), seq: 2, offerer: newIdentityId() })
    await expect(offer(0)).rejects.toMatchObject({ code: 'epoch_retired' })
    await expect(offer(2)).rejects.toMatchObject({ code: 'epoch_unavailable' })
    await expect(readWraps(database, group, { epoch: 2, recipients: [] })).rejects.toMatchObject({ code: 'epoch_unavailable' })
    await expect(
      offerWrap(database, newGroupId(), { epoch: 0, recipient: newRecipient(), wrap: newWrap(), seq: 0, offerer: newIdentityId() }),
    ).rejects.toMatchObject({ code: 'unknown_group' })
  })
})

describe('a request for a wrap', () => {
  test('is of the current epoch, listed once, and ended by an offer', async () => {
    const { group } = await newGroup(database)
    const [bob, carol] = [newRecipient(), newRecipient()]
    expect(await requestWrap(database, group, { epoch: 0, recipient: bob })).toBe('noted')
    expect(await requestWrap(database, group, { epoch: 0, recipient: carol })).toBe('noted')
    expect(await requestWrap(database, group, { epoch: 0, recipient: bob })).toBe('known')
    expect(await requestWrap(database, group, { epoch: 1, recipient: bob })).toBe('not-current')
    expect(await listWrapRequests(database, group, 0)).toEqual([new Uint8Array(bob), new Uint8Array(carol)])
    await offerWrap(database, group, { epoch: 0, recipient: bob, wrap: newWrap(), seq: 0, offerer: newIdentityId() })
    expect(await listWrapRequests(database, group, 0)).toEqual([new Uint8Array(carol)])
  })
})

describe('an offer', () => {
  test('is one for each who offers, so that nobody takes all the room', async () => {
    const { group, alice } = await newGroup(database)
    const [recipient, mallory] = [newRecipient(), newIdentityId()]
    const offer = (offerer: IdentityId): Promise<void> =>
      offerWrap(database, group, { epoch: 0, recipient, wrap: newWrap(), seq: 0, offerer })
    await offer(mallory)
    await expect(offer(mallory)).rejects.toMatchObject({ code: 'limit_exceeded' })
    await offer(alice)
    await commitNext(database, group, { opens: true })
    const link = (): Promise<void> => offerLink(database, group, { epoch: 1, to: 0, link: randomBytes(72), seq: 1, offerer: mallory })
    await link()
    await expect(link()).rejects.toMatchObject({ code: 'limit_exceeded' })
  })

  test('is refused once the head it was judged at has passed', async () => {
    const { group, alice } = await newGroup(database)
    await commitNext(database, group)
    const late = offerWrap(database, group, { epoch: 0, recipient: newRecipient(), wrap: newWrap(), seq: 0, offerer: alice })
    await expect(late).rejects.toMatchObject({ code: 'stale_head' })
  })
})

describe('links', () => {
  test('are read from an epoch downwards, only as far as asked', async () => {
    const { group } = await newGroup(database)
    for (let epoch = 1; epoch <= 4; epoch += 1) await commitNext(database, group, { opens: true })
    expect((await readLinks(database, group, { epoch: 4, downTo: 2 })).map(({ epoch, to }) => [epoch, to])).toEqual([
      [4, 3],
      [3, 2],
    ])
    expect((await readLinks(database, group, { epoch: 3, downTo: 0, limit: 1 })).map(({ epoch }) => epoch)).toEqual([3])
  })

  test('are added beside those there are, go to older epochs, and not to retired ones', async () => {
    const { group } = await newGroup(database)
    for (let epoch = 1; epoch <= 2; epoch += 1) await commitNext(database, group, { opens: true })
    const link = randomBytes(72)
    for (let count = 0; count < 4; count += 1)
      await offerLink(database, group, { epoch: 2, to: 0, link: randomBytes(72), seq: 2, offerer: newIdentityId() })
    await expect(offerLink(database, group, { epoch: 2, to: 0, link, seq: 2, offerer: newIdentityId() })).rejects.toMatchObject({
      code: 'limit_exceeded',
    })
    expect(await readLinks(database, group, { epoch: 2, downTo: 0 })).toHaveLength(6)
    expect(() => offerLink(database, group, { epoch: 1, to: 1, link, seq: 2, offerer: newIdentityId() })).toThrow(RangeError)
    await commitNext(database, group, { retireThrough: 0 })
    expect((await readLinks(database, group, { epoch: 2, downTo: 0 })).map(({ to }) => to)).toEqual([1])
    await expect(offerLink(database, group, { epoch: 2, to: 0, link, seq: 3, offerer: newIdentityId() })).rejects.toMatchObject({
      code: 'epoch_retired',
    })
  })
})
