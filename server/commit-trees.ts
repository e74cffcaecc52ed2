/** The trees of the groups whose proofs are asked for, filled from the database as far as needed. */
import type { GroupId } from '../shared/ids.ts'
import { idKey } from '../shared/ids.ts'
import { CommitTree } from './commit-tree.ts'
import type { Database } from './storage/database.ts'
import { readCommitHashes } from './storage/log.ts'

/** Commits in all trees together, about 250 bytes each. */
const COMMITS_MAX = 200_000
/** Hashes read at once. */
const HASHES_PER_READ = 10_000

export class CommitTrees {
  readonly #database: Database
  /** In order of use, oldest first. */
  readonly #trees = new Map<string, CommitTree>()
  readonly #filling = new Map<string, Promise<unknown>>()

  constructor(database: Database) {
    this.#database = database
  }

  /** The tree of a group, over `size` commits or more. The caller has checked that the log is that long. */
  async treeOf(group: GroupId, size: number): Promise<CommitTree> {
    const key = idKey(group)
    // One after the other: each commit is appended once.
    const turn = (this.#filling.get(key) ?? Promise.resolve()).then(() => this.#fill(group, size))
    const settled = turn.catch(() => undefined)
    this.#filling.set(key, settled)
    try {
      return await turn
    } finally {
      if (this.#filling.get(key) === settled) this.#filling.delete(key)
    }
  }

  async #fill(group: GroupId, size: number): Promise<CommitTree> {
    const key = idKey(group)
    const tree = this.#trees.get(key) ?? new CommitTree()
    this.#trees.delete(key)
    this.#trees.set(key, tree)
    while (tree.size < size) {
      const hashes = await readCommitHashes(this.#database, group, { from: tree.size, to: Math.min(size, tree.size + HASHES_PER_READ) })
      if (hashes.length === 0) throw new RangeError('the log is shorter than the proof asked for')
      for (const hash of hashes) tree.append(hash)
    }
    this.#dropOldest(key)
    return tree
  }

  #dropOldest(kept: string): void {
    let total = 0
    for (const tree of this.#trees.values()) total += tree.size
    for (const [key, tree] of this.#trees) {
      if (total <= COMMITS_MAX || key === kept) return
      this.#trees.delete(key)
      total -= tree.size
    }
  }
}
