/** Objects: following them, writing and reading them, and the seals of their DEKs. */
import { ClavigerError } from '../../shared/errors.ts'
import type { GroupState } from '../../shared/group/fold.ts'
import { idKey } from '../../shared/ids.ts'
import { BATCH_BYTES_MAX } from '../../shared/limits.ts'
import { decodeEnvelope } from '../../shared/objects/header.ts'
import type { DekSource, Params, PutItem, PutResult, StoredObject } from '../../shared/protocol/messages.ts'
import type { MemberEntry, Admission } from '../access.ts'
import type { DecodedItem } from '../object-judge.ts'
import { judgeItem, LOOSE_SEAL_BYTES, staleEpoch } from '../object-judge.ts'
import { readPosition } from '../storage/groups.ts'
import type { ObjectState, ObjectsRead, StoredDek, StoredObjectRow } from '../storage/objects.ts'
import { readHeaders, readObjects } from '../storage/objects.ts'
import { readFallbackDeks, resealDek } from '../storage/reseals.ts'
import type { WriteItem } from '../storage/writes.ts'
import { judgeError } from '../wire-error.ts'
import type { Call, Handlers } from './handler.ts'

type ObjectMethod = 'feed.subscribe' | 'feed.unsubscribe' | 'object.put' | 'object.get' | 'object.headers' | 'dek.fallback' | 'dek.reseal'

export const objectHandlers: Handlers<ObjectMethod> = {
  'feed.subscribe': async ({ services: { access, database, relay }, peer }, { group, cursor, seq }) => {
    const { head, change } = await access.readAt(group, peer, 'isMember', async () => {
      const position = await readPosition(database, group)
      if (position === null) throw new ClavigerError('unknown_group')
      return { seq: position.seq, value: { head: { seq: position.seq, hash: position.hash }, change: position.change } }
    })
    // What this session may see is judged again before each page.
    relay.subscribe(peer, group, { cursor: Math.min(cursor, change), seq: Math.min(seq, head.seq), audience: 'log' })
    return { head, change }
  },

  'feed.unsubscribe': async ({ services: { relay }, peer }, { group }) => {
    relay.unsubscribe(peer, group)
    return {}
  },

  'object.put': async (call, params) => {
    const { state, member } = await enterToWrite(call, params)
    const results = await putItems(call, { params, state, author: member })
    for (const { state: result } of results) call.services.metrics.writes.inc({ result })
    return { results }
  },

  'object.get': async ({ services: { access, database }, peer }, { group, objects, openPages }) => {
    const read = await access.readAt(group, peer, 'readsObjects', async () =>
      withSeq(await readObjects(database, group, { objects, openPages })),
    )
    return { seq: read.seq, objects: read.objects.map((row) => (row === null ? null : toStoredObject(row))) }
  },

  'object.headers': async ({ services: { access, database }, peer }, { group, objects }) => {
    const read = await access.readAt(group, peer, 'readsObjects', async () => withSeq(await readHeaders(database, group, objects)))
    return { seq: read.seq, headers: read.objects.map((row) => row?.header ?? null) }
  },

  'dek.fallback': ({ services: { access, database }, peer }, { group, object, generation }) =>
    access.read(group, peer, 'readsObjects', async () => {
      const deks = await readFallbackDeks(database, group, { object, generation })
      return { deks: deks.map(toDekSource) }
    }),

  'dek.reseal': async (call, params) => {
    const { group, seq, epoch, object, generation, seal } = params
    await enterToWrite(call, params)
    if (seal.length !== LOOSE_SEAL_BYTES) throw new ClavigerError('malformed', `a seal must be ${LOOSE_SEAL_BYTES} bytes`)
    await resealDek(call.services.database, { group, seq, epoch, object, generation, seal })
    call.services.statuses.changed(group)
    call.services.audit.resealed(group, call.peer, { object, generation })
    return {}
  },
}

/** A writer, at exactly the head and epoch the request names. */
async function enterToWrite(
  { services: { access }, peer }: Call,
  at: Pick<Params<'object.put'>, 'group' | 'seq' | 'epoch'>,
): Promise<{ state: GroupState; member: MemberEntry }> {
  const { state, standing } = await access.enterAt(at.group, peer, 'writesObjects', at.seq)
  if (standing.kind !== 'member') throw new ClavigerError('not_authorised')
  assertCurrent(state, at)
  return { state, member: standing.member }
}

