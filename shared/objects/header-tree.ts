/**
 * The Merkle tree over the header hashes of one batch (RFC 9162 §2.1, own labels): one signature for many headers,
 * and each keeps a path by which it can be checked without the others.
 */
import { hashLabelled } from '../crypto/public-crypto.ts'

/** A leaf’s place in a tree, and the hashes beside its way to the root, lowest first. */
export interface LeafPath {
  readonly index: number
  readonly size: number
  readonly path: readonly Uint8Array[]
}

/** The root over `hashes` (RFC 9162 §2.1.1), and each leaf’s inclusion path (§2.1.3). */
export interface HeaderTree {
  readonly root: Uint8Array
  readonly paths: readonly (readonly Uint8Array[])[]
}

/**
 * Builds the tree, level by level: a node without a sibling moves up as it is, which gives RFC 9162’s shape.
 *
 * @param hashes - header hashes, at least one.
 */
export function headerTree(hashes: readonly Uint8Array[]): HeaderTree {
  if (hashes.length === 0) throw new RangeError('hashes must not be empty')
  const paths: Uint8Array[][] = hashes.map(() => [])
  let level = hashes.map(leafHash)
  for (let height = 0; level.length > 1; height += 1) {
    for (const [index, path] of paths.entries()) {
      const sibling = level[(index >> height) ^ 1]
      if (sibling !== undefined) path.push(sibling)
    }
    level = parents(level)
  }
  return { root: first(level), paths }
}

/**
 * The root that a header hash and its path lead to (RFC 9162 §2.1.3.2).
 *
 * @param leaf - `path` has the length {@link pathLength} says, which decoding has checked.
 */
export function rootFromPath(hash: Uint8Array, leaf: LeafPath): Uint8Array {
  let node = leafHash(hash)
  let index = leaf.index
  let last = leaf.size - 1
  for (const sibling of leaf.path) {
    while (last > 0 && index === last && index % 2 === 0) {
      index >>= 1
      last >>= 1
    }
    node = index % 2 === 1 ? nodeHash(sibling, node) : nodeHash(node, sibling)
    index >>= 1
    last >>= 1
  }
  return node
}

/** How many hashes the path of leaf `index` in a tree of `size` leaves has. */
export function pathLength(index: number, size: number): number {
  let length = 0
  for (let position = index, last = size - 1; last > 0; position >>= 1, last >>= 1) {
    if (position % 2 === 1 || position < last) length += 1
  }
  return length
}

function leafHash(hash: Uint8Array): Uint8Array {
  return hashLabelled('header-batch-leaf', hash)
}

function nodeHash(left: Uint8Array, right: Uint8Array): Uint8Array {
  return hashLabelled('header-batch-node', left, right)
}

function parents(level: readonly Uint8Array[]): Uint8Array[] {
  const above: Uint8Array[] = []
  for (let index = 0; index < level.length; index += 2) {
    const [left, right] = level.slice(index, index + 2)
    if (left !== undefined) above.push(right === undefined ? left : nodeHash(left, right))
  }
  return above
}

function first(level: readonly Uint8Array[]): Uint8Array {
  const [root] = level
  if (root === undefined) throw new RangeError('the tree is empty')
  return root
}
