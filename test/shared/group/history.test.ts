/**
 * The Merkle tree over the commits, against RFC 9162 §2.1 written down word by word, for every size up to 40.
 */
import { describe, expect, test } from 'vitest'
import { useNodePublicCrypto } from '../../../platform/node/index.ts'
import { toHex } from '../../../shared/bytes.ts'
import { sha256 } from '../../../shared/crypto/public-crypto.ts'
import type { History } from '../../../shared/group/history.ts'
import {
  EMPTY_HISTORY,
  appendCommit,
  consistencyPath,
  historyRoot,
  inclusionPath,
  isHistory,
  leafHash,
  nodeHash,
  verifyConsistency,
  verifyInclusion,
} from '../../../shared/group/history.ts'
import { withFlippedBit } from '../../support/forge.ts'

useNodePublicCrypto()

const SIZE_MAX = 40
const commits = Array.from({ length: SIZE_MAX + 1 }, (_, index) => sha256(Uint8Array.of(index)))
const SIZES = Array.from({ length: SIZE_MAX }, (_, index) => index + 1)

type Hashes = readonly Uint8Array[]

/** The largest power of two smaller than n. */
const k = (n: number): number => 2 ** Math.floor(Math.log2(n - 1))

/** RFC 9162 §2.1.1: MTH. */
function mth(leaves: Hashes): Uint8Array {
  const [only] = leaves
  if (only === undefined) return new Uint8Array(32)
  if (leaves.length === 1) return leafHash(only)
  const split = k(leaves.length)
  return nodeHash(mth(leaves.slice(0, split)), mth(leaves.slice(split)))
}

/** RFC 9162 §2.1.3.1: PATH(m, D_n). */
function path(m: number, leaves: Hashes): Uint8Array[] {
  if (leaves.length === 1) return []
  const split = k(leaves.length)
  return m < split
    ? [...path(m, leaves.slice(0, split)), mth(leaves.slice(split))]
    : [...path(m - split, leaves.slice(split)), mth(leaves.slice(0, split))]
}

/** RFC 9162 §2.1.4.1: SUBPROOF(m, D_n, b). */
function subproof(m: number, leaves: Hashes, b: boolean): Uint8Array[] {
  if (m === leaves.length) return b ? [] : [mth(leaves)]
  const split = k(leaves.length)
  if (m <= split) return [...subproof(m, leaves.slice(0, split), b), mth(leaves.slice(split))]
  return [...subproof(m - split, leaves.slice(split), false), mth(leaves.slice(0, split))]
}

const historyOf = (size: number): History => commits.slice(0, size).reduce(appendCommit, EMPTY_HISTORY)

/** Every way to spoil one proof. */
function* spoiled(proof: Hashes): Generator<Hashes> {
  for (const [index, hash] of proof.entries()) {
    yield proof.map((other, at) => (at === index ? withFlippedBit(hash, 8 * (index % 32)) : other))
    yield proof.filter((_, at) => at !== index)
  }
  yield [...proof, new Uint8Array(32)]
  yield [new Uint8Array(32), ...proof]
  if (proof.length > 1) yield proof.toReversed()
}

describe('the head of the tree', () => {
  test.each([0, ...SIZES])('over %i commits is RFC 9162’s', (size) => {
    expect(toHex(historyRoot(historyOf(size)))).toBe(toHex(mth(commits.slice(0, size))))
    expect(historyOf(size).size).toBe(size)
    expect(isHistory(historyOf(size))).toBe(true)
  })

  test('tells leaves from nodes: two commits are not one whose hash is their node’s', () => {
    const [one, two] = [commits[0] ?? new Uint8Array(), commits[1] ?? new Uint8Array()]
    expect(historyRoot(historyOf(2))).not.toEqual(leafHash(Uint8Array.from([...leafHash(one), ...leafHash(two)])))
  })

  test('is not written to by appending', () => {
    const before = historyOf(7)
    Object.freeze(before)
    Object.freeze(before.peaks)
    appendCommit(before, commits[7] ?? new Uint8Array())
    expect(before).toEqual(historyOf(7))
  })

  test('has as many peaks as its size has ones', () => {
    for (const size of SIZES) {
      expect(isHistory({ ...historyOf(size), size: size + 1 })).toBe(
        [...size.toString(2)].filter((bit) => bit === '1').length === [...(size + 1).toString(2)].filter((bit) => bit === '1').length,
      )
      expect(isHistory({ size, peaks: [...historyOf(size).peaks, new Uint8Array(32)] })).toBe(false)
      expect(isHistory({ size, peaks: historyOf(size).peaks.slice(1) })).toBe(false)
    }
  })
})