function assertCurrent(state: Admission['state'], { seq, epoch }: { readonly seq: number; readonly epoch: number }): void {
  const data = { ...state.head, epoch: state.roster.epoch }
  if (epoch !== state.roster.epoch) throw staleEpoch(state)
  if (seq !== state.head.seq) throw new ClavigerError('stale_head', undefined, { data })
  if (state.roster.rekeyOwed) throw new ClavigerError('rekey_owed', undefined, { data })
}

interface Put {
  readonly params: Params<'object.put'>
  readonly state: GroupState
  readonly author: MemberEntry
}

type Judged = { readonly write: WriteItem } | { readonly refused: PutResult }

/** Each item has its own result: a bad one never fails its neighbours. */
async function putItems(call: Call, put: Put): Promise<PutResult[]> {
  const { group, seq, epoch, items } = put.params
  if (items.reduce((sum, item) => sum + itemBytes(item), 0) > BATCH_BYTES_MAX)
    throw new ClavigerError('limit_exceeded', `a batch must be at most ${BATCH_BYTES_MAX} bytes`)
  const judged = await judgeItems(call, put)
  const writes = judged.flatMap((one) => ('write' in one ? [one.write] : []))
  const written = writes.length === 0 ? [] : await call.services.writes.write({ group, seq, epoch, items: writes })
  let next = 0
  return judged.map((one) => {
    if ('refused' in one) return one.refused
    const result = written[next++]
    if (result === undefined) throw new TypeError('storage gives one result an item')
    return result.state === 'accepted' ? result : refused(result.error)
  })
}

async function judgeItems({ services: { database, hashes } }: Call, { params, state, author }: Put): Promise<Judged[]> {
  const decoded = params.items.map(decodeItem)
  assertDifferentObjects(decoded)
  const stored = await readStored(database, params.group, decoded)
  return Promise.all(
    decoded.map(async (one) => {
      if ('refused' in one) return one
      try {
        return { write: await judgeItem({ state, author, hashes }, one, stored.get(idKey(one.signed.header.object)) ?? null) }
      } catch (error) {
        return { refused: refused(error) }
      }
    }),
  )
}

function decodeItem(item: PutItem): DecodedItem | { readonly refused: PutResult } {
  try {
    return { item, signed: decodeEnvelope(item.header) }
  } catch (error) {
    return { refused: refused(error) }
  }
}

/** Two versions of one object in one batch have no order a client could rely on. */
function assertDifferentObjects(decoded: readonly (DecodedItem | { readonly refused: PutResult })[]): void {
  const keys = decoded.flatMap((one) => ('signed' in one ? [idKey(one.signed.header.object)] : []))
  if (new Set(keys).size !== keys.length) throw new ClavigerError('malformed', 'a batch writes each object once')
  const bodies = decoded.flatMap((one) => ('signed' in one && one.item.bodyId !== null ? [idKey(one.item.bodyId)] : []))
  if (new Set(bodies).size !== bodies.length) throw new ClavigerError('malformed', 'a batch names each body once')
}

/** New objects are not looked up: that they are new is the write’s own condition. */
async function readStored(
  database: Call['services']['database'],
  group: Params<'object.put'>['group'],
  decoded: readonly (DecodedItem | { readonly refused: PutResult })[],
): Promise<ReadonlyMap<string, ObjectState>> {
  const objects = decoded.flatMap((one) => ('signed' in one && one.signed.header.version > 1 ? [one.signed.header.object] : []))
  if (objects.length === 0) return new Map()
  const { objects: rows } = (await readHeaders(database, group, objects)) ?? { objects: [] }
  return new Map(
    objects.flatMap((object, index) => {
      const row = rows[index] ?? null
      return row === null ? [] : [[idKey(object), row] as const]
    }),
  )
}

function refused(error: unknown): PutResult {
  const { wire, failure } = judgeError(error)
  if (failure !== null) throw error
  return { state: 'refused', ...wire }
}

function itemBytes({ header, seal, body }: PutItem): number {
  return header.length + (seal?.length ?? 0) + (body?.length ?? 0)
}

function withSeq<T>(read: ObjectsRead<T> | null): { seq: number; value: ObjectsRead<T> } {
  if (read === null) throw new ClavigerError('unknown_group')
  return { seq: read.seq, value: read }
}

function toStoredObject({ header, body, bodyId, dek }: StoredObjectRow): StoredObject {
  return { header, body, bodyId, dek: dek === null ? null : toDekSource(dek) }
}

function toDekSource(dek: StoredDek): DekSource {
  return { ...dek }
}
