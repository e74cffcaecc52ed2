import { describe, expect, it } from 'vitest'
import { sha256 } from '../../shared/crypto/public-crypto.ts'
import { u32 } from '../../shared/bytes.ts'
import { consistencyPath, inclusionPath } from '../../shared/group/history.ts'
import { CommitTree } from '../../server/commit-tree.ts'

const hashes = Array.from({ length: 70 }, (_, index) => sha256(u32(index)))

function treeOf(size: number): CommitTree {
  const tree = new CommitTree()
  for (const hash of hashes.slice(0, size)) tree.append(hash)
  return tree
}

describe('the kept tree', () => {
  it('gives the inclusion proofs that the whole list of leaves gives, for every size it has had', () => {
    const tree = treeOf(70)
    for (let size = 1; size <= 70; size += 1) {
      for (let index = 0; index < size; index += 1)
        expect(tree.inclusionPath(index, size)).toEqual(inclusionPath(hashes.slice(0, size), index))
    }
  })

  it('gives the consistency proofs that the whole list of leaves gives', () => {
    const tree = treeOf(70)
    for (let to = 1; to <= 70; to += 1) {
      for (let from = 1; from <= to; from += 1) expect(tree.consistencyPath(from, to)).toEqual(consistencyPath(hashes.slice(0, to), from))
    }
  })

  it('proves nothing beyond its end', () => {
    const tree = treeOf(3)
    expect(() => tree.inclusionPath(3, 3)).toThrow(RangeError)
    expect(() => tree.inclusionPath(0, 4)).toThrow(RangeError)
    expect(() => tree.consistencyPath(0, 3)).toThrow(RangeError)
    expect(() => tree.consistencyPath(3, 2)).toThrow(RangeError)
  })
})
