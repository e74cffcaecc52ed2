/**
 * What an operator may need to know afterwards, in the audit table. Written beside the request, never in its way: a
 * failure to write is logged and changes nothing.
 */
import type { ClavigerError } from '../shared/errors.ts'
import type { GroupId, PrincipalId } from '../shared/ids.ts'
import { idKey } from '../shared/ids.ts'
import type { Pair } from '../shared/objects/page.ts'
import type { Clock } from './clock.ts'
import type { Log } from './log.ts'
import type { Peer } from './peer.ts'
import type { Acceptance } from './referee.ts'
import { appendAudit } from './storage/audit.ts'
import type { AuditEntry } from './storage/audit.ts'
import type { Database } from './storage/database.ts'
import { TokenBucket } from './token-bucket.ts'

/** Entries a second: whoever fails on purpose must not fill the disk. */
const ENTRIES_PER_SECOND = 20
const ENTRIES_BURST = 2000

export class Audit {
  readonly #database: Database
  readonly #log: Log
  readonly #bucket: TokenBucket
  readonly #pending = new Set<Promise<void>>()

  constructor(database: Database, log: Log, clock: Clock) {
    this.#database = database
    this.#log = log
    this.#bucket = new TokenBucket(clock, { perSecond: ENTRIES_PER_SECOND, burst: ENTRIES_BURST })
  }

  authenticationFailed(claimed: PrincipalId | null, address: string, code: string): void {
    this.#append({ group: null, kind: 'authentication-failed', principal: claimed, detail: { address, code } })
  }

  inviteOpened(group: GroupId, peer: Peer, invite: PrincipalId): void {
    this.#append({ group, kind: 'invite-opened', principal: peer.identity, detail: { invite: idKey(invite) } })
  }

  /** A request by somebody who was a member once. */
  refused(group: GroupId, peer: Peer, method: string, error: ClavigerError): void {
    this.#append({ group, kind: 'former-member-refused', principal: peer.identity, detail: { method, code: error.code } })
  }

  /** Somebody has come in through an invite. */
  inviteUsed(peer: Peer, { before, after }: Acceptance): void {
    for (const member of after.roster.members.slice(before?.roster.members.length ?? 0)) {
      if (member.via === null) continue
      const detail = { invite: idKey(member.via), member: idKey(member.id), seq: after.head.seq }
      this.#append({ group: after.group, kind: 'invite-used', principal: peer.identity, detail })
    }
  }

  unopenable(group: GroupId, peer: Peer, deks: readonly Pair[]): void {
    const listed = deks.map(({ object, generation }) => `${idKey(object)}/${generation}`)
    this.#append({ group, kind: 'unopenable', principal: peer.identity, detail: { deks: listed } })
  }

  /** Waits for what is being written. */
  async settle(): Promise<void> {
    await Promise.all(this.#pending)
  }

  #append(entry: AuditEntry): void {
    if (!this.#bucket.take()) return
    const written = appendAudit(this.#database, entry)
      .catch((error: unknown) => this.#log.error({ kind: entry.kind }, 'an audit entry was not written', error))
      .finally(() => this.#pending.delete(written))
    this.#pending.add(written)
  }
}
