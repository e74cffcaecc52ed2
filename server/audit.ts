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
import type { Metrics } from './metrics.ts'
import type { Peer } from './peer.ts'
import type { Acceptance } from './referee.ts'
import { appendAudit } from './storage/audit.ts'
import type { AuditEntry } from './storage/audit.ts'
import type { Database } from './storage/database.ts'
import { TokenBucket } from './token-bucket.ts'

/** Entries a second of one kind: whoever fails on purpose must not fill the disk, nor keep other kinds from being written. */
const ENTRIES_PER_SECOND = 20
const ENTRIES_BURST = 2000

export interface AuditParts {
  readonly database: Database
  readonly log: Log
  readonly clock: Clock
  readonly metrics: Pick<Metrics, 'droppedAuditEntries'>
}

export class Audit {
  readonly #database: Database
  readonly #log: Log
  readonly #clock: Clock
  readonly #dropped: Metrics['droppedAuditEntries']
  readonly #bucketByKind = new Map<string, TokenBucket>()
  readonly #pending = new Set<Promise<void>>()

  constructor({ database, log, clock, metrics }: AuditParts) {
    this.#database = database
    this.#log = log
    this.#clock = clock
    this.#dropped = metrics.droppedAuditEntries
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

  /** A seal was replaced: it displaces what others read, so who did it must be known. */
  resealed(group: GroupId, peer: Peer, { object, generation }: Pair): void {
    this.#append({ group, kind: 'resealed', principal: peer.identity, detail: { dek: `${idKey(object)}/${generation}` } })
  }

  /** Waits for what is being written. */
  async settle(): Promise<void> {
    await Promise.all(this.#pending)
  }

  #bucketOf(kind: string): TokenBucket {
    const bucket = this.#bucketByKind.get(kind) ?? new TokenBucket(this.#clock, { perSecond: ENTRIES_PER_SECOND, burst: ENTRIES_BURST })
    this.#bucketByKind.set(kind, bucket)
    return bucket
  }

  #append(entry: AuditEntry): void {
    if (!this.#bucketOf(entry.kind).take()) return this.#dropped.inc({ kind: entry.kind })
    const written = appendAudit(this.#database, entry)
      .catch((error: unknown) => this.#log.error({ kind: entry.kind }, 'an audit entry was not written', error))
      .finally(() => this.#pending.delete(written))
    this.#pending.add(written)
  }
}
