/**
 * The client: one identity, one server, any number of groups.
 */
import { randomBytes } from '../shared/crypto/public-crypto.ts'
import { ClavigerError, hasCode } from '../shared/errors.ts'
import { generateEpochSecret, epochPublic, wrapEpochSecret } from '../shared/group/epoch.ts'
import type { Fold } from '../shared/group/fold.ts'
import { applyCommit } from '../shared/group/fold.ts'
import { parseToken } from '../shared/group/invite.ts'
import { planCommit, signCommit } from '../shared/group/plan-commit.ts'
import { recipients } from '../shared/group/roster.ts'
import type { GroupId } from '../shared/ids.ts'
import { idKey } from '../shared/ids.ts'
import { COMMIT_ATTEMPTS_MAX } from '../shared/limits.ts'
import { claimedTime } from './committer.ts'
import { Connection } from './connection.ts'
import { Group } from './group.ts'
import type { GroupContext } from './group-context.ts'
import type { OpenedLog } from './group-log.ts'
import { GroupStore } from './group-store.ts'
import type { Identity } from './identity.ts'
import { joinGroup } from './join.ts'
import { epochContext } from './keyring.ts'
import { MemoryStore } from './memory-store.ts'
import type { Store } from './store.ts'
import type { OpenSocket } from './transport.ts'

export interface ClavigerOptions {
  readonly identity: Identity
  /** Default: in memory, gone with the process. */
  readonly store?: Store
  /** Default: the platform’s WebSocket. */
  readonly openSocket?: OpenSocket
  /** A token of the app’s own sign-in, for servers that ask for one. */
  readonly admission?: () => Promise<string>
  /** Whether this client settles, heals, rewraps and retires by itself. Default true. */
  readonly background?: boolean
  /** What an operation does without a connection: `wait` for the next one (default), or `refuse` with `disconnected`. */
  readonly whenOffline?: 'wait' | 'refuse'
  /** How long background work waits at most before it starts, in ms: spreads the members of a group. Default 2000. */
  readonly jitterMs?: number
  /** Milliseconds since 1970. Default: `Date.now`. */
  readonly now?: () => number
  readonly signal?: AbortSignal
}

const JITTER_MS = 2000

/** A client of one server. */
export class Claviger {
  readonly #url: string
  readonly #options: ClavigerOptions
  readonly #store: Store
  readonly #connection: Connection
  readonly #groups = new Map<string, Promise<Group>>()

  private constructor(url: string, options: ClavigerOptions, connection: Connection) {
    this.#url = url
    this.#options = options
    this.#store = options.store ?? new MemoryStore()
    this.#connection = connection
  }

