/**
 * The commits of a log that a client knows by number: those it has accepted, and earlier ones that the accepted history
 * proves. A client that began with a snapshot has seen few of the heads at which old items were signed.
 */
import { decodeCommit } from '../shared/group/commit.ts'
import type { GroupState } from '../shared/group/fold.ts'
import { historyRoot, verifyInclusion } from '../shared/group/history.ts'
import { sameBytes } from '../shared/group/roster.ts'
import { ClavigerError } from '../shared/errors.ts'
import type { CommitHash, Head } from '../shared/ids.ts'
import { asCommitHash } from '../shared/ids.ts'
import type { GroupContext } from './group-context.ts'

/** Proofs asked for side by side; more cost a part of the log instead. */
const PROOFS_AT_ONCE = 64
/** Commits that may be read instead of one proof: about what takes as long. */
const COMMITS_PER_PROOF = 8

/** One group’s known heads. */
export class ProvenHeads {
  readonly #context: Pick<GroupContext, 'connection' | 'group'>
  readonly #state: () => GroupState
  readonly #hashes: Map<number, CommitHash>

  /** @param hashes - of accepted commits by number; taken over. */
  constructor(context: Pick<GroupContext, 'connection' | 'group'>, state: () => GroupState, hashes: Map<number, CommitHash>) {
    this.#context = context
    this.#state = state
    this.#hashes = hashes
  }

  /** All that is known, by number. */
  get hashes(): Map<number, CommitHash> {
    return this.#hashes
  }

  /** The hash of a commit if it is known already. */
  get(seq: number): CommitHash | undefined {
    return this.#hashes.get(seq)
  }

  add({ seq, hash }: Head): void {
    this.#hashes.set(seq, hash)
  }

  /** The hash of an earlier commit; null if the server has no proof of it. */
  async prove(seq: number): Promise<CommitHash | null> {
    const known = this.#hashes.get(seq)
    if (known !== undefined) return known
    const { connection, group } = this.#context
    const { history } = this.#state().roster
    const { size } = history
    if (seq >= size) return null
    const { hash, path } = await connection.request('log.inclusion', { group, seq, size })
    if (!verifyInclusion({ commitHash: hash, index: seq, size, root: historyRoot(history) }, path)) return null
    const proven = asCommitHash(hash)
    this.#hashes.set(seq, proven)
    return proven
  }

  /**
   * Learns many heads ahead of their use, so that none costs a round trip of its own. It judges nothing: what could not be
   * learned is asked for again by {@link ProvenHeads.prove}, which tells why.
   */
  async learn(seqs: Iterable<number>): Promise<void> {
    const { size } = this.#state().roster.history
    const wanted = [...new Set(seqs)].filter((seq) => seq < size && !this.#hashes.has(seq)).toSorted((left, right) => left - right)
    try {
      await this.#learnAll(wanted)
    } catch (error) {
      if (!(error instanceof ClavigerError)) throw error
    }
  }

  async #learnAll(wanted: readonly number[]): Promise<void> {
    const [lowest, highest] = [wanted[0], wanted.at(-1)]
    if (lowest === undefined || highest === undefined) return
    if (wanted.length > PROOFS_AT_ONCE && highest - lowest < COMMITS_PER_PROOF * wanted.length) return this.#followBack(lowest, highest)
    for (let from = 0; from < wanted.length; from += PROOFS_AT_ONCE) {
      await Promise.all(wanted.slice(from, from + PROOFS_AT_ONCE).map((seq) => this.prove(seq)))
    }
  }

  /** Reads a part of the log and takes what leads, parent by parent, to a commit that is known. */
  async #followBack(from: number, through: number): Promise<void> {
    const top = await this.#provenAbove(through)
    if (top === null) return
    const read = await this.#readHashes(from, top.seq)
    let expected: CommitHash | null = top.hash
    for (let seq = top.seq; seq >= from && expected !== null; seq -= 1) {
      const commit = read.get(seq)
      if (commit === undefined || !sameBytes(commit.hash, expected)) return
      this.#hashes.set(seq, commit.hash)
      expected = commit.parent
    }
  }

  /** A known commit right after `seq`, or proven now. */
  async #provenAbove(seq: number): Promise<Head | null> {
    const { head, roster } = this.#state()
    const next = Math.min(seq + 1, roster.history.size)
    if (next === head.seq) return head
    const hash = await this.prove(next)
    return hash === null ? null : { seq: next, hash }
  }

  async #readHashes(from: number, through: number): Promise<ReadonlyMap<number, { hash: CommitHash; parent: CommitHash | null }>> {
    const { connection, group } = this.#context
    const read = new Map<number, { hash: CommitHash; parent: CommitHash | null }>()
    for (let next = from; next <= through;) {
      const { commits } = await connection.request('log.read', { group, from: next })
      if (commits.length === 0) break
      for (const bytes of commits) {
        const { hash, payload } = decodeCommit(bytes)
        if (payload.seq === next) read.set(next, { hash, parent: payload.parent })
        next += 1
      }
    }
    return read
  }
}
