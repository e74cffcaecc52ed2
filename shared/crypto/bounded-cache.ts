/**
 * A map that forgets what was used longest ago: for verdicts and imported keys, where input decides how many there are.
 */

/** Least-recently-used cache with a fixed number of entries. */
export class BoundedCache<Value> {
  readonly #entries = new Map<string, Value>()
  readonly #entriesMax: number

  /** @param entriesMax - how many entries are kept. */
  constructor(entriesMax: number) {
    this.#entriesMax = entriesMax
  }

  /** The value kept for `key`, made and kept if there is none. What `make` throws is not kept. */
  getOrMake(key: string, make: () => Value): Value {
    const known = this.#entries.get(key)
    if (known !== undefined) return this.#renew(key, known)
    const made = make()
    this.#entries.set(key, made)
    if (this.#entries.size > this.#entriesMax) this.#dropOldest()
    return made
  }

  #renew(key: string, value: Value): Value {
    this.#entries.delete(key)
    this.#entries.set(key, value)
    return value
  }

  #dropOldest(): void {
    const oldest = this.#entries.keys().next()
    if (oldest.done !== true) this.#entries.delete(oldest.value)
  }
}