  /**
   * Connects, signs in, and follows every group that the store knows.
   *
   * @param url - `ws:` or `wss:`.
   * @throws ClavigerError if the server refuses this client for good; a lost connection is made again by itself.
   */
  static async connect(url: string, options: ClavigerOptions): Promise<Claviger> {
    const { identity, openSocket, admission, now, signal } = options
    const connection = new Connection(url, {
      identity: identity.id,
      cards: identity.cards,
      signer: identity.signer,
      ...(openSocket === undefined ? {} : { openSocket }),
      ...(admission === undefined ? {} : { admission }),
      ...(now === undefined ? {} : { now }),
    })
    const claviger = new Claviger(url, options, connection)
    try {
      await connection.whenOpen(signal === undefined ? {} : { signal })
      for (const group of await GroupStore.list(claviger.#store)) await claviger.group(group)
      return claviger
    } catch (error) {
      claviger.close()
      throw error
    }
  }

  get identity(): Identity {
    return this.#options.identity
  }

  /** One’s own id. */
  get id(): Identity['id'] {
    return this.#options.identity.id
  }

  /** The line to the server. */
  get connection(): Connection {
    return this.#connection
  }

  /** Creates a group with oneself as its only admin. */
  async createGroup({ name }: { name?: string } = {}): Promise<Group> {
    const opened = await this.#create()
    const group = await this.#open(opened)
    await group.ready()
    if (name !== undefined) await group.rename(name)
    return group
  }

  /** Joins the group of an invite token; nobody needs to be online, unless the invite asks for approval. */
  async join(token: string, { signal }: { signal?: AbortSignal } = {}): Promise<Group> {
    const parsed = parseToken(token)
    const known = await this.#running(parsed.group)
    if (known !== null) return known
    const context = { ...this.#contextOf(parsed.group), emit: () => undefined }
    const group = await this.#open(await joinGroup({ context, token: parsed, signal }))
    await group.ready()
    return group
  }

  /** A group this client is a member of. @throws ClavigerError `unknown_group`. */
  async group(id: GroupId): Promise<Group> {
    const known = await this.#running(id)
    if (known !== null) return known
    const store = new GroupStore(this.#store, id)
    const [state, heads, verified] = await Promise.all([store.loadState(), store.loadHeads(), store.loadVerified()])
    if (state === null) throw new ClavigerError('unknown_group')
    return this.#open({ state, heads, verified })
  }

  /** Every group that the store knows. */
  async groups(): Promise<Group[]> {
    return Promise.all((await GroupStore.list(this.#store)).map((id) => this.group(id)))
  }

  /** Stops everything. The store is the caller’s to close. */
  close(): void {
    for (const group of this.#groups.values()) void group.then((open) => open.close())
    this.#connection.close()
  }

  /** The group if it is being followed; one that has ended is opened anew, since its client may have been let in again. */
  async #running(id: GroupId): Promise<Group | null> {
    const known = await this.#groups.get(idKey(id))
    return known === undefined || known.ended !== null ? null : known
  }

  #open(opened: OpenedLog): Promise<Group> {
    const key = idKey(opened.state.group)
    const group = Group.open({ context: this.#contextOf(opened.state.group), opened, isAutomatic: this.#options.background ?? true, server: this.#url, whenOffline: this.#options.whenOffline ?? 'wait' })
    this.#groups.set(key, group)
    return group
  }

  #contextOf(group: GroupId): Omit<GroupContext, 'emit'> {
    return {
      group,
      connection: this.#connection,
      identity: this.#options.identity,
      store: new GroupStore(this.#store, group),
      now: this.#options.now ?? Date.now,
      random: secureRandom,
      counters: { wrapsOpened: 0, linksOpened: 0, commitsFolded: 0, snapshotsTaken: 0, headersChecked: 0 },
      jitterMs: this.#options.jitterMs ?? JITTER_MS,
    }
  }

  /** Makes and sends the genesis; the same bytes again if an answer is lost. */
  async #create(): Promise<OpenedLog> {
    const { identity, now = Date.now } = this.#options
    const secret = generateEpochSecret()
    const rekey = { ...(await epochPublic(secret, { suite: 1, epoch: 0 })), link: null }
    const time = claimedTime(now(), this.#connection.serverTime())
    const { payload } = planCommit(null, identity.signer, { time, ops: [{ type: 'create', cards: [...identity.cards] }], rekey })
    const fold = await applyCommit(null, (await signCommit(payload, [identity.signer])).bytes)
    const { state } = fold
    const { enc, wraps } = await wrapEpochSecret(secret, epochContext(state.group, state.roster, 0), recipients(state.roster))
    await this.#sendGenesis(fold, { enc, wraps: wraps.filter((wrap) => wrap !== null) })
    const store = new GroupStore(this.#store, state.group)
    await store.saveSecrets(new Map([[0, secret]]))
    await store.saveState(state, [state.head], null)
    return { state, heads: new Map([[0, state.head.hash]]), verified: null }
  }

  async #sendGenesis({ commit }: Fold, sealed: { enc: Uint8Array; wraps: Uint8Array[] }): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        await this.#connection.request('group.create', { commit: commit.bytes, ...sealed })
        return
      } catch (error) {
        // The id is the hash of our own bytes: if it exists already, it is by us and only the answer was lost.
        if (attempt > 1 && hasCode(error, 'group_exists')) return
        if (attempt === COMMIT_ATTEMPTS_MAX || !hasCode(error, 'disconnected', 'timeout', 'server_unavailable')) throw error
        await this.#connection.whenOpen()
      }
    }
  }
}

function secureRandom(): number {
  const [high = 0, middle = 0, low = 0] = randomBytes(3)
  return (high * 65_536 + middle * 256 + low) / 2 ** 24
}
