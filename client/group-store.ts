/**
 * What a client keeps of one group: a roster and the commits since, every head it accepted, epoch secrets, known object
 * headers, the change cursor, and the commit it is waiting for.
 */
import { anyBytes, decodeCanonical, encodeCanonical, HeadSchema, uint } from '../shared/codec.ts'
import type { EpochSecret } from '../shared/crypto/keys.ts'
import { asEpochSecret } from '../shared/crypto/keys.ts'
import type { GroupState } from '../shared/group/fold.ts'
import { decodeRoster, encodeRoster } from '../shared/group/roster.ts'
import { fromHex } from '../shared/bytes.ts'
import type { CommitHash, GroupId, Head } from '../shared/ids.ts'
import { asCommitHash, asGroupId, idKey } from '../shared/ids.ts'
import { z } from 'zod/mini'
import { ClavigerError } from '../shared/errors.ts'
import { SNAPSHOT_COMMITS } from '../shared/limits.ts'
import type { AcceptedCommits, LogPlace } from './log-tail.ts'
import { baseAfter, foldTail } from './log-tail.ts'
import type { Store, StoreBatch } from './store.ts'

/** A key for each group: listing them must not read what they hold. */
const GROUPS_PREFIX = 'groups/'
const SEQ_DIGITS = 16

const PlaceSchema: z.ZodMiniType<LogPlace> = z
  .strictObject({ base: uint(), head: HeadSchema })
  .check(z.refine(({ base, head }) => base <= head.seq && head.seq <= base + SNAPSHOT_COMMITS))
const StateSchema = z.strictObject({ head: HeadSchema, roster: anyBytes })
const CursorSchema = z.strictObject({ change: uint(), epoch: uint() })
const PendingSchema = z.strictObject({ commit: anyBytes, epoch: z.nullable(uint()), secret: z.nullable(anyBytes) })

const StoppedSchema = z.strictObject({ code: z.enum(['fork', 'rollback']), message: z.string(), data: z.record(z.string(), z.unknown()) })

/** Where the feed was left, and the epoch that was current then. */
export type Cursor = z.infer<typeof CursorSchema>
/** A commit that was sent and not yet acknowledged, with the secret of the epoch it opens. */
export type Pending = z.infer<typeof PendingSchema>

/** A batch under construction. */
type Batch = Map<string, Uint8Array | null>

/** What a store has of a group besides its log. */
export type KeptState = Awaited<ReturnType<GroupStore['loadKept']>>

/** One group’s part of a store. */
export class GroupStore {
  readonly group: GroupId
  readonly #store: Store
  readonly #prefix: string
  readonly #place: string
  /** Batches that are not on disk yet. */
  readonly #writing = new Set<Promise<void>>()
  #isErased = false

  constructor(store: Store, group: GroupId) {
    this.group = group
    this.#store = store
    this.#prefix = `g/${idKey(group)}/`
    this.#place = GROUPS_PREFIX + idKey(group)
  }

  /** The groups that a store knows. */
  static async list(store: Store): Promise<GroupId[]> {
    return [...(await store.getAll(GROUPS_PREFIX)).keys()].map((key) => asGroupId(fromHex(key.slice(GROUPS_PREFIX.length))))
  }

