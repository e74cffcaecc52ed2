/**
 * Writing objects: new ones, next versions and tombstones, k at once, behind the fence of one head.
 *
 * The caller has judged the items against the roster at `seq`; the fence makes that judgement and the write one step.
 */
import { ClavigerError } from '../../shared/errors.ts'
import type { GroupId, BodyId, IdentityId, ObjectId } from '../../shared/ids.ts'
import { idKey } from '../../shared/ids.ts'
import type { Database } from './database.ts'
import { readFence } from './fence.ts'
import type { Fence } from './fence.ts'
import type { Statement, Value } from './statement.ts'
import { all, askedRows, first, statement } from './statement.ts'
import { retryCollision, withStorageErrors } from './storage-error.ts'
import type { WriteRow } from './write-statement.ts'
import { createInline, createOne, writeAny } from './write-statement.ts'

/** One version of one object. Version and generation are `expected` + 1. */
export interface WriteItem {
  readonly object: ObjectId
  /** The version it replaces; 0 for a new object. */
  readonly expected: number
  /** The signed envelope, or tombstone. */
  readonly header: Uint8Array
  readonly headerHash: Uint8Array
  readonly author: IdentityId
  /** The DEK sealed alone under the fence's epoch; null exactly for a tombstone. */
  readonly seal: Uint8Array | null
  /** Inline ciphertext. */
  readonly body: Uint8Array | null
  /** A complete stored body, instead of an inline one. */
  readonly bodyId: BodyId | null
  /** Ciphertext bytes of the body, either way. */
  readonly bodyBytes: number
}

/** Items of one fence, no two of one object. */
export interface WriteRequest extends Fence {
  readonly group: GroupId
  readonly items: readonly WriteItem[]
}

/** What became of one item. */
export type WriteResult =
  | { readonly state: 'accepted'; readonly change: number }
  | { readonly state: 'refused'; readonly error: ClavigerError }

interface CurrentRow {
  object_id: Uint8Array
  version: number
  header: Uint8Array
}

const READ_CURRENT = statement<CurrentRow>(
  'write_read_current',
  `with ${askedRows('$2')}
   select o.object_id, o.version, o.header from x join objects o on o.group_id = x.group_id and o.object_id = x.object_id`,
)

/**
 * Writes what can be written, in one transaction.
 *
 * @returns one result an item, in order: `version_conflict` carries the current header (null if there is none),
 *   `body_incomplete` says that the named body is not complete or not of that length.
 * @throws ClavigerError `stale_epoch`, `stale_head`, `rekey_owed` (data: epoch, seq, hash), `unknown_group`: nothing was written.
 */
export function writeObjects(database: Database, request: WriteRequest): Promise<WriteResult[]> {
  assertItems(request.items)
  return withStorageErrors(async () => {
    const row = await retryCollision(() => first(database.pool, ...planWrite(request)))
    if (row === null) throw await readFence(database, request)
    return await toResults(database, request, row)
  })
}

function assertItems(items: readonly WriteItem[]): void {
  if (new Set(items.map(({ object }) => idKey(object))).size !== items.length) throw new RangeError('items must be of different objects')
  for (const item of items) {
    const isTombstone = item.seal === null
    if (isTombstone ? item.body !== null || item.bodyId !== null : (item.body === null) === (item.bodyId === null)) {
      throw new TypeError('an item must have a seal and one body, or none of them')
    }
  }
}

/** The cheapest statement that can write these items, with its values. */
function planWrite(request: WriteRequest): [query: Statement<WriteRow>, values: Value[]] {
  const [item] = request.items
  if (!request.items.every(isNewInline) || item === undefined) return [writeAny, writeValues(request)]
  return request.items.length === 1 ? [createOne, createValues(request, item)] : [createInline, writeValues(request)]
}

function createValues({ group, epoch, seq }: WriteRequest, item: WriteItem): Value[] {
  return [group, epoch, seq, item.object, item.header, item.headerHash, item.author, item.seal, item.body, item.bodyBytes]
}

/** A tombstone of an object that never was is an oddity, not worth a statement. */
function isNewInline(item: WriteItem): boolean {
  return item.expected === 0 && item.body !== null
}

function writeValues({ group, epoch, seq, items }: WriteRequest): Value[] {
  return [
    group,
    epoch,
    seq,
    items.length,
    items.map((item) => item.object),
    items.map((item) => item.expected),
    items.map((item) => item.header),
    items.map((item) => item.headerHash),
    items.map((item) => item.author),
    items.map((item) => item.seal),
    items.map((item) => item.body),
    items.map((item) => item.bodyId),
    items.map((item) => item.bodyBytes),
  ]
}

async function toResults(
  database: Database,
  request: WriteRequest,
  row: { readonly base: number; readonly done: readonly number[] },
): Promise<WriteResult[]> {
  const done = new Set(row.done)
  const refused = request.items.filter((_, index) => !done.has(index + 1))
  const errors = refused.length === 0 ? new Map<string, ClavigerError>() : await explain(database, request.group, refused)
  return request.items.map((item, index) => {
    const error = errors.get(idKey(item.object))
    return error === undefined ? { state: 'accepted', change: row.base + index + 1 } : { state: 'refused', error }
  })
}

/** Why items were refused, read afterwards: what their clients need is the current header, however new it is. */
async function explain(database: Database, group: GroupId, refused: readonly WriteItem[]): Promise<Map<string, ClavigerError>> {
  const rows = await all(database.pool, READ_CURRENT, [group, refused.map(({ object }) => object)])
  const current = new Map(rows.map((row) => [idKey(row.object_id), row]))
  return new Map(refused.map((item) => [idKey(item.object), refusal(item, current.get(idKey(item.object)))]))
}

function refusal(item: WriteItem, current: CurrentRow | undefined): ClavigerError {
  if (item.bodyId !== null && (current?.version ?? 0) === item.expected) return new ClavigerError('body_incomplete')
  return new ClavigerError('version_conflict', undefined, { data: { header: current?.header ?? null } })
}
