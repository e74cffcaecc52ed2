/**
 * The groups this process works with, each folded to a head it has seen.
 *
 * A cached state may be behind the database at any moment: it says what a request is judged by, while the statement that
 * carries the request out asserts the same head. Commits in the database have been verified by whoever accepted them,
 * so they are folded here without checking signatures again.
 */
import type { Commit } from '../shared/group/commit.ts'
import { decodeCommit } from '../shared/group/commit.ts'
import type { GroupState } from '../shared/group/fold.ts'
import { foldCommit } from '../shared/group/fold.ts'
import { decodeRoster, encodeRoster, findInviteBySigningKey, findMemberBySigningKey } from '../shared/group/roster.ts'
import { ClavigerError } from '../shared/errors.ts'
import type { GroupId, PrincipalId } from '../shared/ids.ts'
import { idKey } from '../shared/ids.ts'
import { SNAPSHOT_COMMITS } from '../shared/limits.ts'
import type { Log } from './log.ts'
import type { Database } from './storage/database.ts'
import { readCommit, readLog } from './storage/log.ts'
import { readSnapshotBefore, storeSnapshot } from './storage/snapshots.ts'

/** Members, invites and epochs of all cached rosters together: about 500 bytes each. */
const CACHED_ENTRIES_MAX = 200_000
/** Commits after which a roster is stored whoever made the commit, so that folding from storage stays short. */
const SNAPSHOT_COMMITS_MAX = 4 * SNAPSHOT_COMMITS

interface Cached {
  readonly state: GroupState
  /** The newest stored snapshot, −1 if there is none. */
  readonly snapshotSeq: number
}

/** A read of a group that is under way, and the one after it. */
interface Loading {
  readonly running: Promise<GroupState>
  next: Promise<GroupState> | null
}

export class Groups {
  readonly #database: Database
  readonly #log: Log
  /** In order of use, oldest first. */
  readonly #cache = new Map<string, Cached>()
  readonly #loading = new Map<string, Loading>()
  #entries = 0

  constructor(database: Database, log: Log) {
    this.#database = database
    this.#log = log
  }

  /** The group as this process last saw it. @throws ClavigerError `unknown_group`. */
  async state(group: GroupId): Promise<GroupState> {
    return this.#use(idKey(group))?.state ?? (await this.refresh(group))
  }

  /** The cached state, without asking the database. */
  peek(group: GroupId): GroupState | null {
    return this.#cache.get(idKey(group))?.state ?? null
  }

  /** The group as the database has it now. @throws ClavigerError `unknown_group`. */
  refresh(group: GroupId): Promise<GroupState> {
    const key = idKey(group)
    const under = this.#loading.get(key)
    if (under === undefined) return this.#startLoading(group, key)
    // What is asked for during a read may be newer than that read: it waits for the next one, which all share who wait.
    const start = (): Promise<GroupState> => this.#startLoading(group, key)
    under.next ??= under.running.then(start, start)
    return under.next
  }

  /** The group at least at `seq`. */
  async atLeast(group: GroupId, seq: number): Promise<GroupState> {
    const state = await this.state(group)
    return state.head.seq >= seq ? state : this.refresh(group)
  }

  /**
   * The group exactly at commit `seq`, folded on from the newest stored roster before it.
   *
   * @throws ClavigerError `unknown_group`, `not_found`.
   */
  async at(group: GroupId, seq: number): Promise<GroupState> {
    const current = await this.atLeast(group, seq)
    if (current.head.seq === seq) return current
    if (seq > current.head.seq) throw new ClavigerError('not_found', 'The log does not reach that commit.')
    const { state } = await this.#fromStorage(group, seq)
    return this.#advance(group, state, seq)
  }

