/**
 * Forging: validly signed commits of every kind, also nonsensical ones, so that only the rule under test can refuse them.
 *
 * Nothing here asks whether a commit makes sense. Where the fold can say what the roster would be its hash is filled in,
 * else any bytes are: a commit that fails later than its rule must not fail for its hash first.
 */
import { encodeCanonical } from '../../shared/codec.ts'
import type { EpochSecret, Signature } from '../../shared/crypto/keys.ts'
import { randomBytes } from '../../shared/crypto/public-crypto.ts'
import type { Signer } from '../../shared/crypto/signature.ts'
import type { CommitPayload, Op, OpOf, Rekey, Role } from '../../shared/group/commit.ts'
import { commitMessage } from '../../shared/group/commit.ts'
import type { EpochContext } from '../../shared/group/epoch.ts'
import { epochPublic, generateEpochSecret, sealLink } from '../../shared/group/epoch.ts'
import type { Fold, GroupState } from '../../shared/group/fold.ts'
import { applyCommit, transition } from '../../shared/group/fold.ts'
import type { InviteKeys, InviteOptions } from '../../shared/group/invite.ts'
import { inviteKeys, planInvite } from '../../shared/group/invite.ts'
import { linkHash } from '../../shared/group/link-hash.ts'
import type { Roster } from '../../shared/group/roster.ts'
import { encodeRoster, findEpoch, rosterHash } from '../../shared/group/roster.ts'
import type { CommitHash, IdentityId, InviteId } from '../../shared/ids.ts'
import { ClavigerError } from '../../shared/errors.ts'
import type { Person } from './people.ts'
import { seedOf } from './people.ts'

/** When the logs of the tests begin: milliseconds since 1970. */
export const START_MS = 1_700_000_000_000
/** What each commit of a test is later than the one before. */
export const STEP_MS = 1000

/** What somebody tries to commit. */
export interface Attempt {
  /** Whose key stands as author and signs first. */
  readonly author: { readonly signer: Signer }
  readonly ops?: readonly Op[]
  /** `fresh` opens a new epoch with a link to the current one. */
  readonly rekey?: Rekey | 'fresh' | null
  /** Milliseconds since 1970; a step after the log’s time if left out. */
  readonly time?: number
  /** Fields that replace what an honest author would write. */
  readonly payload?: Partial<CommitPayload>
  /** Who signs, in order, instead of the author alone. */
  readonly signers?: readonly { readonly signer: Signer }[]
}

const ANY_HASH = new Uint8Array(32).fill(0xee)

/** The signed bytes of whatever was attempted. */
export async function forge(state: GroupState | null, attempt: Attempt): Promise<Uint8Array> {
  const rekey = attempt.rekey === 'fresh' ? (await freshEpoch(state)).rekey : (attempt.rekey ?? null)
  const payload = payloadOf(state, { ...attempt, rekey })
  return signPayload(payload, attempt.signers ?? [attempt.author])
}

/** An honest payload with the attempt’s replacements; its roster hash is right wherever the fold gets that far. */
export function payloadOf(state: GroupState | null, attempt: Attempt & { readonly rekey: Rekey | null }): CommitPayload {
  const draft: CommitPayload = {
    v: 1,
    suite: state?.roster.suite ?? 1,
    seq: state === null ? 0 : state.head.seq + 1,
    parent: state?.head.hash ?? null,
    epoch: (state?.roster.epoch ?? -1) + (attempt.rekey === null ? 0 : 1),
    author: attempt.author.signer.publicKey,
    time: attempt.time ?? (state === null ? START_MS : state.roster.logTime + STEP_MS),
    ops: [...(attempt.ops ?? [])],
    roster: ANY_HASH,
    rekey: attempt.rekey,
    ...attempt.payload,
  }
  return attempt.payload?.roster === undefined ? { ...draft, roster: rosterHashOf(state, draft) } : draft
}

function rosterHashOf(state: GroupState | null, payload: CommitPayload): Uint8Array {
  try {
    return rosterHash(transition(state, payload).roster)
  } catch (error) {
    if (error instanceof ClavigerError) return ANY_HASH
    throw error
  }
}

/** Encodes and signs any payload, well-formed or not. */
export async function signPayload(payload: unknown, signers: readonly { readonly signer: Signer }[]): Promise<Uint8Array> {
  const payloadBytes = encodeCanonical(payload)
  const signatures: Signature[] = []
  for (const { signer } of signers) signatures.push(await signer.sign(commitMessage(payloadBytes)))
  return encodeCanonical({ payload: payloadBytes, signatures })
}

