/**
 * Everything a server ever had of a group’s epochs, and whoever tries some key on all of it: removed members with a copy of
 * the database, holders of old tokens.
 */
import { openLink, unwrapEpochSecret } from '../../shared/group/epoch.ts'
import type { EpochContext } from '../../shared/group/epoch.ts'
import type { EpochSecret } from '../../shared/crypto/keys.ts'
import type { KemPrivateKey } from '../../shared/crypto/kem.ts'
import type { GroupState } from '../../shared/group/fold.ts'
import { foldCommit } from '../../shared/group/fold.ts'
import { inviteKeys, parseToken } from '../../shared/group/invite.ts'
import { currentEpoch } from '../../shared/group/roster.ts'
import type { GroupId } from '../../shared/ids.ts'
import { commitsAfter } from './server-log.ts'
import type { World } from './world.ts'

interface Wrap {
  readonly epoch: number
  readonly enc: Uint8Array
  readonly wrap: Uint8Array
}

interface Link {
  readonly epoch: number
  readonly to: number
  readonly link: Uint8Array
}

export class Archive {
  readonly #world: World
  readonly #group: GroupId
  #contexts = new Map<number, EpochContext>()
  #wraps: readonly Wrap[] = []
  #links: readonly Link[] = []

  constructor(world: World, group: GroupId) {
    this.#world = world
    this.#group = group
  }

  /** Copies what the database has now; what was copied before and has been deleted there stays. */
  async copy(): Promise<void> {
    const wraps = await this.#world.sql<{ epoch: number; enc: Uint8Array; wrap: Uint8Array }>(
      'select w.epoch, e.enc, w.wrap from wraps w join epochs e on e.group_id = w.group_id and e.epoch = w.epoch where w.group_id = $1 and not e.retired',
      [this.#group],
    )
    const links = await this.#world.sql<{ epoch: number; to: number; link: Uint8Array }>(
      'select epoch, link_to as "to", link from links where group_id = $1',
      [this.#group],
    )
    this.#wraps = [...this.#wraps, ...wraps]
    this.#links = [...this.#links, ...links]
    let state: GroupState | null = null
    for (const commit of await commitsAfter(this.#world, this.#group)) {
      ;({ state } = foldCommit(state, commit))
      const { epoch, seq, parent, commitment } = currentEpoch(state.roster)
      this.#contexts.set(epoch, { suite: state.roster.suite, group: this.#group, epoch, seq, parent, commitment })
    }
  }

  /** The epochs that open with a key, by its wraps and by every link from there, ascending. */
  async openedWith(key: KemPrivateKey): Promise<number[]> {
    const secrets = new Map<number, EpochSecret>()
    for (const { epoch, enc, wrap } of this.#wraps) {
      const context = this.#contexts.get(epoch)
      const secret = context === undefined ? null : await unwrapEpochSecret(key, context, { enc, wrap }).catch(() => null)
      if (secret !== null) secrets.set(epoch, secret)
    }
    for (const { epoch, to, link } of this.#links.toSorted((left, right) => right.epoch - left.epoch)) {
      const newer = secrets.get(epoch)
      if (newer !== undefined) secrets.set(to, openLink(newer, link, { group: this.#group, epoch, to }))
    }
    return [...secrets.keys()].sort((left, right) => left - right)
  }

  /** The same for whoever holds a token. */
  async openedWithToken(token: string): Promise<number[]> {
    return this.openedWith((await inviteKeys(parseToken(token).secret, 1)).kem)
  }
}
