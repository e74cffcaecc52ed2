/**
 * Branded identifiers. Every id is a hash of typed bytes or fresh random bytes; a plain `Uint8Array` is none.
 *
 * Ids are used as `Map` keys through {@link idKey}, because byte arrays compare by identity.
 */
import { bytesToHex } from '@noble/hashes/utils.js'

declare const brand: unique symbol
type Id<Name extends string> = Uint8Array & { readonly [brand]: Name }

/** SHA-256 of the genesis commit, 32 bytes. */
export type GroupId = Id<'GroupId'>
/** SHA-256 of a member’s card 0, 32 bytes. */
export type IdentityId = Id<'IdentityId'>
/** SHA-256 of an invite’s signing key, 32 bytes. */
export type InviteId = Id<'InviteId'>
/** Whoever may hold an epoch secret or sign commits, 32 bytes. */
export type PrincipalId = IdentityId | InviteId
/** SHA-256 of a commit’s signed bytes and signatures, 32 bytes. */
export type CommitHash = Id<'CommitHash'>
/** Random name of an object, 16 bytes. */
export type ObjectId = Id<'ObjectId'>
/** Random name of a key page, fresh at each write, 16 bytes. */
export type PageId = Id<'PageId'>
/** Random name of a stored body, never reused, 16 bytes. */
export type BodyId = Id<'BodyId'>

/** A commit by number and hash: what everything signed carries as `at`. */
export interface Head {
  readonly seq: number
  readonly hash: CommitHash
}

export const HASH_BYTES = 32
export const OBJECT_ID_BYTES = 16

function assertLength(bytes: Uint8Array, length: number, name: string): void {
  if (!(bytes instanceof Uint8Array) || bytes.length !== length) {
    throw new TypeError(`${name} must be ${length} bytes, got ${bytes instanceof Uint8Array ? bytes.length : typeof bytes}`)
  }
}

/** @throws TypeError unless `bytes` is 32 bytes. */
export function asGroupId(bytes: Uint8Array): GroupId {
  assertLength(bytes, HASH_BYTES, 'GroupId')
  return bytes as GroupId
}

/** @throws TypeError unless `bytes` is 32 bytes. */
export function asIdentityId(bytes: Uint8Array): IdentityId {
  assertLength(bytes, HASH_BYTES, 'IdentityId')
  return bytes as IdentityId
}

/** @throws TypeError unless `bytes` is 32 bytes. */
export function asInviteId(bytes: Uint8Array): InviteId {
  assertLength(bytes, HASH_BYTES, 'InviteId')
  return bytes as InviteId
}

/** @throws TypeError unless `bytes` is 32 bytes. */
export function asCommitHash(bytes: Uint8Array): CommitHash {
  assertLength(bytes, HASH_BYTES, 'CommitHash')
  return bytes as CommitHash
}

/** @throws TypeError unless `bytes` is 16 bytes. */
export function asObjectId(bytes: Uint8Array): ObjectId {
  assertLength(bytes, OBJECT_ID_BYTES, 'ObjectId')
  return bytes as ObjectId
}

/** @throws TypeError unless `bytes` is 16 bytes. */
export function asPageId(bytes: Uint8Array): PageId {
  assertLength(bytes, OBJECT_ID_BYTES, 'PageId')
  return bytes as PageId
}

/** @throws TypeError unless `bytes` is 16 bytes. */
export function asBodyId(bytes: Uint8Array): BodyId {
  assertLength(bytes, OBJECT_ID_BYTES, 'BodyId')
  return bytes as BodyId
}

/** The reserved object that holds the group’s name and profile; only admins write it. */
export const PROFILE_OBJECT_ID: ObjectId = asObjectId(new Uint8Array(OBJECT_ID_BYTES))

/** The id as lower-case hex, for use as a `Map` key and in reports. */
export function idKey(id: Uint8Array): string {
  return bytesToHex(id)
}