  /** The head this client has accepted; null for a group it does not know. @throws ClavigerError `store_invalid`. */
  async loadState(): Promise<GroupState | null> {
    const place = await this.#loadPlace()
    if (place === null) return null
    const [snapshot, tail] = await Promise.all([this.#loadState('state'), this.#store.getAll(this.#key('commit/'))])
    if (snapshot?.head.seq !== place.base) throw new ClavigerError('store_invalid')
    return foldTail(snapshot, tail.values(), place.head)
  }

  /** The last state whose whole log was folded, while the current one came from a snapshot ahead. */
  async loadVerified(): Promise<GroupState | null> {
    return this.#loadState('verified')
  }

  /** Keeps commits that were accepted, and their heads. */
  async saveCommits(accepted: AcceptedCommits): Promise<void> {
    const { commits, state } = accepted
    const place = await this.#loadPlace()
    const base = baseAfter(place, accepted)
    const batch = base === state.head.seq ? this.#snapshotBatch(state, place) : this.#tailBatch(commits)
    for (const { payload, hash } of commits) batch.set(this.#headKey(payload.seq), hash)
    batch.set(this.#place, encodeCanonical({ base, head: state.head }))
    await this.#write(batch)
  }

  /** Keeps a state that no commits led to, and the one that is still to be verified from. */
  async saveState(state: GroupState, verified: GroupState | null): Promise<void> {
    const { head } = state
    const batch = this.#snapshotBatch(state, await this.#loadPlace())
    batch.set(this.#place, encodeCanonical({ base: head.seq, head }))
    batch.set(this.#key('verified'), verified === null ? null : encodeState(verified))
    batch.set(this.#headKey(head.seq), head.hash)
    await this.#write(batch)
  }

  /** Keeps how far what a snapshot had skipped is verified, null if all of it is, and the heads on the way. */
  async saveVerified(verified: GroupState | null, heads: readonly Head[]): Promise<void> {
    const batch: Batch = new Map([[this.#key('verified'), verified === null ? null : encodeState(verified)]])
    for (const { seq, hash } of heads) batch.set(this.#headKey(seq), hash)
    await this.#write(batch)
  }

  /** The bytes of an accepted commit, if it is one of those since the kept roster. */
  async loadCommit(seq: number): Promise<Uint8Array | null> {
    return this.#store.get(this.#commitKey(seq))
  }

  /** What has stopped the group for good; null if nothing has. */
  async loadStopped(): Promise<ClavigerError | null> {
    const saved = await this.#load('stopped', StoppedSchema)
    return saved === null ? null : new ClavigerError(saved.code, saved.message, { data: saved.data })
  }

  /** Keeps a `fork` or `rollback` with its evidence. */
  async saveStopped({ code, message, data }: ClavigerError): Promise<void> {
    await this.#write(new Map([[this.#key('stopped'), encodeCanonical({ code, message, data })]]))
  }

  /** Every head ever accepted, by number. */
  async loadHeads(): Promise<Map<number, CommitHash>> {
    const prefix = this.#key('head/')
    const entries = await this.#store.getAll(prefix)
    return new Map([...entries].map(([key, hash]) => [Number(key.slice(prefix.length)), asCommitHash(hash)]))
  }

  async loadSecrets(): Promise<Map<number, EpochSecret>> {
    const prefix = this.#key('epoch/')
    const entries = await this.#store.getAll(prefix)
    return new Map([...entries].map(([key, secret]) => [Number(key.slice(prefix.length)), asEpochSecret(secret)]))
  }

  async saveSecrets(secrets: ReadonlyMap<number, EpochSecret | null>): Promise<void> {
    await this.#write(new Map([...secrets].map(([epoch, secret]) => [this.#key(`epoch/${padded(epoch)}`), secret])))
  }

  async loadCursor(): Promise<Cursor> {
    return (await this.#load('cursor', CursorSchema)) ?? { change: 0, epoch: 0 }
  }

  /** Known headers by object, as envelopes. */
  async loadHeaders(): Promise<Map<string, Uint8Array>> {
    const prefix = this.#key('object/')
    const entries = await this.#store.getAll(prefix)
    return new Map([...entries].map(([key, envelope]) => [key.slice(prefix.length), envelope]))
  }

  /** Keeps headers and, in the same batch, how far the feed was read. */
  async saveHeaders(envelopes: ReadonlyMap<string, Uint8Array>, cursor: Cursor | null): Promise<void> {
    const batch: Batch = new Map([...envelopes].map(([object, envelope]) => [this.#key(`object/${object}`), envelope]))
    if (cursor !== null) batch.set(this.#key('cursor'), encodeCanonical(cursor))
    await this.#write(batch)
  }

  /** Hashes of headers that turned up too late to be taken. */
  async loadLate(): Promise<string[]> {
    const prefix = this.#key('late/')
    return [...(await this.#store.getAll(prefix)).keys()].map((key) => key.slice(prefix.length))
  }

  async saveLate(hash: string): Promise<void> {
    await this.#write(new Map([[this.#key(`late/${hash}`), new Uint8Array(0)]]))
  }

  /** Everything but the log. */
  async loadKept() {
    const [secrets, headers, late, cursor] = await Promise.all([this.loadSecrets(), this.loadHeaders(), this.loadLate(), this.loadCursor()])
    return { secrets, headers, late, cursor }
  }

  async loadPending(): Promise<Pending | null> {
    return this.#load('pending', PendingSchema)
  }

  async savePending(pending: Pending | null): Promise<void> {
    await this.#write(new Map([[this.#key('pending'), pending === null ? null : encodeCanonical(pending)]]))
  }

  /** Forgets everything about the group. What somebody still writes through this object is dropped. */
  async erase(): Promise<void> {
    this.#isErased = true
    await Promise.allSettled(this.#writing)
    const entries = await this.#store.getAll(this.#prefix)
    await this.#store.write(new Map([this.#place, ...entries.keys()].map((key) => [key, null])))
  }

  async #write(batch: StoreBatch): Promise<void> {
    if (this.#isErased) return
    const writing = this.#store.write(batch)
    this.#writing.add(writing)
    await writing.finally(() => this.#writing.delete(writing))
  }

  async #loadPlace(): Promise<LogPlace | null> {
    return this.#parse(await this.#store.get(this.#place), PlaceSchema)
  }

  async #loadState(key: string): Promise<GroupState | null> {
    const saved = await this.#load(key, StateSchema)
    return saved === null ? null : { group: this.group, head: saved.head, roster: decodeRoster(saved.roster) }
  }

  /** A new snapshot, without the commits that led from the one before. */
  #snapshotBatch(state: GroupState, place: LogPlace | null): Batch {
    const batch: Batch = new Map([[this.#key('state'), encodeState(state)]])
    if (place !== null) for (let seq = place.base + 1; seq <= place.head.seq; seq += 1) batch.set(this.#commitKey(seq), null)
    return batch
  }

  #tailBatch(commits: AcceptedCommits['commits']): Batch {
    return new Map(commits.map(({ payload, bytes }) => [this.#commitKey(payload.seq), bytes]))
  }

  async #load<T>(key: string, schema: z.ZodMiniType<T>): Promise<T | null> {
    return this.#parse(await this.#store.get(this.#key(key)), schema)
  }

  #parse<T>(bytes: Uint8Array | null, schema: z.ZodMiniType<T>): T | null {
    if (bytes === null) return null
    const parsed = schema.safeParse(decodeCanonical(bytes))
    if (!parsed.success) throw new ClavigerError('store_invalid')
    return parsed.data
  }

  #commitKey(seq: number): string {
    return this.#key(`commit/${padded(seq)}`)
  }

  #headKey(seq: number): string {
    return this.#key(`head/${padded(seq)}`)
  }

  #key(name: string): string {
    return this.#prefix + name
  }
}

function encodeState({ head, roster }: GroupState): Uint8Array {
  return encodeCanonical({ head, roster: encodeRoster(roster) })
}

/** Fixed width, so that the order of keys is the order of numbers. */
function padded(value: number): string {
  return String(value).padStart(SEQ_DIGITS, '0')
}
