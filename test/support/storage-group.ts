/** A group in the database without any cryptography: random bytes where signed or sealed ones would be. */
import { createHash, randomBytes } from 'node:crypto'
import { asKemKeyId, asSigningPublicKey } from '../../shared/crypto/keys.ts'
import { asBodyId, asCommitHash, asGroupId, asIdentityId, asObjectId, asPageId } from '../../shared/ids.ts'
import type { BodyId, CommitHash, GroupId, IdentityId, ObjectId, PageId } from '../../shared/ids.ts'
import type { NewWrap } from '../../server/storage/commit-rows.ts'
import type { AcceptedCommit } from '../../server/storage/commits.ts'
import { acceptCommit } from '../../server/storage/commits.ts'
import type { Database } from '../../server/storage/database.ts'
import type { Genesis, GroupPosition } from '../../server/storage/groups.ts'
import { createGroup, readPosition } from '../../server/storage/groups.ts'
import type { WriteItem } from '../../server/storage/writes.ts'

export const newGroupId = (): GroupId => asGroupId(randomBytes(32))
export const newIdentityId = (): IdentityId => asIdentityId(randomBytes(32))
export const newCommitHash = (): CommitHash => asCommitHash(randomBytes(32))
export const newObjectId = (): ObjectId => asObjectId(randomBytes(16))
export const newPageId = (): PageId => asPageId(randomBytes(16))
export const newBodyId = (): BodyId => asBodyId(randomBytes(16))

export const sha256 = (bytes: Uint8Array): Uint8Array => new Uint8Array(createHash('sha256').update(bytes).digest())

/** Wraps for `count` recipients that nobody can open. */
export function newWraps(count: number): NewWrap[] {
  return Array.from({ length: count }, () => ({ recipient: asKemKeyId(randomBytes(32)), wrap: randomBytes(48) }))
}

/** A group of one admin, at commit 0 and epoch 0. */
export async function newGroup(
  database: Database,
  changes: Partial<Genesis> = {},
): Promise<{ readonly group: GroupId; readonly alice: IdentityId }> {
  const group = newGroupId()
  const alice = newIdentityId()
  await createGroup(database, {
    group,
    suite: 1,
    createdBy: alice,
    commit: { seq: 0, hash: asCommitHash(group), bytes: randomBytes(200), epoch: 0 },
    opening: { enc: randomBytes(32), link: null },
    wraps: newWraps(1),
    members: [{ principal: alice, role: 'admin', signingKey: asSigningPublicKey(randomBytes(32)), active: true }],
    pageId: newPageId(),
    ...changes,
  })
  return { group, alice }
}

/** Where a group stands; fails if there is none. */
export async function positionOf(database: Database, group: GroupId): Promise<GroupPosition> {
  const position = await readPosition(database, group)
  if (position === null) throw new Error('no such group')
  return position
}

/** The next commit on `position`: opens an epoch if told so. */
export function nextCommit(
  group: GroupId,
  position: GroupPosition,
  changes: Partial<AcceptedCommit> & { readonly opens?: boolean } = {},
): AcceptedCommit {
  const { opens = false, ...rest } = changes
  const epoch = position.epoch + (opens ? 1 : 0)
  return {
    group,
    parent: position.hash,
    commit: { seq: position.seq + 1, hash: newCommitHash(), bytes: randomBytes(120), epoch },
    suite: 1,
    rekeyOwed: false,
    opening: opens ? { enc: randomBytes(32), link: { to: position.epoch, bytes: randomBytes(72) } } : null,
    wraps: opens ? newWraps(2) : [],
    members: [],
    retireThrough: null,
    ...rest,
  }
}

/** Commits on the head of the moment. */
export async function commitNext(
  database: Database,
  group: GroupId,
  changes: Partial<AcceptedCommit> & { readonly opens?: boolean } = {},
): Promise<AcceptedCommit> {
  const accepted = nextCommit(group, await positionOf(database, group), changes)
  await acceptCommit(database, accepted)
  return accepted
}

/** A write of an inline body; `expected` 0 makes a new object. */
export function newItem(changes: Partial<WriteItem> = {}): WriteItem {
  const header = randomBytes(300)
  return {
    object: newObjectId(),
    expected: 0,
    header,
    headerHash: sha256(header),
    author: asIdentityId(randomBytes(32)),
    seal: randomBytes(72),
    body: randomBytes(100),
    bodyId: null,
    bodyBytes: 100,
    ...changes,
  }
}

/** The tombstone after version `expected`. */
export function newTombstone(object: ObjectId, expected: number): WriteItem {
  return newItem({ object, expected, seal: null, body: null, bodyBytes: 0 })
}
