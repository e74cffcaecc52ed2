/**
 * What is sealed where, counted at most once at a time for each group: it reads every live object’s key. An answer is
 * given again for a second, unless this process has changed what it is about.
 */
import type { GroupId } from '../shared/ids.ts'
import { idKey } from '../shared/ids.ts'
import type { Clock } from './clock.ts'
import type { Database } from './storage/database.ts'
import type { RewrapProgress, RewrapStatus } from './storage/rewrap-jobs.ts'
import { readRewrapProgress, readRewrapStatus } from './storage/rewrap-jobs.ts'

const KEPT_MS = 1000

/** A count, with the job of its epoch if there is one. */
export interface CountedStatus {
  readonly status: RewrapStatus
  readonly progress: RewrapProgress | null
}

export class RewrapStatuses {
  readonly #database: Database
  readonly #clock: Clock
  readonly #byGroup = new Map<string, Promise<CountedStatus | null>>()

  constructor(database: Database, clock: Clock) {
    this.#database = database
    this.#clock = clock
  }

  /** The count of a group, at most a second old; null if there is no such group. */
  read(group: GroupId): Promise<CountedStatus | null> {
    const key = idKey(group)
    const known = this.#byGroup.get(key)
    if (known !== undefined) return known
    const reading = this.#count(group)
    this.#byGroup.set(key, reading)
    const forget = (): void => {
      if (this.#byGroup.get(key) === reading) this.#byGroup.delete(key)
    }
    reading.then(() => this.#clock.after(KEPT_MS, forget), forget)
    return reading
  }

  /** Something has changed: whoever asks from now on is told a new count. */
  changed(group: GroupId): void {
    this.#byGroup.delete(idKey(group))
  }

  async #count(group: GroupId): Promise<CountedStatus | null> {
    const status = await readRewrapStatus(this.#database, group)
    return status === null ? null : { status, progress: await readRewrapProgress(this.#database, group, status.epoch) }
  }
}
