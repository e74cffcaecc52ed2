/**
 * The client’s copy of a group’s log: judges every commit, remembers every head it accepted, never goes back.
 *
 * A client that missed much may take a snapshot ahead, signed by an admin it already trusts; until the skipped commits have
 * been folded in the background it is not `verified` and must not change the roster.
 */
import { verifyChecks } from '../shared/group/card.ts'
import type { Commit } from '../shared/group/commit.ts'
import { decodeCommit } from '../shared/group/commit.ts'
import type { Fold, GroupState } from '../shared/group/fold.ts'
import { foldCommit } from '../shared/group/fold.ts'
import { sameBytes } from '../shared/group/roster.ts'
import { openSnapshotAhead } from '../shared/group/snapshot.ts'
import { ClavigerError, hasCode } from '../shared/errors.ts'
import { HeadSchema } from '../shared/codec.ts'
import type { CommitHash, Head } from '../shared/ids.ts'
import { SNAPSHOT_JUMP_COMMITS } from '../shared/limits.ts'
import type { GroupContext } from './group-context.ts'
import { ProvenHeads } from './proven-heads.ts'
import { Serial } from './serial.ts'

/** One or more commits were accepted. */
export interface Advance {
  readonly before: GroupState
  /** Empty when the state came from a snapshot. */
  readonly folds: readonly Fold[]
  readonly state: GroupState
}

/** Parts that a log is opened with. */
export interface OpenedLog {
  readonly state: GroupState
  readonly heads: Map<number, CommitHash>
  /** The state to verify from, if the current one came from a snapshot ahead. */
  readonly verified: GroupState | null
  /** The `fork` or `rollback` that has stopped the group, with its evidence. */
  readonly stopped?: ClavigerError | null
}

/** A group’s log, from the head in the store onwards. */
export class GroupLog {
  readonly #context: GroupContext
  readonly #serial = new Serial()
  readonly #heads: ProvenHeads
  readonly #onAdvance: (advance: Advance) => Promise<void>
  #state: GroupState
  #unverifiedFrom: GroupState | null
  #stopped: ClavigerError | null
  #verifying: Promise<void> | null = null

  constructor(context: GroupContext, opened: OpenedLog, onAdvance: (advance: Advance) => Promise<void>) {
    this.#context = context
    this.#state = opened.state
    this.#heads = new ProvenHeads(context, () => this.#state, opened.heads)
    this.#unverifiedFrom = opened.verified
    this.#stopped = opened.stopped ?? null
    this.#onAdvance = onAdvance
  }

  /** The accepted head and roster. */
  get state(): GroupState {
    return this.#state
  }

  /** What another log of the same group can go on from. */
  get opened(): OpenedLog {
    return { state: this.#state, heads: this.#heads.hashes, verified: this.#unverifiedFrom }
  }

  /** Whether every commit up to the head has been folded by this client or by a snapshot it trusted before. */
  get isVerified(): boolean {
    return this.#unverifiedFrom === null
  }

  /** The `fork` or `rollback` that has stopped the group; null while it runs. */
  get stopped(): ClavigerError | null {
    return this.#stopped
  }

  /** @throws ClavigerError `group_stopped` after a fork or a rollback. */
  assertRunning(): void {
    if (this.#stopped !== null) throw new ClavigerError('group_stopped', undefined, { cause: this.#stopped, data: this.#stopped.data })
  }

  /** Fetches and folds whatever the server has beyond the accepted head. */
  sync(): Promise<void> {
    return this.#run(() => this.#catchUp())
  }

  /** Takes one commit that came by itself; known ones are compared, gaps are fetched. */
  receive(bytes: Uint8Array): Promise<void> {
    return this.#run(async () => {
      const commit = decodeCommit(bytes)
      if (commit.payload.seq <= this.#state.head.seq) this.#assertKnown(commit)
      else if (commit.payload.seq === this.#state.head.seq + 1) await this.#fold([bytes])
      else await this.#catchUp()
    })
  }

  /** Compares where the server says the log stands with what was accepted when it was asked. @throws ClavigerError `rollback`, `fork`: the group is stopped. */
  judgeHead(offered: Head, asked: Head): Promise<void> {
    return this.#watch(async () => this.#assertNotBehind(offered, asked))
  }

  /** Stops the group for a `rollback` that another part of it has found. @throws it, with the evidence. */
  stop(found: ClavigerError): Promise<never> {
    return this.#watch(() => Promise.reject(found))
  }

  /**
   * Checks that a head named by a signed item is in this history.
   *
   * @throws ClavigerError `bad_head`: the item is refused; other items and the group are not affected.
   */
  async assertContains(head: Head): Promise<void> {
    const known = await this.#heads.prove(head.seq)
    if (known === null || !sameBytes(known, head.hash)) throw new ClavigerError('bad_head', undefined, { data: { seq: head.seq } })
  }

  /** Learns commits that signed items name, before {@link GroupLog.assertContains} is asked about each: many cost one round trip. */
  learnHeads(seqs: Iterable<number>): Promise<void> {
    return this.#heads.learn(seqs)
  }

  /** Folds what a snapshot ahead has skipped. @throws ClavigerError `fork`: the group is stopped. */
  verifySkipped(): Promise<void> {
    this.#verifying ??= this.#verifyPages().finally(() => {
      this.#verifying = null
    })
    return this.#verifying
  }

