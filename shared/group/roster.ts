/**
 * The roster: everything that folding a group’s log gives, and all that folding on needs.
 *
 * It holds neither the group’s id nor its own commit’s hash, so that the genesis can contain the roster’s hash.
 * Neither entries nor lists are ever mutated; hashes are cached with both, so a commit costs the entries it changes.
 */
import { z } from 'zod/mini'
import { concat } from '../bytes.ts'
import { bytesOf, codec, encodeCanonical, uint } from '../codec.ts'
import type { KemKeyId, KemPublicKey, SigningPublicKey } from '../crypto/keys.ts'
import { kemKeyId } from '../crypto/keys.ts'
import { hashLabelled, sha256 } from '../crypto/public-crypto.ts'
import type { SuiteId } from '../crypto/suites.ts'
import { isSuiteId } from '../crypto/suites.ts'
import { ClavigerError } from '../errors.ts'
import type { CommitHash, IdentityId, InviteId, PrincipalId } from '../ids.ts'
import { idKey } from '../ids.ts'
import * as limits from '../limits.ts'
import type { Role } from './commit.ts'
import { InviteModeSchema, RoleSchema } from './commit.ts'
import { historyRoot, isHistory } from './history.ts'

const SegmentSchema = z.strictObject({
  /** First commit after which this key and role hold. */
  fromSeq: uint(),
  /** Commit that ended them; null while they hold. */
  toSeq: z.nullable(uint()),
  role: RoleSchema,
  signingKey: bytesOf<SigningPublicKey>(32),
})
export type Segment = z.infer<typeof SegmentSchema>

const MemberSchema = z.strictObject({
  id: bytesOf<IdentityId>(32),
  state: z.enum(['active', 'left', 'removed']),
  role: RoleSchema,
  signingKey: bytesOf<SigningPublicKey>(32),
  kemKey: bytesOf<KemPublicKey>(32),
  cardRevision: uint(),
  /** The invite they came in through, if any. */
  via: z.nullable(bytesOf<InviteId>(32)),
  segments: z.array(SegmentSchema).check(z.maxLength(limits.SEGMENTS_PER_MEMBER_MAX)),
})
export type Member = z.infer<typeof MemberSchema>

const InviteSchema = z.strictObject({
  id: bytesOf<InviteId>(32),
  state: z.enum(['live', 'spent', 'revoked']),
  signingKey: bytesOf<SigningPublicKey>(32),
  kemKey: bytesOf<KemPublicKey>(32),
  role: RoleSchema,
  mode: InviteModeSchema,
  expiresAt: uint(),
  maxUses: uint(),
  uses: uint(),
  creator: bytesOf<IdentityId>(32),
  createdSeq: uint(),
})
export type Invite = z.infer<typeof InviteSchema>

const EpochSchema = z.strictObject({
  epoch: uint(),
  /** The commit that opened it, and that commit’s parent. */
  seq: uint(),
  parent: z.nullable(bytesOf<CommitHash>(32)),
  commitment: bytesOf(32),
  link: z.nullable(z.strictObject({ to: uint(), hash: bytesOf(32) })),
  depositKey: bytesOf<KemPublicKey>(32),
})
export type Epoch = z.infer<typeof EpochSchema>

const RosterSchema = z.strictObject({
  v: z.literal(1),
  suite: z.custom<SuiteId>(isSuiteId),
  /** The commit this roster is the result of. */
  seq: uint(),
  epoch: uint(),
  /** Whether a new epoch must be opened before anything is written. */
  rekeyOwed: z.boolean(),
  /** The newest retired epoch, −1 if none is. */
  retiredThrough: z.number().check(z.int(), z.minimum(-1)),
  /** The greatest `time` of any commit. */
  logTime: uint(),
  /** In order of first enrolment, former ones included. */
  members: z.array(MemberSchema).check(z.maxLength(limits.MEMBERS_MAX)),
  /** In order of creation, dead ones included. */
  invites: z.array(InviteSchema).check(z.maxLength(limits.INVITES_MAX)),
  /** Not retired, oldest first; the last one is current. */
  epochs: z.array(EpochSchema).check(z.maxLength(limits.LIVE_EPOCHS_MAX)),
  /** Over all commit hashes before `seq`. */
  history: z.strictObject({ size: uint(), peaks: z.array(bytesOf(32)) }),
})

type Immutable<T> = T extends Uint8Array
  ? T
  : T extends readonly (infer Item)[]
    ? readonly Immutable<Item>[]
    : T extends object
      ? { readonly [Key in keyof T]: Immutable<T[Key]> }
      : T
export type Roster = Immutable<z.infer<typeof RosterSchema>>

const rosterCodec = codec('roster', RosterSchema, limits.ROSTER_BYTES_MAX)

/** What each role may do. Authority over the log itself is in rules.ts. */
export const ROLE_RIGHTS = {
  admin: { holdsKeys: true, writes: true },
  member: { holdsKeys: true, writes: true },
  reader: { holdsKeys: true, writes: false },
  depositor: { holdsKeys: false, writes: false },
} as const satisfies Record<Role, { holdsKeys: boolean; writes: boolean }>

/** Whether a member with this role receives epoch secrets. */
export function holdsKeys(role: Role): boolean {
  return ROLE_RIGHTS[role].holdsKeys
}

/** Whether a member with this role may write objects. */
export function canWrite(role: Role): boolean {
  return ROLE_RIGHTS[role].writes
}

/** Equality of public byte strings, fast. */
export function sameBytes(left: Uint8Array, right: Uint8Array): boolean {
  if (left.length !== right.length) return false
  for (let index = 0; index < left.length; index += 1) if (left[index] !== right[index]) return false
  return true
}

