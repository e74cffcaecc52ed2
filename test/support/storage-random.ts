/** Random choices from a printed seed (xoshiro128**), so that what a fuzz does can be asked for again. */

export class SeededRandom {
  readonly #state: Uint32Array

  constructor(seed: number) {
    this.#state = new Uint32Array(4)
    let mixed = seed >>> 0
    for (let index = 0; index < 4; index += 1) {
      mixed = (mixed + 0x9e37_79b9) >>> 0
      let word = mixed
      word = Math.imul(word ^ (word >>> 16), 0x85eb_ca6b)
      word = Math.imul(word ^ (word >>> 13), 0xc2b2_ae35)
      this.#state[index] = (word ^ (word >>> 16)) >>> 0
    }
  }

  /** From 0 to 2^32 - 1. */
  word(): number {
    const state = this.#state
    const [a = 0, b = 0, c = 0, d = 0] = state
    const scrambled = Math.imul(rotate(Math.imul(b, 5), 7), 9) >>> 0
    const nextC = c ^ a
    const nextD = d ^ b
    state.set([a ^ nextD, b ^ nextC, nextC ^ (b << 9), rotate(nextD, 11)])
    return scrambled
  }

  /** From 0 to `bound` - 1. */
  below(bound: number): number {
    return this.word() % bound
  }

  /** From `low` to `high`, both included. */
  between(low: number, high: number): number {
    return low + this.below(high - low + 1)
  }

  chance(probability: number): boolean {
    return this.word() < probability * 0x1_0000_0000
  }

  pick<T>(from: readonly T[]): T | undefined {
    return from[this.below(Math.max(1, from.length))]
  }

  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.word() & 0xff)
  }
}

function rotate(word: number, bits: number): number {
  return ((word << bits) | (word >>> (32 - bits))) >>> 0
}
