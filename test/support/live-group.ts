/** A group on a real server, driven commit by commit: what is sent is valid unless the test makes it otherwise. */
import { concat } from '../../shared/bytes.ts'
import type { EpochSecret } from '../../shared/crypto/keys.ts'
import { randomBytes } from '../../shared/crypto/public-crypto.ts'
import { decodeCommit } from '../../shared/group/commit.ts'
import { wrapAlone, wrapEpochSecret } from '../../shared/group/epoch.ts'
import type { GroupState } from '../../shared/group/fold.ts'
import { foldCommit } from '../../shared/group/fold.ts'
import { recipients } from '../../shared/group/roster.ts'
import type { BodyId, GroupId, ObjectId } from '../../shared/ids.ts'
import { asObjectId } from '../../shared/ids.ts'
import { sealInlineBody } from '../../shared/objects/body.ts'
import { dekCommitment, epochSealKeys, generateDek, sealDek } from '../../shared/objects/dek.ts'
import type { Header, SignedHeader } from '../../shared/objects/header.ts'
import { decodeEnvelope, TOMBSTONE_FIELDS } from '../../shared/objects/header.ts'
import { signHeader } from '../../shared/objects/header-signing.ts'
import type { Params, PutItem, PutResult } from '../../shared/protocol/messages.ts'
import type { Attempt } from './forge.ts'
import { epochContext, forge, freshEpoch, ops } from './forge.ts'
import type { Person } from './people.ts'
import type { RawClient } from './raw-client.ts'

/** What a test may change about a put before it is signed or after. */
export interface PutOptions {
  readonly object?: ObjectId
  readonly previous?: SignedHeader | null
  readonly body?: Uint8Array
  readonly header?: Partial<Header>
  readonly item?: Partial<PutItem>
  readonly tombstone?: boolean
  /** Instead of an inline body: its name, length and hash. */
  readonly stored?: { readonly bodyId: BodyId; readonly bodyHash: Uint8Array; readonly bodyLength: number }
}

export class LiveGroup {
  #state: GroupState
  readonly #secrets = new Map<number, EpochSecret>()

  private constructor(state: GroupState, secret: EpochSecret) {
    this.#state = state
    this.#secrets.set(0, secret)
  }

  /** Creates a group with one admin. */
  static async found(client: RawClient, creator: Person): Promise<LiveGroup> {
    const { params, state, secret } = await genesis(creator)
    await client.request('group.create', params)
    return new LiveGroup(state, secret)
  }

  get state(): GroupState {
    return this.#state
  }

  get id(): GroupId {
    return this.#state.group
  }

  get secret(): EpochSecret {
    return this.secretOf(this.#state.roster.epoch)
  }

  secretOf(epoch: number): EpochSecret {
    const secret = this.#secrets.get(epoch)
    if (secret === undefined) throw new RangeError('the secret of this epoch was made elsewhere')
    return secret
  }

  /** Commits and follows. */
  async commit(client: RawClient, attempt: Attempt): Promise<void> {
    const { params, after, secret } = await this.prepare(attempt)
    await client.request('commit.submit', params)
    this.follow(after, secret)
  }

  /** The parameters of `commit.submit` for an attempt, and the group after it. */
  async prepare(attempt: Attempt): Promise<{ params: Params<'commit.submit'>; after: GroupState; secret: EpochSecret | null }> {
    const fresh = attempt.rekey === 'fresh' ? await freshEpoch(this.#state, this.#secrets) : null
    const commit = await forge(this.#state, { time: Date.now(), ...attempt, ...(fresh === null ? {} : { rekey: fresh.rekey }) })
    const fold = foldCommit(this.#state, decodeCommit(commit))
    const { state } = fold
    const at = epochContext(state, state.roster.epoch)
    if (fresh !== null) {
      const { enc, wraps } = await wrapEpochSecret(fresh.secret, at, recipients(state.roster))
      const params = { group: this.id, commit, enc, wraps: wraps.map((wrap) => wrap ?? new Uint8Array(0)), link: fresh.link }
      return { params, after: state, secret: fresh.secret }
    }
    const wraps = await Promise.all(fold.newRecipients.map((recipient) => wrapAlone(this.secret, at, recipient)))
    return { params: { group: this.id, commit, enc: new Uint8Array(0), wraps, link: null }, after: state, secret: null }
  }

  /** Takes over a commit that was accepted. */
  follow(after: GroupState, secret: EpochSecret | null): void {
    this.#state = after
    if (secret !== null) this.#secrets.set(after.roster.epoch, secret)
  }

  /** A validly signed and sealed write. */
  async item(author: Person, options: PutOptions = {}): Promise<PutItem> {
    const { head, roster, group } = this.#state
    const object = options.object ?? options.previous?.header.object ?? asObjectId(randomBytes(16))
    const version = (options.previous?.header.version ?? 0) + 1
    const base = {
      v: 1 as const,
      group,
      object,
      version,
      generation: version,
      epoch: roster.epoch,
      at: head,
      author: author.id,
      previous: options.previous?.hash ?? null,
    }
    if (options.tombstone === true) {
      return {
        header: await signHeader(author.signer, { ...base, ...TOMBSTONE_FIELDS, ...options.header }),
        seal: null,
        body: null,
        bodyId: null,
        ...options.item,
      }
    }
    const dek = generateDek()
    const context = { group, object, generation: version }
    const sealed = await sealInlineBody({ dek, context, suite: roster.suite }, options.body ?? new Uint8Array(0))
    const { bodyId = null, ...stored } = options.stored ?? {}
    const content = {
      dekCommitment: dekCommitment(dek, context),
      bodyHash: sealed.bodyHash,
      bodyLength: sealed.length,
      metadata: concat(randomBytes(40)),
      ...stored,
    }
    const header = await signHeader(author.signer, { ...base, ...content, ...options.header })
    const seal = sealDek(epochSealKeys(this.secret, { group, epoch: roster.epoch }), { object, generation: version }, dek)
    return { header, seal, body: bodyId === null ? sealed.sealed : null, bodyId, ...options.item }
  }

  /** Writes items at the head. */
  async put(client: RawClient, items: readonly PutItem[]): Promise<PutResult[]> {
    const { head, roster, group } = this.#state
    return (await client.request('object.put', { group, seq: head.seq, epoch: roster.epoch, items: [...items] })).results
  }

  /** Writes one object. @returns its header. */
  async write(client: RawClient, author: Person, options: PutOptions = {}): Promise<SignedHeader> {
    const item = await this.item(author, options)
    const [result] = await this.put(client, [item])
    if (result?.state !== 'accepted') throw new Error(`the write was refused: ${JSON.stringify(result)}`)
    return decodeEnvelope(item.header)
  }
}

/** A signed genesis with its wraps. */
export async function genesis(
  creator: Person,
  time: number = Date.now(),
): Promise<{ params: Params<'group.create'>; state: GroupState; secret: EpochSecret }> {
  const { rekey, secret } = await freshEpoch(null)
  const commit = await forge(null, { author: creator, ops: [ops.create(creator)], rekey, time })
  const { state } = foldCommit(null, decodeCommit(commit))
  const { enc, wraps } = await wrapEpochSecret(secret, epochContext(state, 0), recipients(state.roster))
  return { params: { commit, enc, wraps: wraps.map((wrap) => wrap ?? new Uint8Array(0)) }, state, secret }
}
