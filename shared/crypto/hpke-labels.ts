/**
 * LabeledExtract and LabeledExpand of HPKE (RFC 9180 §4), for one suite id.
 */
import { utf8ToBytes } from '@noble/hashes/utils.js'
import { concat } from '../bytes.ts'
import { hkdfExpand, hkdfExpandBlock, hkdfExtract } from './kdf.ts'

const VERSION = utf8ToBytes('HPKE-v1')
const BLOCK_BYTES = 32

/** The empty byte string, written out where RFC 9180 says `""`. */
export const NOTHING: Uint8Array = new Uint8Array(0)

/** HKDF with RFC 9180's labels. */
export interface LabeledKdf {
  /** LabeledExtract: 32 bytes. An empty salt is written out as such. */
  extract(salt: Uint8Array, label: string, input: Uint8Array): Uint8Array
  /** LabeledExpand. @param length - bytes, 1 to 8160. */
  expand(pseudorandomKey: Uint8Array, label: string, info: Uint8Array, length: number): Uint8Array
}

/** @param suiteId - `"KEM" ‖ id` inside a KEM, `"HPKE" ‖ ids` in the key schedule. */
export function labeledKdf(suiteId: Uint8Array): LabeledKdf {
  const prefixByLabel = new Map<string, Uint8Array>()
  const prefix = (label: string): Uint8Array => {
    const known = prefixByLabel.get(label)
    if (known !== undefined) return known
    const made = concat(VERSION, suiteId, utf8ToBytes(label))
    prefixByLabel.set(label, made)
    return made
  }
  return {
    extract: (salt, label, input) => hkdfExtract(salt, prefix(label), input),
    expand(pseudorandomKey, label, info, length) {
      if (length > BLOCK_BYTES) return hkdfExpand(pseudorandomKey, concat(u16(length), prefix(label), info), length)
      const block = hkdfExpandBlock(pseudorandomKey, u16(length), prefix(label), info)
      return length === BLOCK_BYTES ? block : block.subarray(0, length)
    },
  }
}

/** I2OSP(value, 2). */
export function u16(value: number): Uint8Array {
  return Uint8Array.of(value >> 8, value & 0xff)
}
