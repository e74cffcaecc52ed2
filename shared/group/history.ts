/**
 * The Merkle tree over all commit hashes of a group (RFC 9162 §2.1), kept as the peaks of its perfect subtrees.
 *
 * Its head stands in every roster, so a client that starts from a snapshot can check any earlier head
 * (inclusion) and any earlier roster (consistency) without the commits between.
 */
import { hashLabelled } from '../crypto/public-crypto.ts'
import { equalBytes } from '../bytes.ts'

/** The tree over the first `size` commits: peaks of its perfect subtrees, largest first. */
export interface History {
  readonly size: number
  readonly peaks: readonly Uint8Array[]
}

/** The tree over no commit. */
export const EMPTY_HISTORY: History = { size: 0, peaks: [] }

/** Leaf hash (RFC 9162 §2.1.1, with our label instead of 0x00). */
export function leafHash(commitHash: Uint8Array): Uint8Array {
  return hashLabelled('history-leaf', commitHash)
}

/** Node hash (RFC 9162 §2.1.1, with our label instead of 0x01). */
export function nodeHash(left: Uint8Array, right: Uint8Array): Uint8Array {
  return hashLabelled('history-node', left, right)
}

/** The tree with one more commit. */
export function appendCommit(history: History, commitHash: Uint8Array): History {
  const peaks = [...history.peaks]
  let node = leafHash(commitHash)
  for (let rest = history.size; rest % 2 === 1; rest = (rest - 1) / 2) {
    const left = peaks.pop()
    if (left === undefined) throw new TypeError('history has fewer peaks than its size needs')
    node = nodeHash(left, node)
  }
  peaks.push(node)
  return { size: history.size + 1, peaks }
}

/** The tree head: 32 bytes; all zero for the empty tree. */
export function historyRoot(history: History): Uint8Array {
  const [last, ...rest] = history.peaks.toReversed()
  if (last === undefined) return new Uint8Array(32)
  return rest.reduce((right, left) => nodeHash(left, right), last)
}

/** Whether the number of peaks is what a tree of this size has. */
export function isHistory(history: History): boolean {
  let ones = 0
  for (let rest = history.size; rest > 0; rest = Math.floor(rest / 2)) ones += rest % 2
  return history.peaks.length === ones
}

/** One commit at a place in a tree. */
export interface InclusionClaim {
  readonly commitHash: Uint8Array
  readonly index: number
  readonly size: number
  readonly root: Uint8Array
}

/** Verifies an inclusion proof (RFC 9162 §2.1.3.2). */
export function verifyInclusion(claim: InclusionClaim, path: readonly Uint8Array[]): boolean {
  if (!isIndex(claim.index) || claim.index >= claim.size) return false
  let node = leafHash(claim.commitHash)
  let index = claim.index
  let last = claim.size - 1
  for (const sibling of path) {
    if (last === 0) return false
    if (index % 2 === 1 || index === last) {
      node = nodeHash(sibling, node)
      while (index % 2 === 0 && index !== 0) [index, last] = [Math.floor(index / 2), Math.floor(last / 2)]
    } else {
      node = nodeHash(node, sibling)
    }
    ;[index, last] = [Math.floor(index / 2), Math.floor(last / 2)]
  }
  return last === 0 && equalBytes(node, claim.root)
}

/** Two sizes of one growing tree. */
export interface ConsistencyClaim {
  readonly fromSize: number
  readonly fromRoot: Uint8Array
  readonly toSize: number
  readonly toRoot: Uint8Array
}

/** Verifies a consistency proof (RFC 9162 §2.1.4.2). */
export function verifyConsistency(claim: ConsistencyClaim, proof: readonly Uint8Array[]): boolean {
  const { fromSize, fromRoot, toSize, toRoot } = claim
  if (!isIndex(fromSize) || fromSize < 1 || fromSize > toSize) return false
  if (fromSize === toSize) return proof.length === 0 && equalBytes(fromRoot, toRoot)
  const path = isPowerOfTwo(fromSize) ? [fromRoot, ...proof] : [...proof]
  const first = path.shift()
  if (first === undefined) return false
  let [index, last] = [fromSize - 1, toSize - 1]
  while (index % 2 === 1) [index, last] = [Math.floor(index / 2), Math.floor(last / 2)]
  let [old, next] = [first, first]
  for (const sibling of path) {
    if (last === 0) return false
    if (index % 2 === 1 || index === last) {
      ;[old, next] = [nodeHash(sibling, old), nodeHash(sibling, next)]
      while (index % 2 === 0 && index !== 0) [index, last] = [Math.floor(index / 2), Math.floor(last / 2)]
    } else {
      next = nodeHash(next, sibling)
    }
    ;[index, last] = [Math.floor(index / 2), Math.floor(last / 2)]
  }
  return last === 0 && equalBytes(old, fromRoot) && equalBytes(next, toRoot)
}

/** The inclusion proof of commit `index` among `commitHashes` (RFC 9162 §2.1.3.1). */
export function inclusionPath(commitHashes: readonly Uint8Array[], index: number): Uint8Array[] {
  return new TreeReader(commitHashes).path(index, 0, commitHashes.length)
}

/** The consistency proof from the first `fromSize` of `commitHashes` to all of them (RFC 9162 §2.1.4.1). */
export function consistencyPath(commitHashes: readonly Uint8Array[], fromSize: number): Uint8Array[] {
  if (fromSize === commitHashes.length) return []
  return new TreeReader(commitHashes).subproof(fromSize, 0, commitHashes.length, true)
}

/** Hashes of ranges of leaves, each computed once. */
class TreeReader {
  readonly #leaves: readonly Uint8Array[]
  readonly #known = new Map<string, Uint8Array>()

  constructor(commitHashes: readonly Uint8Array[]) {
    this.#leaves = commitHashes
  }

  path(index: number, from: number, to: number): Uint8Array[] {
    if (to - from <= 1) return []
    const middle = from + splitOf(to - from)
    if (index < middle - from) return [...this.path(index, from, middle), this.#hash(middle, to)]
    return [...this.path(index - (middle - from), middle, to), this.#hash(from, middle)]
  }

  subproof(fromSize: number, from: number, to: number, whole: boolean): Uint8Array[] {
    if (fromSize === to - from) return whole ? [] : [this.#hash(from, to)]
    const split = splitOf(to - from)
    const middle = from + split
    if (fromSize <= split) return [...this.subproof(fromSize, from, middle, whole), this.#hash(middle, to)]
    return [...this.subproof(fromSize - split, middle, to, false), this.#hash(from, middle)]
  }

  #hash(from: number, to: number): Uint8Array {
    const key = `${from}-${to}`
    const known = this.#known.get(key)
    if (known !== undefined) return known
    const hash = this.#compute(from, to)
    this.#known.set(key, hash)
    return hash
  }

  #compute(from: number, to: number): Uint8Array {
    const leaf = this.#leaves[from]
    if (leaf === undefined) throw new RangeError('leaf is past the end of the log')
    if (to - from === 1) return leafHash(leaf)
    const middle = from + splitOf(to - from)
    return nodeHash(this.#hash(from, middle), this.#hash(middle, to))
  }
}

/** The largest power of two smaller than `size`. */
function splitOf(size: number): number {
  let split = 1
  while (split * 2 < size) split *= 2
  return split
}

function isPowerOfTwo(value: number): boolean {
  let rest = value
  while (rest > 1 && rest % 2 === 0) rest /= 2
  return rest === 1
}

/** Fractions and negative numbers would pass for a neighbour. */
function isIndex(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0
}
