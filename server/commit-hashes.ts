/** Hashes of commits by number, for judging what items say about the head they were made at. They never change. */
import { equalBytes } from '../shared/bytes.ts'
import { ClavigerError } from '../shared/errors.ts'
import type { GroupState } from '../shared/group/fold.ts'
import type { CommitHash, GroupId, Head, IdentityId } from '../shared/ids.ts'
import { idKey } from '../shared/ids.ts'
import type { Database } from './storage/database.ts'
import { readCommitHash } from './storage/log.ts'

/** About 200 bytes each. */
const CACHED_MAX = 10_000

export class CommitHashes {
  readonly #database: Database
  readonly #cache = new Map<string, CommitHash>()

  constructor(database: Database) {
    this.#database = database
  }

  /** Checks that `at` is in the group’s history. @throws ClavigerError `bad_head`, its signer in the data. */
  async assertContains(state: GroupState, at: Head, signer: IdentityId): Promise<void> {
    const hash = await this.find(state, at.seq)
    if (hash === null || !equalBytes(hash, at.hash)) throw new ClavigerError('bad_head', undefined, { data: { signer, seq: at.seq } })
  }

  /** The hash of commit `seq`, or null if the log does not reach it. */
  async find({ group, head }: GroupState, seq: number): Promise<CommitHash | null> {
    if (seq === head.seq) return head.hash
    return seq > head.seq ? null : this.#read(group, seq)
  }

  async #read(group: GroupId, seq: number): Promise<CommitHash | null> {
    const key = `${idKey(group)}/${seq}`
    const known = this.#cache.get(key)
    if (known !== undefined) return known
    const hash = await readCommitHash(this.#database, group, seq)
    if (hash === null) return null
    if (this.#cache.size >= CACHED_MAX) this.#cache.clear()
    this.#cache.set(key, hash)
    return hash
  }
}
