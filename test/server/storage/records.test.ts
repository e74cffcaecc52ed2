/** The small tables: identities, signed heads, join requests, snapshots, audit. */
import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { appendAudit, expireAudit, listAudit } from '../../../server/storage/audit.ts'
import type { Database } from '../../../server/storage/database.ts'
import { openDatabase } from '../../../server/storage/database.ts'
import { countCreatedGroups } from '../../../server/storage/groups.ts'
import { listSignedHeads, storeSignedHead } from '../../../server/storage/heads.ts'
import { readIdentity, storeCards } from '../../../server/storage/identities.ts'
import type { IdentityRow } from '../../../server/storage/identities.ts'
import { listJoinRequests, removeJoinRequests, removeJoinRequestsThrough, storeJoinRequest } from '../../../server/storage/join-requests.ts'
import { listSnapshots, readSnapshot, readSnapshotBefore, storeSnapshot } from '../../../server/storage/snapshots.ts'
import { asSigningPublicKey } from '../../../shared/crypto/keys.ts'
import { asInviteId } from '../../../shared/ids.ts'
import { JOIN_REQUESTS_MAX } from '../../../shared/limits.ts'
import type { FreshDatabase } from '../../support/postgres.ts'
import { freshDatabase } from '../../support/postgres.ts'
import { newGroup, newGroupId, newIdentityId } from '../../support/storage-group.ts'

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

const bytes = (length: number): Uint8Array => new Uint8Array(randomBytes(length))

describe('an identity', () => {
  const newRow = (changes: Partial<IdentityRow> = {}): IdentityRow => ({
    identity: newIdentityId(),
    signingKey: asSigningPublicKey(bytes(32)),
    revision: 0,
    cards: bytes(200),
    ...changes,
  })

  test('is stored with its newest chain, and never with an older one', async () => {
    const first = newRow()
    expect(await storeCards(database, first)).toBe('stored')
    expect(await storeCards(database, first)).toBe('unchanged')
    const second = newRow({ identity: first.identity, revision: 1 })
    expect(await storeCards(database, second)).toBe('stored')
    expect(await storeCards(database, first)).toBe('older')
    expect(await storeCards(database, newRow({ identity: first.identity, revision: 1 }))).toBe('other')
    expect(await readIdentity(database, first.identity)).toEqual({ ...second, identity: first.identity })
    expect(await readIdentity(database, newIdentityId())).toBeNull()
  })

  test('does not take another one’s signing key', async () => {
    const alice = newRow()
    await storeCards(database, alice)
    expect(await storeCards(database, newRow({ signingKey: alice.signingKey }))).toBe('key-taken')
  })

  test('that creates groups is counted for its quota', async () => {
    const { alice } = await newGroup(database)
    expect(await countCreatedGroups(database, alice)).toBe(1)
  })
})

test('of each principal the newest signed head is kept', async () => {
  const group = newGroupId()
  const [alice, bob] = [newIdentityId(), newIdentityId()]
  const [old, newer, other] = [bytes(100), bytes(100), bytes(100)]
  expect(await storeSignedHead(database, group, { principal: alice, seq: 5, bytes: newer })).toBe(true)
  expect(await storeSignedHead(database, group, { principal: alice, seq: 5, bytes: newer })).toBe(false)
  expect(await storeSignedHead(database, group, { principal: alice, seq: 4, bytes: old })).toBe(false)
  await storeSignedHead(database, group, { principal: bob, seq: 3, bytes: other })
  expect(await listSignedHeads(database, group, 10)).toEqual([other, newer])
  expect(await listSignedHeads(database, group, 1)).toHaveLength(1)
})

describe('join requests', () => {
  const newRequest = (changes = {}) => ({
    requestHash: bytes(32),
    invite: asInviteId(bytes(32)),
    identity: newIdentityId(),
    bytes: bytes(300),
    ...changes,
  })

  test('wait in order; a newer one of the same identity and invite takes the place of the older', async () => {
    const group = newGroupId()
    const [first, second] = [newRequest(), newRequest()]
    const again = newRequest({ invite: first.invite, identity: first.identity })
    const areNew: boolean[] = []
    for (const request of [first, first, second, again]) areNew.push(await storeJoinRequest(database, group, request))
    expect(areNew).toEqual([true, false, true, true])
    expect(await listJoinRequests(database, group)).toEqual([second.bytes, again.bytes])
    await removeJoinRequests(database, group, second.identity)
    expect(await listJoinRequests(database, group)).toEqual([again.bytes])
    await removeJoinRequestsThrough(database, group, [first.invite])
    expect(await listJoinRequests(database, group)).toEqual([])
  })

  test('are bounded', async () => {
    const group = newGroupId()
    for (let count = 0; count < JOIN_REQUESTS_MAX; count += 1) await storeJoinRequest(database, group, newRequest())
    await expect(storeJoinRequest(database, group, newRequest())).rejects.toMatchObject({ code: 'limit_exceeded' })
  })
})

test('snapshots are listed newest first, and found exactly or before a commit', async () => {
  const group = newGroupId()
  const author = newIdentityId()
  const rosters = [bytes(50), bytes(50)] as const
  await storeSnapshot(database, group, { seq: 64, author, roster: rosters[0] })
  await storeSnapshot(database, group, { seq: 128, author, roster: rosters[1] })
  await storeSnapshot(database, group, { seq: 64, author, roster: bytes(50) })
  expect((await listSnapshots(database, group, { after: 64, limit: 10 })).map(({ seq }) => seq)).toEqual([128])
  expect((await listSnapshots(database, group, { after: 0, limit: 10 })).map(({ seq }) => seq)).toEqual([128, 64])
  expect(await readSnapshot(database, group, 64)).toEqual(rosters[0])
  expect(await readSnapshot(database, group, 65)).toBeNull()
  expect(await readSnapshotBefore(database, group, 127)).toEqual({ seq: 64, roster: rosters[0] })
  expect(await readSnapshotBefore(database, group, 63)).toBeNull()
})

test('audit entries are listed newest first, by group, and expire', async () => {
  const group = newGroupId()
  const mallory = newIdentityId()
  await appendAudit(database, { group, kind: 'removed-member', principal: mallory, detail: { method: 'object.get' } })
  await appendAudit(database, { group: null, kind: 'authentication-failed', principal: null, detail: { address: '::1' } })
  const before = new Date(Date.now() + 60_000)
  expect(await listAudit(database, group, { before, limit: 5 })).toMatchObject([
    { group: new Uint8Array(group), kind: 'removed-member', detail: { method: 'object.get' } },
  ])
  expect(await listAudit(database, null, { before, limit: 5 })).toMatchObject([
    { group: null, kind: 'authentication-failed', principal: null },
  ])
  expect(await expireAudit(database, 60_000)).toBe(0)
  expect(await expireAudit(database, 0)).toBe(2)
})
