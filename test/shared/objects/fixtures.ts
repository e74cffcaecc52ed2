/**
 * Builders for object tests: ids, a roster with alice, bob, carol and mallory, headers, and what a promise rejects with.
 */
import { createHash } from 'node:crypto'
import type { Roster, Segment } from '../../../shared/group/roster.ts'
import type { Role } from '../../../shared/group/commit.ts'
import { EMPTY_HISTORY } from '../../../shared/group/history.ts'
import { concat } from '../../../shared/bytes.ts'
import { asDek, asEpochSecret, asKemPublicKey } from '../../../shared/crypto/keys.ts'
import type { Signer } from '../../../shared/crypto/signature.ts'
import { signerFromSeed } from '../../../shared/crypto/sign.ts'
import { ClavigerError } from '../../../shared/errors.ts'
import type { Head, IdentityId } from '../../../shared/ids.ts'
import { asCommitHash, asGroupId, asIdentityId, asObjectId, asPageId } from '../../../shared/ids.ts'
import { dekCommitment } from '../../../shared/objects/dek.ts'
import type { Header, SignedHeader } from '../../../shared/objects/header.ts'
import { decodeEnvelope, TOMBSTONE_FIELDS } from '../../../shared/objects/header.ts'
import { signHeader } from '../../../shared/objects/header-signing.ts'

/** `length` bytes that look random and are the same in every run. */
export function filled(length: number, seed = 1): Uint8Array {
  let state = (seed * 2_654_435_761) >>> 0 || 1
  return Uint8Array.from({ length }, () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return state & 0xff
  })
}

export const group = asGroupId(filled(32, 1))
export const otherGroup = asGroupId(filled(32, 2))
export const objectId = (seed: number): ReturnType<typeof asObjectId> => asObjectId(filled(16, 1000 + seed))
export const pageId = (seed: number): ReturnType<typeof asPageId> => asPageId(filled(16, 2000 + seed))
export const dekOf = (seed: number): ReturnType<typeof asDek> => asDek(filled(32, 3000 + seed))
export const secretOf = (seed: number): ReturnType<typeof asEpochSecret> => asEpochSecret(filled(32, 4000 + seed))
export const headAt = (seq: number): Head => ({ seq, hash: asCommitHash(filled(32, 5000 + seq)) })

/** Somebody who signs. */
export interface Person {
  readonly id: IdentityId
  readonly signer: Signer
}

async function person(seed: number): Promise<Person> {
  return { id: asIdentityId(filled(32, seed)), signer: await signerFromSeed(filled(32, seed + 50)) }
}

export const alice = await person(101)
export const bob = await person(102)
export const carol = await person(103)
export const mallory = await person(104)

/** A header of `alice` in epoch 3, which commit 30 opened; no DEK of it is real unless given. */
export function headerOf(changes: Partial<Header> = {}): Header {
  const object = changes.object ?? objectId(1)
  const version = changes.version ?? 1
  return {
    v: 1,
    group,
    object,
    version,
    generation: version,
    epoch: 3,
    at: headAt(30),
    author: alice.id,
    previous: version === 1 ? null : filled(32, 60),
    dekCommitment: dekCommitment(dekOf(1), { group: changes.group ?? group, object, generation: version }),
    bodyHash: filled(32, 61),
    bodyLength: 5,
    metadata: filled(104, 62),
    ...changes,
  }
}

/** A header of a deletion. */
export function tombstoneOf(changes: Partial<Header> = {}): Header {
  return headerOf({ ...TOMBSTONE_FIELDS, ...changes })
}

/** Signed and decoded again. */
export async function signedBy(author: Person, header: Header): Promise<SignedHeader> {
  return decodeEnvelope(await signHeader(author.signer, header))
}

/** The roster after commit 40: epochs 0 and 1 are retired, 2 was opened by commit 20, 3 by commit 30. */
export function rosterOf(segmentsByPerson: readonly (readonly [Person, readonly Omit<Segment, 'signingKey'>[]])[]): Roster {
  const depositKey = asKemPublicKey(filled(32, 70))
  const epoch = (number: number): Roster['epochs'][number] => ({
    epoch: number,
    seq: number * 10,
    parent: null,
    commitment: filled(32, 71),
    link: null,
    depositKey,
  })
  return {
    v: 1,
    suite: 1,
    seq: 40,
    epoch: 3,
    rekeyOwed: false,
    retiredThrough: 1,
    logTime: 0,
    invites: [],
    epochs: [epoch(2), epoch(3)],
    history: EMPTY_HISTORY,
    members: segmentsByPerson.map(([{ id, signer }, segments]) => ({
      id,
      state: segments.at(-1)?.toSeq === null ? 'active' : 'removed',
      role: segments.at(-1)?.role ?? 'member',
      signingKey: signer.publicKey,
      kemKey: asKemPublicKey(filled(32, 72)),
      cardRevision: 0,
      via: null,
      segments: segments.map((segment) => ({ ...segment, signingKey: signer.publicKey })),
    })),
  }
}

/** A role held since the genesis and still. */
export const always = (role: Role): readonly Omit<Segment, 'signingKey'>[] => [{ fromSeq: 0, toSeq: null, role }]

/** The code, and the rule if there is one, that `action` fails with; `'nothing'` if it does not fail. Other errors pass through. */
export async function failureOf(action: () => unknown): Promise<string> {
  try {
    await action()
    return 'nothing'
  } catch (error) {
    if (!(error instanceof ClavigerError)) throw error
    const { rule } = error.data
    return typeof rule === 'string' ? `${error.code} ${rule}` : error.code
  }
}

/** All of a stream in one piece. */
export async function collect(stream: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const pieces: Uint8Array[] = []
  for await (const piece of stream) pieces.push(piece)
  return concat(...pieces)
}

/** A short text that is the same exactly for equal byte strings: comparing large arrays element by element is slow. */
export function digest(bytes: Uint8Array): string {
  return `${bytes.length} bytes ${createHash('sha256').update(bytes).digest('hex')}`
}

/** A copy with one bit flipped. @param index - counted from the end if negative. */
export function flipped(bytes: Uint8Array, index: number): Uint8Array {
  const copy = Uint8Array.from(bytes)
  const at = index < 0 ? copy.length + index : index
  copy[at] = (copy[at] ?? 0) ^ 1
  return copy
}
