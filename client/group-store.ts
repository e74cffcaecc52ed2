/**
 * What a client keeps of one group: its head and roster, every head it accepted, epoch secrets, known object headers,
 * the change cursor, and the commit it is waiting for.
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
import type { Store } from './store.ts'

const GROUPS_PREFIX = 'g/'
const SEQ_DIGITS = 16

const StateSchema = z.strictObject({ head: HeadSchema, roster: anyBytes })
const CursorSchema = z.strictObject({ change: uint(), epoch: uint() })
const PendingSchema = z.strictObject({ commit: anyBytes, epoch: z.nullable(uint()), secret: z.nullable(anyBytes) })

/** Where the feed was left, and the epoch that was current then. */
export type Cursor = z.infer<typeof CursorSchema>
/** A commit that was sent and not yet acknowledged, with the secret of the epoch it opens. */
export type Pending = z.infer<typeof PendingSchema>

/** A batch under construction. */
type Batch = Map<string, Uint8Array | null>

/** One group’s part of a store. */
export class GroupStore {
  readonly group: GroupId
  readonly #store: Store
  readonly #prefix: string

  constructor(store: Store, group: GroupId) {
    this.group = group
    this.#store = store
    this.#prefix = `${GROUPS_PREFIX}${idKey(group)}/`
  }

  /** The groups that a store knows. */
  static async list(store: Store): Promise<GroupId[]> {
    const keys = [...(await store.getAll(GROUPS_PREFIX)).keys()].filter((key) => key.endsWith('/state'))
    return keys.map((key) => asGroupId(fromHex(key.slice(GROUPS_PREFIX.length, -'/state'.length))))
  }

  /** The head this client has accepted; null for a group it does not know. */
  async loadState(): Promise<GroupState | null> {
    return this.#loadState('state')
  }

  /** The last state whose whole log was folded, while the current one came from a snapshot ahead. */
  async loadVerified(): Promise<GroupState | null> {
    return this.#loadState('verified')
  }

  async #loadState(key: string): Promise<GroupState | null> {
    const saved = await this.#load(key, StateSchema)
    return saved === null ? null : { group: this.group, head: saved.head, roster: decodeRoster(saved.roster) }
  }

  /** Keeps a state, the heads that led to it, and the state that is still to be verified from. */
  async saveState(state: GroupState, heads: readonly Head[], verified: GroupState | null): Promise<void> {
    const batch: Batch = new Map([[this.#key('state'), encodeState(state)]])
    batch.set(this.#key('verified'), verified === null ? null : encodeState(verified))
    for (const { seq, hash } of heads) batch.set(this.#key(`head/${padded(seq)}`), hash)
    await this.#store.write(batch)
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
    await this.#store.write(new Map([...secrets].map(([epoch, secret]) => [this.#key(`epoch/${padded(epoch)}`), secret])))
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
    await this.#store.write(batch)
  }

  /** Hashes of headers that turned up too late to be taken. */
  async loadLate(): Promise<string[]> {
    const prefix = this.#key('late/')
    return [...(await this.#store.getAll(prefix)).keys()].map((key) => key.slice(prefix.length))
  }

  async saveLate(hash: string): Promise<void> {
    await this.#store.write(new Map([[this.#key(`late/${hash}`), new Uint8Array(0)]]))
  }

  async loadPending(): Promise<Pending | null> {
    return this.#load('pending', PendingSchema)
  }

  async savePending(pending: Pending | null): Promise<void> {
    await this.#store.write(new Map([[this.#key('pending'), pending === null ? null : encodeCanonical(pending)]]))
  }

  /** Forgets everything about the group. */
  async erase(): Promise<void> {
    const entries = await this.#store.getAll(this.#prefix)
    await this.#store.write(new Map([...entries.keys()].map((key) => [key, null])))
  }

  async #load<T>(key: string, schema: z.ZodMiniType<T>): Promise<T | null> {
    const bytes = await this.#store.get(this.#key(key))
    if (bytes === null) return null
    const parsed = schema.safeParse(decodeCanonical(bytes))
    if (!parsed.success) throw new ClavigerError('store_invalid')
    return parsed.data
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
