/** Commits: compare-and-set on the head, fence against writes, retire. */
import { randomBytes } from 'node:crypto'
import { setTimeout } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { acceptCommit } from '../../../server/storage/commits.ts'
import type { Database } from '../../../server/storage/database.ts'
import { openDatabase } from '../../../server/storage/database.ts'
import { createGroup, listGroups, readPosition, readProgress } from '../../../server/storage/groups.ts'
import { readCommit, readCommitHash, readCommitHashes, readLog } from '../../../server/storage/log.ts'
import { readLinks } from '../../../server/storage/links.ts'
import { readRange } from '../../../server/storage/page-ranges.ts'
import { replacePages } from '../../../server/storage/page-replace.ts'
import { writeObjects } from '../../../server/storage/writes.ts'
import { readWraps } from '../../../server/storage/wraps.ts'
import { asSigningPublicKey } from '../../../shared/crypto/keys.ts'
import { ClavigerError } from '../../../shared/errors.ts'
import type { GroupId } from '../../../shared/ids.ts'
import { asCommitHash, idKey } from '../../../shared/ids.ts'
import type { FreshDatabase } from '../../support/postgres.ts'
import { freshDatabase } from '../../support/postgres.ts'
import {
  commitNext,
  newGroup,
  newGroupId,
  newIdentityId,
  newItem,
  newPageId,
  newWraps,
  nextCommit,
  positionOf,
} from '../../support/storage-group.ts'
import { absorbAll } from '../../support/storage-pages.ts'

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

const countRows = async (table: string, group: GroupId, condition = 'true'): Promise<number> =>
  (await database.pool.query<{ count: number }>(`select count(*) as count from ${table} where group_id = $1 and ${condition}`, [group]))
    .rows[0]?.count ?? -1

describe('a new group', () => {
  test('has its genesis, wraps, members and one empty page over the whole id space', async () => {
    const { group, alice } = await newGroup(database)
    expect(await positionOf(database, group)).toMatchObject({ seq: 0, epoch: 0, change: 1, rekeyOwed: false, retiredThrough: -1 })
    expect(await listGroups(database, alice)).toEqual([new Uint8Array(group)])
    const range = await readRange(database, group, { lo: new Uint8Array(0), pagesMax: 10, dead: true })
    expect(range).toMatchObject({
      epoch: 0,
      seq: 0,
      loose: [],
      next: null,
      pages: [{ lo: new Uint8Array(0), hi: null, entries: new Uint8Array(0) }],
    })
  })

  test('is made once', async () => {
    const { group, alice } = await newGroup(database)
    const again = createGroup(database, {
      group,
      suite: 1,
      createdBy: alice,
      commit: { seq: 0, hash: asCommitHash(group), bytes: randomBytes(20), epoch: 0 },
      opening: { enc: randomBytes(32), link: null },
      wraps: newWraps(1),
      members: [],
      pageId: newPageId(),
    })
    await expect(again).rejects.toMatchObject({ code: 'group_exists' })
  })

  test('that does not exist has no position', async () => {
    expect(await readPosition(database, newGroupId())).toBeNull()
  })
})

describe('compare-and-set on the head', () => {
  test('of 50 commits on one parent one is accepted, and the others learn the new head', async () => {
    const { group } = await newGroup(database)
    const position = await positionOf(database, group)
    const raced = await Promise.allSettled(
      Array.from({ length: 50 }, async () => {
        const accepted = nextCommit(group, position, { opens: true })
        await acceptCommit(database, accepted)
        return accepted.commit.hash
      }),
    )
    const [winner] = raced.filter((outcome) => outcome.status === 'fulfilled')
    const losers = raced.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason] : []))
    expect(losers).toHaveLength(49)
    const hash = winner?.status === 'fulfilled' ? new Uint8Array(winner.value) : undefined
    for (const error of losers) expect(error).toMatchObject({ code: 'stale_head', data: { seq: 1, hash, epoch: 1 } })
    expect(await countRows('commits', group)).toBe(2)
    expect(await countRows('wraps', group, 'epoch = 1')).toBe(2)
  })

  test('the log, its hashes and links read as they were committed', async () => {
    const { group } = await newGroup(database)
    const commits = []
    for (let count = 0; count < 5; count += 1) commits.push(await commitNext(database, group, { opens: count % 2 === 0 }))
    const log = await readLog(database, group, { from: 1 })
    expect(log?.head).toEqual({ seq: 5, hash: new Uint8Array(commits[4]?.commit.hash ?? []) })
    expect(log?.commits.map(({ bytes }) => bytes)).toEqual(commits.map(({ commit }) => new Uint8Array(commit.bytes)))
    expect((await readLog(database, group, { from: 1, bytesMax: 250 }))?.commits).toHaveLength(2)
    expect((await readLog(database, group, { from: 1, bytesMax: 1 }))?.commits).toHaveLength(1)
    expect((await readLog(database, group, { from: 2, commitsMax: 3 }))?.commits.map(({ seq }) => seq)).toEqual([2, 3, 4])
    expect((await readLog(database, group, { from: 6 }))?.commits).toEqual([])
    expect(await readCommitHash(database, group, 3)).toEqual(new Uint8Array(commits[2]?.commit.hash ?? []))
    expect((await readCommitHashes(database, group, { from: 2, to: 4 })).map(idKey)).toEqual(
      commits.slice(1, 3).map(({ commit }) => idKey(commit.hash)),
    )
    expect(await readCommit(database, group, 6)).toBeNull()
    expect((await readLinks(database, group, { epoch: 3, downTo: 1 })).map(({ epoch, to }) => [epoch, to])).toEqual([
      [3, 2],
      [2, 1],
    ])
    expect((await readProgress(database, [group])).get(idKey(group))).toEqual({ seq: 5, change: 6 })
  })

  test('a member who leaves is no longer listed with the group', async () => {
    const { group } = await newGroup(database)
    const bob = newIdentityId()
    const member = { principal: bob, role: 'member', signingKey: asSigningPublicKey(randomBytes(32)) }
    await commitNext(database, group, { members: [{ ...member, active: true }] })
    expect(await listGroups(database, bob)).toHaveLength(1)
    await commitNext(database, group, { members: [{ ...member, active: false }] })
    expect(await listGroups(database, bob)).toEqual([])
  })
})