/** The member, former ones included, or null. */
export function findMember(roster: Roster, id: Uint8Array): Roster['members'][number] | null {
  return roster.members.find((member) => sameBytes(member.id, id)) ?? null
}

/** The active member, or null. */
export function findActive(roster: Roster, id: Uint8Array): Roster['members'][number] | null {
  const member = findMember(roster, id)
  return member?.state === 'active' ? member : null
}

/** The active member whose current signing key this is, or null. */
export function findMemberBySigningKey(roster: Roster, key: Uint8Array): Roster['members'][number] | null {
  return roster.members.find((member) => member.state === 'active' && sameBytes(member.signingKey, key)) ?? null
}

/** The invite, dead ones included, or null. */
export function findInvite(roster: Roster, id: Uint8Array): Roster['invites'][number] | null {
  return roster.invites.find((invite) => sameBytes(invite.id, id)) ?? null
}

/** The live invite whose signing key this is, or null. */
export function findInviteBySigningKey(roster: Roster, key: Uint8Array): Roster['invites'][number] | null {
  return roster.invites.find((invite) => invite.state === 'live' && sameBytes(invite.signingKey, key)) ?? null
}

/** Whether the member is active. */
export function isActive(member: { readonly state: Member['state'] }): boolean {
  return member.state === 'active'
}

/** Key and role that a member, perhaps a former one, had at a head; null if none. */
export function segmentAt(member: Roster['members'][number], seq: number): Segment | null {
  return member.segments.find(({ fromSeq, toSeq }) => fromSeq <= seq && (toSeq === null || seq < toSeq)) ?? null
}

/** The non-retired epoch with this number, or null. */
export function findEpoch(roster: Roster, epoch: number): Roster['epochs'][number] | null {
  return roster.epochs.find((entry) => entry.epoch === epoch) ?? null
}

/** The epoch that is current after this commit: it is never retired. */
export function currentEpoch(roster: Roster): Roster['epochs'][number] {
  const current = roster.epochs.at(-1)
  if (current === undefined) throw new ClavigerError('malformed', 'a roster has a current epoch')
  return current
}

/** The epoch that was current at commit `seq`; null if it is retired. */
export function epochAt(roster: Roster, seq: number): number | null {
  return roster.epochs.findLast((entry) => entry.seq <= seq)?.epoch ?? null
}

/** Somebody an epoch secret is wrapped to. */
export interface Recipient {
  readonly principal: PrincipalId
  readonly kemKey: KemPublicKey
  readonly kemKeyId: KemKeyId
  /** `kemKeyId` as a `Map` key. */
  readonly key: string
}

const recipientByEntry = new WeakMap<object, Recipient>()

const recipientsByMembers = new WeakMap<Roster['members'], { readonly invites: Roster['invites']; readonly list: readonly Recipient[] }>()

/**
 * Who receives the secret of an epoch opened now: a function of the roster alone, in the order wraps travel in.
 *
 * An open invite for depositors receives none: whoever holds its token would read what the role may not.
 */
export function recipients({ members, invites }: Roster): readonly Recipient[] {
  const known = recipientsByMembers.get(members)
  if (known?.invites === invites) return known.list
  const list: Recipient[] = []
  for (const member of members) if (isActive(member) && holdsKeys(member.role)) list.push(recipientOf(member))
  for (const invite of invites)
    if (invite.state === 'live' && invite.mode === 'open' && holdsKeys(invite.role)) list.push(recipientOf(invite))
  recipientsByMembers.set(members, { invites, list })
  return list
}

function recipientOf(entry: { readonly id: PrincipalId; readonly kemKey: KemPublicKey }): Recipient {
  const known = recipientByEntry.get(entry)
  if (known !== undefined) return known
  const id = kemKeyId(entry.kemKey)
  const recipient = { principal: entry.id, kemKey: entry.kemKey, kemKeyId: id, key: idKey(id) }
  recipientByEntry.set(entry, recipient)
  return recipient
}

const hashByEntry = new WeakMap<object, Uint8Array>()

function entryHash(entry: object): Uint8Array {
  const known = hashByEntry.get(entry)
  if (known !== undefined) return known
  const hash = hashLabelled('roster-entry', encodeCanonical(entry))
  hashByEntry.set(entry, hash)
  return hash
}

const hashByList = new WeakMap<readonly object[], Uint8Array>()

function listHash(entries: readonly object[]): Uint8Array {
  const known = hashByList.get(entries)
  if (known !== undefined) return known
  const hash = sha256(concat(...entries.map(entryHash)))
  hashByList.set(entries, hash)
  return hash
}

/** The hash that stands in a commit: 32 bytes over the hashes of all entries. */
export function rosterHash(roster: Roster): Uint8Array {
  const { v, suite, seq, epoch, rekeyOwed, retiredThrough, logTime, members, invites, epochs, history } = roster
  const scalars = [v, suite, seq, epoch, rekeyOwed, retiredThrough, logTime]
  const lists = [listHash(members), listHash(invites), listHash(epochs)]
  return hashLabelled('roster', encodeCanonical([...scalars, ...lists, history.size, historyRoot(history)]))
}

/** The bytes of a snapshot. */
export function encodeRoster(roster: Roster): Uint8Array {
  return encodeCanonical(roster)
}

/** @throws ClavigerError `malformed` or `limit_exceeded`. The caller compares the hash with a commit’s. */
export function decodeRoster(bytes: Uint8Array): Roster {
  const roster = rosterCodec.decode(bytes)
  if (!isHistory(roster.history) || roster.epochs.length === 0) throw new ClavigerError('malformed', 'the roster is not well-formed')
  return roster
}