describe('inclusion', () => {
  test.each(SIZES)('of every commit among %i is proved as in RFC 9162, and by nothing else', (size) => {
    const leaves = commits.slice(0, size)
    const root = historyRoot(historyOf(size))
    for (const [index, commitHash] of leaves.entries()) {
      const proof = inclusionPath(leaves, index)
      expect(proof).toEqual(path(index, leaves))
      const claim = { commitHash, index, size, root }
      expect(verifyInclusion(claim, proof)).toBe(true)
      for (const bad of spoiled(proof)) expect(verifyInclusion(claim, bad)).toBe(false)
      expect(verifyInclusion({ ...claim, commitHash: commits[SIZE_MAX] ?? new Uint8Array() }, proof)).toBe(false)
      expect(verifyInclusion({ ...claim, root: withFlippedBit(root, 0) }, proof)).toBe(false)
      for (const other of leaves.keys()) if (other !== index) expect(verifyInclusion({ ...claim, index: other }, proof)).toBe(false)
    }
  })

  test.each([-1, 0.5, 8, 9, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 60])('of commit %d among 8 is never proved', (index) => {
    const leaves = commits.slice(0, 8)
    const root = historyRoot(historyOf(8))
    for (const [at, commitHash] of leaves.entries())
      expect(verifyInclusion({ commitHash, index, size: 8, root }, inclusionPath(leaves, at))).toBe(false)
  })

  test('in the empty tree is never proved', () => {
    expect(verifyInclusion({ commitHash: commits[0] ?? new Uint8Array(), index: 0, size: 0, root: new Uint8Array(32) }, [])).toBe(false)
  })
})

describe('consistency', () => {
  test.each(SIZES)('of every smaller tree with that over %i is proved as in RFC 9162, and by nothing else', (toSize) => {
    const leaves = commits.slice(0, toSize)
    const toRoot = historyRoot(historyOf(toSize))
    for (let fromSize = 1; fromSize <= toSize; fromSize += 1) {
      const proof = consistencyPath(leaves, fromSize)
      expect(proof).toEqual(subproof(fromSize, leaves, true))
      const claim = { fromSize, fromRoot: historyRoot(historyOf(fromSize)), toSize, toRoot }
      expect(verifyConsistency(claim, proof)).toBe(true)
      for (const bad of spoiled(proof)) expect(verifyConsistency(claim, bad)).toBe(false)
      expect(verifyConsistency({ ...claim, fromRoot: withFlippedBit(claim.fromRoot, 9) }, proof)).toBe(false)
      expect(verifyConsistency({ ...claim, toRoot: withFlippedBit(toRoot, 9) }, proof)).toBe(false)
    }
  })

  test('with a tree that differs in any one earlier commit is not proved by the other tree’s proof', () => {
    for (let changed = 0; changed < 13; changed += 1) {
      const forked = commits.slice(0, 20).map((hash, index) => (index === changed ? withFlippedBit(hash, 3) : hash))
      const claim = {
        fromSize: 13,
        fromRoot: historyRoot(historyOf(13)),
        toSize: 20,
        toRoot: historyRoot(forked.reduce(appendCommit, EMPTY_HISTORY)),
      }
      expect(verifyConsistency(claim, consistencyPath(forked, 13))).toBe(false)
      expect(verifyConsistency(claim, consistencyPath(commits.slice(0, 20), 13))).toBe(false)
    }
  })

  test('does not go backwards, and starts from a tree that has something', () => {
    const roots = { fromRoot: historyRoot(historyOf(5)), toRoot: historyRoot(historyOf(4)) }
    expect(verifyConsistency({ fromSize: 5, toSize: 4, ...roots }, consistencyPath(commits.slice(0, 5), 4))).toBe(false)
    expect(verifyConsistency({ fromSize: 0, fromRoot: new Uint8Array(32), toSize: 4, toRoot: roots.toRoot }, [])).toBe(false)
    expect(verifyConsistency({ fromSize: 0.5, fromRoot: roots.toRoot, toSize: 4, toRoot: roots.toRoot }, [])).toBe(false)
    expect(verifyConsistency({ fromSize: Number.NaN, fromRoot: roots.toRoot, toSize: Number.NaN, toRoot: roots.toRoot }, [])).toBe(false)
  })

  test('of equal sizes needs equal heads and no proof', () => {
    const root = historyRoot(historyOf(6))
    expect(verifyConsistency({ fromSize: 6, fromRoot: root, toSize: 6, toRoot: root }, [])).toBe(true)
    expect(verifyConsistency({ fromSize: 6, fromRoot: root, toSize: 6, toRoot: withFlippedBit(root, 0) }, [])).toBe(false)
    expect(verifyConsistency({ fromSize: 6, fromRoot: root, toSize: 6, toRoot: root }, [root])).toBe(false)
  })
})
