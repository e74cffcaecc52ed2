/**
 * Judging writes of objects: what an honest server refuses, so that honest clients never see it.
 *
 * Everything here is judged by the roster at one head; the write asserts that head in the same statement. What is read
 * of the stored version before cannot change under us: a version, once written, is only ever replaced by the next.
 */
import { equalBytes } from '../shared/bytes.ts'
import { ClavigerError } from '../shared/errors.ts'
import type { GroupState } from '../shared/group/fold.ts'
import { PROFILE_OBJECT_ID } from '../shared/ids.ts'
import { INLINE_BODY_BYTES_MAX } from '../shared/limits.ts'
import { bodyHash, chunkHash, sealedBodyBytes } from '../shared/objects/body-layout.ts'
import type { SignedHeader } from '../shared/objects/header.ts'
import { decodeEnvelope, isTombstone, verifyHeader } from '../shared/objects/header.ts'
import { judgeHeader } from '../shared/objects/header-rules.ts'
import type { PutItem } from '../shared/protocol/messages.ts'
import type { MemberEntry } from './access.ts'
import type { CommitHashes } from './commit-hashes.ts'
import type { ObjectState } from './storage/objects.ts'
import type { WriteItem } from './storage/writes.ts'

/** Nonce, DEK and tag. */
export const LOOSE_SEAL_BYTES = 24 + 32 + 16

/** What items are judged by. */
export interface WriteContext {
  readonly state: GroupState
  readonly author: MemberEntry
  readonly hashes: CommitHashes
}

/** An item whose envelope has been decoded. */
export interface DecodedItem {
  readonly item: PutItem
  readonly signed: SignedHeader
}

/**
 * Judges one item, given the stored version of its object.
 *
 * @throws ClavigerError of the first thing that is wrong with it.
 */
export async function judgeItem(context: WriteContext, { item, signed }: DecodedItem, stored: ObjectState | null): Promise<WriteItem> {
  const { header } = signed
  await judgeAuthority(context, signed)
  judgeSuccession(signed, stored)
  const bodyBytes = judgeContent(context.state, item, signed)
  return {
    object: header.object,
    expected: header.version - 1,
    header: signed.bytes,
    headerHash: signed.hash,
    author: header.author,
    seal: item.seal,
    body: item.body,
    bodyId: item.bodyId,
    bodyBytes,
  }
}

/** The author is this session, may write now, and signed with the key the roster has now. */
async function judgeAuthority({ state, author, hashes }: WriteContext, signed: SignedHeader): Promise<void> {
  const { header } = signed
  if (!equalBytes(header.author, author.id)) throw new ClavigerError('not_authorised', 'A session writes in its own name only.')
  if (equalBytes(header.object, PROFILE_OBJECT_ID) && author.role !== 'admin')
    throw new ClavigerError('not_authorised', 'Only admins write the group’s profile.')
  if (header.epoch !== state.roster.epoch) throw staleEpoch(state)
  const key = judgeHeader(state.group, state.roster, signed)
  if (!equalBytes(key, author.signingKey))
    throw new ClavigerError('invalid_signature', 'The header is of before the author’s keys were replaced.')
  await hashes.assertContains(state, header.at, author.id)
  await verifyHeader(signed, author.signingKey)
}

/** Compare-and-set, as far as it can be judged before; the rest is the write’s own condition. */
function judgeSuccession({ header }: SignedHeader, stored: ObjectState | null): void {
  const follows = header.version === (stored?.version ?? 0) + 1
  const previous = stored === null ? header.previous === null : header.previous !== null && equalBytes(header.previous, stored.headerHash)
  if (!follows || !previous) throw new ClavigerError('version_conflict', undefined, { data: { header: stored?.header ?? null } })
  if (stored !== null && decodeEnvelope(stored.header).header.at.seq > header.at.seq) {
    throw new ClavigerError('bad_head', 'A version is not made at an older head than the one before.')
  }
}

/** A tombstone has nothing, everything else a seal and one body. @returns the bytes of the body’s ciphertext. */
function judgeContent({ roster }: GroupState, { seal, body, bodyId }: PutItem, { header }: SignedHeader): number {
  if (isTombstone(header)) {
    if (seal !== null || body !== null || bodyId !== null) throw new ClavigerError('malformed', 'a tombstone has no seal and no body')
    return 0
  }
  if (seal?.length !== LOOSE_SEAL_BYTES) throw new ClavigerError('malformed', `a seal must be ${LOOSE_SEAL_BYTES} bytes`)
  if ((body === null) === (bodyId === null)) throw new ClavigerError('malformed', 'a body is either inline or stored')
  const bytes = sealedBodyBytes(header.bodyLength)
  if (body === null) return bytes
  if (header.bodyLength > INLINE_BODY_BYTES_MAX)
    throw new ClavigerError('limit_exceeded', `an inline body must be at most ${INLINE_BODY_BYTES_MAX} bytes`)
  // Inline bodies are one chunk.
  const isSigned =
    body.length === bytes &&
    header.bodyHash !== null &&
    equalBytes(bodyHash({ suite: roster.suite, length: header.bodyLength, hashes: chunkHash(body) }), header.bodyHash)
  if (!isSigned) throw new ClavigerError('body_invalid', 'The body is not the one the header names.')
  return bytes
}

/** The error that tells a client where the group stands. */
export function staleEpoch({ head, roster }: GroupState): ClavigerError {
  return new ClavigerError('stale_epoch', undefined, { data: { ...head, epoch: roster.epoch } })
}