/** A new epoch, all its parts. */
export interface FreshEpoch {
  readonly rekey: Rekey
  readonly secret: EpochSecret
  /** The link’s bytes, null if there is no epoch to link to. */
  readonly link: Uint8Array | null
}

/** What a rekey on top of `state` would carry; `older` are the secrets its author can open. */
export async function freshEpoch(state: GroupState | null, older: ReadonlyMap<number, EpochSecret> = new Map()): Promise<FreshEpoch> {
  const secret = generateEpochSecret()
  const epoch = (state?.roster.epoch ?? -1) + 1
  const keys = await epochPublic(secret, { suite: 1, epoch })
  if (state === null) return { secret, link: null, rekey: { ...keys, link: null } }
  const to = state.roster.epoch
  const olderSecret = older.get(to) ?? generateEpochSecret()
  const link = sealLink(secret, olderSecret, { group: state.group, epoch, to })
  return { secret, link, rekey: { ...keys, link: { to, hash: linkHash(link) } } }
}

/** What the wraps of an epoch are bound to, from the roster. */
export function epochContext({ group, roster }: GroupState, epoch: number): EpochContext {
  const entry = findEpoch(roster, epoch)
  if (entry === null) throw new RangeError(`epoch ${epoch} is not in the roster`)
  const { seq, parent, commitment } = entry
  return { suite: roster.suite, group, epoch, seq, parent, commitment }
}

/** Ops, without asking whether they make sense. */
export const ops = {
  create: ({ cards }: Pick<Person, 'cards'>): OpOf<'create'> => ({ type: 'create', cards: [...cards] }),
  join: ({ cards }: Pick<Person, 'cards'>): OpOf<'join'> => ({ type: 'join', cards: [...cards] }),
  add: ({ cards }: Pick<Person, 'cards'>, role: Role): OpOf<'add'> => ({ type: 'add', role, cards: [...cards] }),
  approve: ({ cards }: Pick<Person, 'cards'>, { id }: { readonly id: InviteId }): OpOf<'approve'> => ({
    type: 'approve',
    invite: id,
    request: ANY_HASH,
    cards: [...cards],
  }),
  remove: ({ id }: { readonly id: IdentityId }): OpOf<'remove'> => ({ type: 'remove', member: id }),
  leave: (): OpOf<'leave'> => ({ type: 'leave' }),
  setRole: ({ id }: { readonly id: IdentityId }, role: Role): OpOf<'set-role'> => ({ type: 'set-role', member: id, role }),
  revoke: ({ id }: { readonly id: InviteId }): OpOf<'revoke-invite'> => ({ type: 'revoke-invite', invite: id }),
  retire: (through: number): OpOf<'retire-epoch'> => ({ type: 'retire-epoch', through }),
} as const

/** The invite keys that derive from a name. */
export async function inviteOf(name: string): Promise<InviteKeys> {
  return inviteKeys(seedOf('invite', name), 1)
}

/** An invite op with its key’s own proof; a member’s open invite for one use and a day unless said otherwise. */
export async function inviteOp(
  state: GroupState,
  creator: Person,
  keys: InviteKeys,
  options: Partial<InviteOptions> = {},
): Promise<OpOf<'invite'>> {
  const terms: InviteOptions = { role: 'member', mode: 'open', expiresAt: state.roster.logTime + 86_400_000, maxUses: 1, ...options }
  return planInvite(keys, terms, { group: state.group, creator: creator.id })
}

/** A group’s log in memory. Its states are frozen: a fold that wrote to one would throw. */
export class Log {
  #state: GroupState
  #commits: readonly Uint8Array[]
  #hashes: readonly CommitHash[]
  #secrets: ReadonlyMap<number, EpochSecret>

  private constructor(parts: {
    state: GroupState
    commits: readonly Uint8Array[]
    hashes: readonly CommitHash[]
    secrets: ReadonlyMap<number, EpochSecret>
  }) {
    this.#state = parts.state
    this.#commits = parts.commits
    this.#hashes = parts.hashes
    this.#secrets = parts.secrets
  }

