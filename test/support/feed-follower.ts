/** What a client knows that follows a feed: it checks that nothing is missing, twice or out of order. */
import { decodeCommit } from '../../shared/group/commit.ts'
import type { GroupId } from '../../shared/ids.ts'
import { idKey } from '../../shared/ids.ts'
import { decodeEnvelope } from '../../shared/objects/header.ts'
import type { FeedEvent } from '../../shared/protocol/messages.ts'
import type { RawClient } from './raw-client.ts'

export class FeedFollower {
  readonly client: RawClient
  readonly group: GroupId
  /** Versions of objects, as far as this client has heard. */
  readonly versions = new Map<string, number>()
  readonly commits: number[] = []
  cursor: number
  #taken = 0

  constructor(client: RawClient, group: GroupId, cursor = 0) {
    this.client = client
    this.group = group
    this.cursor = cursor
  }

  async subscribe(seq = -1): Promise<void> {
    await this.client.request('feed.subscribe', { group: this.group, cursor: this.cursor, seq: Math.max(0, seq) })
  }

  /** Takes in what has arrived. @throws Error at a gap, a repetition or disorder. */
  take(): void {
    const events = this.client.eventsOf('feed').filter(({ group }) => idKey(group) === idKey(this.group))
    for (const event of events.slice(this.#taken)) this.#apply(event)
    this.#taken = events.length
  }

  /** Waits until the feed has reached `change`. */
  async reach(change: number): Promise<void> {
    await this.client.until(() => {
      this.take()
      return this.cursor >= change
    })
  }

  #apply({ from, to, items }: FeedEvent): void {
    if (from !== this.cursor) throw new Error(`a batch from ${from} does not follow ${this.cursor}`)
    let last = from
    for (const item of items) {
      if (item.change <= last || item.change > to) throw new Error(`change ${item.change} is out of order in (${from}, ${to}]`)
      last = item.change
      if (item.kind === 'commit') this.commits.push(decodeCommit(item.commit).payload.seq)
      else this.#header(item.header)
    }
    this.cursor = to
  }

  #header(bytes: Uint8Array): void {
    const { header } = decodeEnvelope(bytes)
    const key = idKey(header.object)
    if ((this.versions.get(key) ?? 0) >= header.version) throw new Error('a version came twice or too late')
    this.versions.set(key, header.version)
  }
}
