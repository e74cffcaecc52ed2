/**
 * The client: one identity, one server, any number of groups.
 */
import { equalBytes } from '../shared/bytes.ts'
import { randomBytes } from '../shared/crypto/public-crypto.ts'
import { ClavigerError, hasCode } from '../shared/errors.ts'
import { verifyCards } from '../shared/group/card.ts'
import { applyCommit } from '../shared/group/fold.ts'
import type { InviteToken } from '../shared/group/invite.ts'
import { parseToken } from '../shared/group/invite.ts'
import type { GroupId, IdentityId } from '../shared/ids.ts'
import { idKey } from '../shared/ids.ts'
import { claimedTime } from './committer.ts'
import { Connection } from './connection.ts'
import { createGroup, newLog, planGenesis } from './create-group.ts'
import { Group } from './group.ts'
import type { GroupContext } from './group-context.ts'
import type { OpenedLog } from './group-log.ts'
import { GroupStore } from './group-store.ts'
import type { Identity } from './identity.ts'
import type { WaitingJoiner } from './join.ts'
import { joinGroup } from './join.ts'
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

/** How to join. */
export interface JoinOptions {
  /** Gives up; a join that was sent may still count. */
  readonly signal?: AbortSignal
  /** Called when the invite asks for approval and the request waits for an admin: compare the safety numbers. */
  readonly onWaiting?: (waiting: WaitingJoiner) => void
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
    const { identity, now = Date.now } = this.#options
    const genesis = await planGenesis(identity, claimedTime(now(), this.#connection.serverTime()))
    const group = await this.#opened(
      genesis.fold.state.group,
      () => false,
      async () => this.#follow(await createGroup(this.#connection, new GroupStore(this.#store, genesis.fold.state.group), genesis)),
    )
    await group.ready()
    if (name !== undefined) await group.rename(name)
    return group
  }

  /**
   * Joins the group of an invite token; nobody needs to be online, unless the invite asks for approval.
   *
   * @throws ClavigerError `invite_invalid`, `invite_spent`, `invite_expired`, `not_a_member` for whoever was removed.
   */
  join(token: string, options: JoinOptions = {}): Promise<Group> {
    const parsed = parseToken(token)
    return this.#opened(parsed.group, isMember, () => this.#join(parsed, options))
  }

  /**
   * A group this client is a member of: one it has followed before, or one it was added to.
   *
   * @throws ClavigerError `unknown_group`.
   */
  group(id: GroupId): Promise<Group> {
    return this.#opened(id, isFollowed, async () => this.#follow((await this.#load(id)) ?? (await this.#fetchGenesis(id))))
  }

  /** Every group that the store knows. */
  async groups(): Promise<Group[]> {
    return Promise.all((await GroupStore.list(this.#store)).map((id) => this.group(id)))
  }

  /**
   * Stops following a group and erases all that the store has of it, its secrets and evidence too. Membership is not touched.
   *
   * The way out of a group that was stopped by a `fork` or `rollback`, once it is known which history is the true one: `group`
   * or `join` then start anew, and trust what they are shown as any newcomer does.
   */
  async forget(id: GroupId): Promise<void> {
    const key = idKey(id)
    const known = this.#groups.get(key)
    const forgetting = this.#forget(id, known)
    this.#groups.set(key, forgetting)
    await forgetting.catch((error: unknown) => {
      if (this.#groups.get(key) === forgetting) this.#groups.delete(key)
      if (!hasCode(error, 'closed')) throw error
    })
  }

  /** @throws ClavigerError `closed` in the end: whoever waits for the group opens it anew. */
  async #forget(id: GroupId, known: Promise<Group> | undefined): Promise<never> {
    const group = await known?.catch(() => null)
    await (group?.forget() ?? new GroupStore(this.#store, id).erase())
    throw new ClavigerError('closed', 'this group was forgotten')
  }

  /**
   * Somebody’s public cards, for {@link Group.add}. The id is their hash, so the server cannot give others.
   *
   * @throws ClavigerError `not_found`, `invalid_key` if the server tries.
   */
  async cardsOf(identity: IdentityId): Promise<readonly Uint8Array[]> {
    const { cards } = await this.#connection.request('identity.read', { identity })
    const verified = await verifyCards(cards)
    if (!equalBytes(verified.identity, identity)) throw new ClavigerError('invalid_key', 'the server gave the cards of another identity')
    return verified.cards
  }

  /** Stops everything. The store is the caller’s to close. */
  close(): void {
    for (const group of this.#groups.values()) {
      group.then(
        (open) => open.close(),
        () => undefined,
      )
    }
    this.#connection.close()
  }

  // ——— Groups, each opened once ———

  /** The group if it is usable as it is, else what `open` gives; whoever asks meanwhile gets the same. */
  async #opened(id: GroupId, isUsable: (group: Group) => boolean | Promise<boolean>, open: () => Promise<Group>): Promise<Group> {
    const key = idKey(id)
    for (;;) {
      const current = this.#groups.get(key)
      const known = await current?.catch(() => null)
      if (known !== undefined && known !== null && (await isUsable(known))) return known
      // Somebody else was faster.
      if (this.#groups.get(key) !== current) continue
      const opening = open()
      this.#groups.set(key, opening)
      opening.catch(() => {
        if (this.#groups.get(key) === opening) this.#groups.delete(key)
      })
      return opening
    }
  }

  async #join(token: InviteToken, { signal, onWaiting }: JoinOptions): Promise<Group> {
    signal?.throwIfAborted()
    const context = { ...this.#contextOf(token.group), connection: this.#connection, emit: () => undefined }
    const known = await this.#load(token.group)
    const group = await this.#follow(await joinGroup({ context, token, known, signal, onWaiting }))
    await group.ready(signal === undefined ? {} : { signal })
    return group
  }

  #follow(opened: OpenedLog): Promise<Group> {
    const { background = true, whenOffline = 'wait' } = this.#options
    return Group.open({ context: this.#contextOf(opened.state.group), opened, isAutomatic: background, server: this.#url, whenOffline })
  }

  /** What the store has of a group, or null. */
  async #load(id: GroupId): Promise<OpenedLog | null> {
    const store = new GroupStore(this.#store, id)
    const [state, heads, verified, stopped] = await Promise.all([
      store.loadState(),
      store.loadHeads(),
      store.loadVerified(),
      store.loadStopped(),
    ])
    return state === null ? null : { state, heads, verified, stopped }
  }

  /** The beginning of a group this client was added to: its id is the hash of it. */
  async #fetchGenesis(id: GroupId): Promise<OpenedLog> {
    const { commits } = await this.#connection.request('log.read', { group: id, from: 0 })
    const [genesis] = commits
    if (genesis === undefined) throw new ClavigerError('unknown_group')
    const { state } = await applyCommit(null, genesis)
    if (!equalBytes(state.group, id)) throw new ClavigerError('unknown_group', 'the server shows another group')
    return newLog(state)
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
}

/** A group that ended for good is opened anew, since its client may have been let in again; one that was stopped stays so. */
function isFollowed({ ended }: Group): boolean {
  return ended === null || hasCode(ended, 'group_stopped')
}

/** Whether nothing is to be joined any more. */
async function isMember(group: Group): Promise<boolean> {
  try {
    await group.sync()
    return group.role !== null
  } catch (error) {
    if (hasCode(error, 'not_a_member', 'unknown_group', 'closed')) return false
    throw error
  }
}

function secureRandom(): number {
  const [high = 0, middle = 0, low = 0] = randomBytes(3)
  return (high * 65_536 + middle * 256 + low) / 2 ** 24
}