  /** A new group with one admin. */
  static async found(creator: Person, time: number = START_MS): Promise<Log> {
    const { rekey, secret } = await freshEpoch(null)
    const bytes = await forge(null, { author: creator, ops: [ops.create(creator)], rekey, time })
    const { state } = await applyCommit(null, bytes)
    return new Log({ state: deepFrozen(state), commits: [bytes], hashes: [state.head.hash], secrets: new Map([[0, secret]]) })
  }

  /** The group after the last commit. */
  get state(): GroupState {
    return this.#state
  }

  get roster(): Roster {
    return this.#state.roster
  }

  /** Every commit, genesis first. */
  get commits(): readonly Uint8Array[] {
    return this.#commits
  }

  get hashes(): readonly CommitHash[] {
    return this.#hashes
  }

  /** Epoch secrets by epoch, as somebody knows them who was there from the start. */
  get secrets(): ReadonlyMap<number, EpochSecret> {
    return this.#secrets
  }

  /** The secret of the current epoch. */
  get secret(): EpochSecret {
    const secret = this.#secrets.get(this.roster.epoch)
    if (secret === undefined) throw new RangeError('the secret of this epoch was made elsewhere')
    return secret
  }

  /** Appends a commit that must be accepted. */
  async commit(attempt: Attempt): Promise<Fold> {
    const fresh = attempt.rekey === 'fresh' ? await freshEpoch(this.#state, this.#secrets) : null
    const bytes = await forge(this.#state, fresh === null ? attempt : { ...attempt, rekey: fresh.rekey })
    const fold = await this.append(bytes)
    if (fresh !== null) this.#secrets = new Map([...this.#secrets, [fold.state.roster.epoch, fresh.secret]])
    return fold
  }

  /** Appends signed bytes that must be accepted. */
  async append(bytes: Uint8Array): Promise<Fold> {
    const fold = await applyUnchanged(this.#state, bytes)
    this.#state = deepFrozen(fold.state)
    this.#commits = [...this.#commits, bytes]
    this.#hashes = [...this.#hashes, fold.state.head.hash]
    return fold
  }

  /** What the fold makes of an attempt, without appending it. */
  async try(attempt: Attempt): Promise<Fold> {
    return applyUnchanged(this.#state, await forge(this.#state, attempt))
  }

  /** The error with which an attempt is refused. */
  async refusal(attempt: Attempt): Promise<ClavigerError> {
    return refusalOf(this.#state, await forge(this.#state, attempt))
  }

  /** A log with the same past that goes on by itself. */
  fork(): Log {
    return new Log({ state: this.#state, commits: this.#commits, hashes: this.#hashes, secrets: this.#secrets })
  }
}

/** Applies a commit and makes sure that neither it nor the state was written to, whether it was accepted or not. */
export async function applyUnchanged(state: GroupState | null, bytes: Uint8Array): Promise<Fold> {
  const before = { bytes: Uint8Array.from(bytes), roster: state === null ? null : encodeRoster(state.roster) }
  try {
    return await applyCommit(state, bytes)
  } finally {
    assertSame(bytes, before.bytes, 'the commit')
    if (state !== null && before.roster !== null) assertSame(encodeRoster(state.roster), before.roster, 'the roster')
  }
}

/** The error with which a commit is refused. */
export async function refusalOf(state: GroupState | null, bytes: Uint8Array): Promise<ClavigerError> {
  try {
    await applyUnchanged(state, bytes)
  } catch (error) {
    if (error instanceof ClavigerError) return error
    throw error
  }
  throw new Error('the commit was accepted')
}

/** The same value with every object frozen, so that writing to it throws; byte strings cannot be frozen. */
export function deepFrozen<T>(value: T): T {
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value) || Object.isFrozen(value)) return value
  Object.freeze(value)
  for (const part of Object.values(value)) deepFrozen(part)
  return value
}

/** Bytes with one bit flipped. @param bit - counted from the first byte’s lowest bit. */
export function withFlippedBit(bytes: Uint8Array, bit: number): Uint8Array {
  const copy = Uint8Array.from(bytes)
  const index = Math.floor(bit / 8)
  copy[index] = (copy[index] ?? 0) ^ (1 << (bit % 8))
  return copy
}

/** 32 random bytes that are nobody’s hash. */
export function anyHash(): Uint8Array {
  return randomBytes(32)
}

function assertSame(now: Uint8Array, before: Uint8Array, what: string): void {
  if (now.length !== before.length || now.some((byte, index) => byte !== before[index])) throw new Error(`the fold wrote to ${what}`)
}