describe('the fence between writes and commits (A34)', () => {
  test('in 1000 races of a put with a removal no write lands under the old epoch after it', { timeout: 120_000 }, async () => {
    const { group } = await newGroup(database)
    let accepted = 0
    for (let round = 0; round < 1000; round += 1) {
      const position = await positionOf(database, group)
      const items = [newItem({ header: Uint8Array.of(round & 0xff, round >> 8, position.epoch & 0xff, position.epoch >> 8) })]
      const removal = setTimeout((round % 5) / 5).then(() =>
        acceptCommit(database, nextCommit(group, position, { opens: true, wraps: [] })),
      )
      const put = setTimeout((round % 3) / 2).then(() => writeObjects(database, { group, seq: position.seq, epoch: position.epoch, items }))
      const [written] = await Promise.allSettled([put, removal])
      if (written.status === 'fulfilled') accepted += 1
      else expect(written.reason).toMatchObject({ code: 'stale_epoch' })
    }
    // Every write of an epoch is before the commit that opened the next one.
    const late = await database.pool.query(
      `select o.object_id from objects o join commits c on c.group_id = o.group_id and c.epoch = o.epoch + 1
       where o.group_id = $1 and o.change_seq > c.change_seq`,
      [group],
    )
    expect(late.rows).toEqual([])
    expect(await countRows('objects', group)).toBe(accepted)
    expect(accepted).toBeGreaterThan(50)
    expect(accepted).toBeLessThan(950)
  })

  test('a replace of pages and a removal do not overlap: the pages are of the old epoch before it, or refused', async () => {
    const { group } = await newGroup(database)
    for (let round = 0; round < 100; round += 1) {
      const position = await positionOf(database, group)
      const range = await readRange(database, group, { lo: new Uint8Array(0), pagesMax: 64, dead: false })
      if (range === null) throw new Error('no such group')
      const replacing = replacePages(database, absorbAll(group, range))
      const removal = acceptCommit(database, nextCommit(group, position, { opens: true, wraps: [] }))
      const [replaced] = await Promise.allSettled([replacing, removal])
      if (replaced.status === 'rejected') expect(replaced.reason).toMatchObject({ code: 'stale_epoch' })
      expect(await countRows('key_pages', group, `epoch > ${position.epoch}`)).toBe(0)
    }
  })
})

describe('retiring an epoch', () => {
  test('is refused while a loose DEK or a page is under it, and takes nothing then', async () => {
    const { group } = await newGroup(database)
    await writeObjects(database, { group, seq: 0, epoch: 0, items: [newItem()] })
    await commitNext(database, group, { opens: true })
    const early = commitNext(database, group, { retireThrough: 0 })
    await expect(early).rejects.toMatchObject({ code: 'not_retirable', data: { loose: true, pages: false } })
    expect(await positionOf(database, group)).toMatchObject({ seq: 1, retiredThrough: -1 })
    expect(await countRows('wraps', group, 'epoch = 0')).toBe(1)
  })

  test('deletes its wraps, links that contain it and everything superseded under it', async () => {
    const { group } = await newGroup(database)
    await writeObjects(database, { group, seq: 0, epoch: 0, items: [newItem(), newItem()] })
    const inPage = await readRange(database, group, { lo: new Uint8Array(0), pagesMax: 1, dead: false })
    if (inPage !== null) await replacePages(database, absorbAll(group, inPage))
    await writeObjects(database, { group, seq: 0, epoch: 0, items: [newItem()] })
    await commitNext(database, group, { opens: true })
    const range = await readRange(database, group, { lo: new Uint8Array(0), pagesMax: 1, dead: false })
    if (range !== null) await replacePages(database, absorbAll(group, range))
    expect(await countRows('superseded_deks', group)).toBe(3)
    expect(await countRows('superseded_pages', group)).toBe(1)

    await commitNext(database, group, { retireThrough: 0 })
    for (const table of ['wraps', 'superseded_deks', 'superseded_pages', 'key_pages', 'loose_deks'])
      expect(await countRows(table, group, 'epoch = 0'), table).toBe(0)
    expect(await countRows('links', group, 'link_to = 0')).toBe(0)
    expect(await countRows('wraps', group, 'epoch = 1')).toBe(2)
    expect(await positionOf(database, group)).toMatchObject({ retiredThrough: 0 })
    await expect(readWraps(database, group, { epoch: 0, recipients: [] })).rejects.toMatchObject({ code: 'epoch_retired' })
  })

  test('of a group without objects only stamps the empty page anew', async () => {
    const { group } = await newGroup(database)
    await commitNext(database, group, { opens: true })
    await commitNext(database, group, { retireThrough: 0 })
    expect(await countRows('key_pages', group, 'epoch = 1')).toBe(1)
  })

  test('that is current, or retired already, is refused', async () => {
    const { group } = await newGroup(database)
    await expect(commitNext(database, group, { retireThrough: 0 })).rejects.toBeInstanceOf(ClavigerError)
    await commitNext(database, group, { opens: true })
    await commitNext(database, group, { retireThrough: 0 })
    await expect(commitNext(database, group, { retireThrough: 0 })).rejects.toMatchObject({ code: 'not_retirable' })
  })
})