  /** Takes over a state that this process has just made the head, and stores its roster now and then. */
  async accepted(before: GroupState | null, commit: Commit, after: GroupState): Promise<void> {
    const key = idKey(after.group)
    const cached = this.#cache.get(key)
    if (cached !== undefined && cached.state.head.seq >= after.head.seq) return
    const snapshotSeq = cached?.snapshotSeq ?? -1
    const { author } = commit.payload
    const member = before === null ? null : findMemberBySigningKey(before.roster, author)
    // A join is made by the key of an invite: such a snapshot is nothing for clients, and saves us the fold all the same.
    const invite = before === null ? null : findInviteBySigningKey(before.roster, author)
    const principal = member?.id ?? invite?.id ?? null
    const due = principal !== null && after.head.seq - snapshotSeq >= (member?.role === 'admin' ? SNAPSHOT_COMMITS : SNAPSHOT_COMMITS_MAX)
    this.#put(key, { state: after, snapshotSeq: due ? after.head.seq : snapshotSeq })
    if (due) await this.#storeSnapshot(after, principal)
  }

  /** Groups whose state is kept here: those that a sweep compares with the database. */
  cached(): readonly GroupState[] {
    return [...this.#cache.values()].map(({ state }) => state)
  }

  #startLoading(group: GroupId, key: string): Promise<GroupState> {
    const loading: Loading = { running: this.#load(group, key), next: null }
    this.#loading.set(key, loading)
    const forget = (): void => {
      if (loading.next === null) this.#loading.delete(key)
    }
    loading.running.then(forget, forget)
    return loading.running
  }

  async #load(group: GroupId, key: string): Promise<GroupState> {
    const cached = this.#cache.get(key) ?? (await this.#fromStorage(group, Number.MAX_SAFE_INTEGER))
    const state = await this.#advance(group, cached.state, Number.MAX_SAFE_INTEGER)
    const newer = this.#cache.get(key)
    if (newer !== undefined && newer.state.head.seq > state.head.seq) return newer.state
    this.#put(key, { state, snapshotSeq: cached.snapshotSeq })
    return state
  }

  async #fromStorage(group: GroupId, seq: number): Promise<{ state: GroupState | null; snapshotSeq: number }> {
    const snapshot = await readSnapshotBefore(this.#database, group, seq)
    const commit = snapshot === null ? null : await readCommit(this.#database, group, snapshot.seq)
    if (snapshot === null || commit === null) return { state: null, snapshotSeq: -1 }
    const state = { group, head: { seq: commit.seq, hash: commit.hash }, roster: decodeRoster(snapshot.roster) }
    return { state, snapshotSeq: snapshot.seq }
  }

  /** Folds the commits after `state`, up to `seq` or the head. */
  async #advance(group: GroupId, state: GroupState | null, seq: number): Promise<GroupState> {
    let current = state
    for (;;) {
      const from = (current?.head.seq ?? -1) + 1
      const page = await readLog(this.#database, group, { from })
      if (page === null) throw new ClavigerError('unknown_group')
      for (const commit of page.commits) if (commit.seq <= seq) current = foldCommit(current, decodeCommit(commit.bytes)).state
      if (current === null) throw new ClavigerError('unknown_group')
      if (page.commits.length === 0 || current.head.seq >= Math.min(seq, page.head.seq)) return current
    }
  }

  async #storeSnapshot(state: GroupState, author: PrincipalId): Promise<void> {
    try {
      await storeSnapshot(this.#database, state.group, { seq: state.head.seq, author, roster: encodeRoster(state.roster) })
    } catch (error) {
      // A snapshot only saves work: the commit it belongs to has been accepted.
      this.#log.error({ group: idKey(state.group) }, 'the snapshot was not stored', error)
    }
  }

  #use(key: string): Cached | null {
    const cached = this.#cache.get(key)
    if (cached === undefined) return null
    this.#cache.delete(key)
    this.#cache.set(key, cached)
    return cached
  }

  #put(key: string, cached: Cached): void {
    this.#drop(key)
    this.#cache.set(key, cached)
    this.#entries += weightOf(cached.state)
    for (const oldest of this.#cache.keys()) {
      if (this.#entries <= CACHED_ENTRIES_MAX || oldest === key) break
      this.#drop(oldest)
    }
  }

  #drop(key: string): void {
    const cached = this.#cache.get(key)
    if (cached === undefined) return
    this.#cache.delete(key)
    this.#entries -= weightOf(cached.state)
  }
}

function weightOf({ roster }: GroupState): number {
  return 1 + roster.members.length + roster.invites.length + roster.epochs.length
}
