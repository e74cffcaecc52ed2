/**
 * The Merkle tree over a group’s commits (RFC 9162 §2.1), kept so that a proof costs its own length.
 *
 * Only subtrees that are full are kept: they never change as the log grows. Level 0 holds the leaves, level k the
 * hashes of 2^k of them.
 */
import { leafHash, nodeHash } from '../shared/group/history.ts'

export class CommitTree {
  readonly #levels: Uint8Array[][] = [[]]

  /** Commits in it. */
  get size(): number {
    return this.#levels[0]?.length ?? 0
  }

  append(commitHash: Uint8Array): void {
    this.#push(0, leafHash(commitHash))
  }

  /** The inclusion proof of commit `index` in the tree over the first `size` (RFC 9162 §2.1.3.1). */
  inclusionPath(index: number, size: number): Uint8Array[] {
    this.#assertSize(size)
    if (index >= size) throw new RangeError(`index must be below ${size}, got ${index}`)
    return this.#path(index, { from: 0, to: size })
  }

  /** The consistency proof from the first `fromSize` commits to the first `toSize` (RFC 9162 §2.1.4.1). */
  consistencyPath(fromSize: number, toSize: number): Uint8Array[] {
    this.#assertSize(toSize)
    if (fromSize < 1 || fromSize > toSize) throw new RangeError(`fromSize must be from 1 to ${toSize}, got ${fromSize}`)
    return fromSize === toSize ? [] : this.#subproof(fromSize, { from: 0, to: toSize }, true)
  }

  #assertSize(size: number): void {
    if (size > this.size) throw new RangeError(`size must be at most ${this.size}, got ${size}`)
  }

  #path(index: number, { from, to }: Range): Uint8Array[] {
    if (to - from <= 1) return []
    const middle = from + splitOf(to - from)
    if (index < middle) return [...this.#path(index, { from, to: middle }), this.#hash({ from: middle, to })]
    return [...this.#path(index, { from: middle, to }), this.#hash({ from, to: middle })]
  }

  /** `end` is where the older tree ends; `whole` says that its hash is known to the verifier. */
  #subproof(end: number, { from, to }: Range, whole: boolean): Uint8Array[] {
    if (end === to) return whole ? [] : [this.#hash({ from, to })]
    const middle = from + splitOf(to - from)
    if (end <= middle) return [...this.#subproof(end, { from, to: middle }, whole), this.#hash({ from: middle, to })]
    return [...this.#subproof(end, { from: middle, to }, false), this.#hash({ from, to: middle })]
  }

  #hash({ from, to }: Range): Uint8Array {
    const known = isPowerOfTwo(to - from) ? this.#levels[Math.log2(to - from)]?.[from / (to - from)] : undefined
    if (known !== undefined) return known
    const middle = from + splitOf(to - from)
    return nodeHash(this.#hash({ from, to: middle }), this.#hash({ from: middle, to }))
  }

  /** A second node on a level completes one above. */
  #push(level: number, hash: Uint8Array): void {
    const nodes = (this.#levels[level] ??= [])
    nodes.push(hash)
    const left = nodes[nodes.length - 2]
    if (nodes.length % 2 === 0 && left !== undefined) this.#push(level + 1, nodeHash(left, hash))
  }
}

/** Leaves `from` to `to`, exclusive. */
interface Range {
  readonly from: number
  readonly to: number
}

/** The largest power of two below `size`. */
function splitOf(size: number): number {
  return 2 ** Math.floor(Math.log2(size - 1))
}

function isPowerOfTwo(size: number): boolean {
  return Number.isInteger(Math.log2(size))
}