  // ——— Catching up ———

  async #catchUp(): Promise<void> {
    for (;;) {
      const { commits, head } = await this.#read(this.#state.head.seq + 1)
      this.#assertNotBehind(head, this.#state.head)
      if (commits.length === 0) return this.#assertNothingWithheld(head)
      const missed = head.seq - this.#state.head.seq
      if (missed <= SNAPSHOT_JUMP_COMMITS || !this.isVerified || !(await this.#jump())) await this.#fold(commits)
    }
  }

  #read(from: number): Promise<{ commits: Uint8Array[]; head: Head }> {
    return this.#context.connection.request('log.read', { group: this.#context.group, from })
  }

  #assertNotBehind(offered: Head, asked: Head): void {
    const known = this.#heads.get(offered.seq)
    const data = { accepted: asked, offered }
    if (offered.seq < asked.seq) throw new ClavigerError('rollback', undefined, { data })
    if (known !== undefined && !sameBytes(known, offered.hash))
      throw new ClavigerError('fork', undefined, { data: { accepted: { seq: offered.seq, hash: known }, offered } })
  }

  #assertNothingWithheld(head: Head): void {
    if (head.seq > this.#state.head.seq)
      throw new ClavigerError('malformed', 'the server names a head and withholds the commits that lead to it')
  }

  /** Takes a snapshot ahead of the accepted head, if the server has one that a trusted admin signed. */
  async #jump(): Promise<boolean> {
    const { group, connection, counters } = this.#context
    const { snapshot } = await connection.request('log.snapshot', { kind: 'ahead', group, after: this.#state.head.seq })
    if (snapshot === null) return false
    const before = this.#state
    try {
      const state = await openSnapshotAhead(before, snapshot)
      if (state.head.seq <= before.head.seq) return false
      this.#unverifiedFrom = before
      counters.snapshotsTaken += 1
      await this.#adopt({ before, folds: [], state })
      return true
    } catch (error) {
      // A bad snapshot proves nothing about the log: the commits themselves will be judged.
      if (!(error instanceof ClavigerError)) throw error
      this.#context.emit({ type: 'bad-item', signer: null, error })
      return false
    }
  }

  /** Folds commits in a row and checks all their signatures together; what holds before a bad one is kept. */
  async #fold(commits: readonly Uint8Array[]): Promise<void> {
    const before = this.#state
    const folds: Fold[] = []
    try {
      for (const bytes of commits) folds.push(this.#foldOne(folds.at(-1)?.state ?? before, bytes))
    } finally {
      await this.#verifyAndAdopt(before, folds)
    }
  }

  async #verifyAndAdopt(before: GroupState, folds: readonly Fold[]): Promise<void> {
    await verifyChecks(folds.flatMap((fold) => fold.checks))
    this.#context.counters.commitsFolded += folds.length
    const last = folds.at(-1)
    if (last !== undefined) await this.#adopt({ before, folds, state: last.state })
  }

  #foldOne(state: GroupState, bytes: Uint8Array): Fold {
    const commit = decodeCommit(bytes)
    const isNext = commit.payload.seq === state.head.seq + 1
    if (isNext && commit.payload.parent !== null && !sameBytes(commit.payload.parent, state.head.hash)) {
      throw new ClavigerError('fork', undefined, { data: { accepted: state.head, offered: bytes } })
    }
    return foldCommit(state, commit)
  }

  #assertKnown(commit: Commit): void {
    const known = this.#heads.get(commit.payload.seq)
    if (known === undefined || sameBytes(known, commit.hash)) return
    throw new ClavigerError('fork', undefined, { data: { accepted: { seq: commit.payload.seq, hash: known }, offered: commit.bytes } })
  }

  async #adopt(advance: Advance): Promise<void> {
    const { before, folds, state } = advance
    const { store } = this.#context
    if (folds.length > 0) await store.saveCommits({ before: before.head, commits: folds.map(({ commit }) => commit), state })
    else await store.saveState(state, this.#unverifiedFrom)
    this.#state = state
    for (const head of [...folds.map((fold) => fold.state.head), state.head]) this.#heads.add(head)
    await this.#onAdvance(advance)
  }

  // ——— Verifying what was skipped ———

  /** Pages are fetched outside the queue: new commits are followed meanwhile. */
  async #verifyPages(): Promise<void> {
    for (let from = this.#unverifiedFrom; from !== null; from = this.#unverifiedFrom) {
      this.assertRunning()
      const [start, { commits }] = [from, await this.#read(from.head.seq + 1)]
      await this.#run(() => this.#verifyPage(start, commits))
    }
  }

  async #verifyPage(from: GroupState, commits: readonly Uint8Array[]): Promise<void> {
    const { state, heads } = await this.#replay(from, commits)
    for (const head of heads) this.#heads.add(head)
    this.#unverifiedFrom = state.head.seq >= this.#state.head.seq ? null : state
    await this.#context.store.saveVerified(this.#unverifiedFrom, heads)
    if (this.#unverifiedFrom === null) this.#context.emit({ type: 'verified' })
  }

  /** Folds one page of the skipped part; any disagreement with what has been accepted stops the group. */
  async #replay(from: GroupState, commits: readonly Uint8Array[]): Promise<{ state: GroupState; heads: Head[] }> {
    const heads: Head[] = []
    let state = from
    try {
      for (const bytes of commits) {
        const fold = foldCommit(state, decodeCommit(bytes))
        await verifyChecks(fold.checks)
        this.#assertKnown(fold.commit)
        state = fold.state
        heads.push(state.head)
        if (state.head.seq >= this.#state.head.seq) break
      }
    } catch (error) {
      if (hasCode(error, 'fork')) throw error
      throw new ClavigerError('fork', 'the skipped part of the log does not lead to the snapshot', { cause: error })
    }
    if (heads.length === 0) throw new ClavigerError('fork', 'the skipped part of the log is withheld')
    return { state, heads }
  }

  // ——— Stopping ———

  #run<T>(task: () => Promise<T>): Promise<T> {
    return this.#serial.run(() => this.#watch(task))
  }

  /** Runs a task; a `fork` or `rollback` that it finds stops the group for good. */
  async #watch<T>(task: () => Promise<T>): Promise<T> {
    this.assertRunning()
    try {
      return await task()
    } catch (error) {
      throw hasCode(error, 'fork', 'rollback') ? await this.#stop(error) : error
    }
  }

  /** Keeps the evidence before anybody is told: a restart must not forget it. */
  async #stop(found: ClavigerError): Promise<ClavigerError> {
    if (this.#stopped !== null) return this.#stopped
    this.#stopped = found
    try {
      this.#stopped = await this.#withCommit(found)
      await this.#context.store.saveStopped(this.#stopped)
    } finally {
      this.#context.emit({ type: 'ended', error: this.#stopped })
    }
    return this.#stopped
  }

  /** Adds the commit that was accepted, as it was signed, if it is at hand: heads alone prove nothing to others. */
  async #withCommit({ code, message, cause, data }: ClavigerError): Promise<ClavigerError> {
    const accepted = HeadSchema.safeParse(data['accepted'])
    const acceptedCommit = accepted.success ? await this.#context.store.loadCommit(accepted.data.seq) : null
    return new ClavigerError(code, message, { cause, data: { ...data, acceptedCommit } })
  }
}
