/** What happens in a group, as `group.changes()` and `group.on()` tell it. */
import type { ClavigerError } from '../shared/errors.ts'
import type { DecodedCards } from '../shared/group/card.ts'
import type { Commit, Op, Role } from '../shared/group/commit.ts'
import type { Author } from '../shared/group/rules.ts'
import type { Fold, GroupState } from '../shared/group/fold.ts'
import { inviteIdOf } from '../shared/group/invite-proof.ts'
import { findInviteBySigningKey, findMember, findMemberBySigningKey } from '../shared/group/roster.ts'
import type { IdentityId, InviteId, ObjectId } from '../shared/ids.ts'

export type GroupChange =
  | { readonly type: 'member-joined'; readonly member: IdentityId; readonly role: Role; readonly via: InviteId | null }
  | { readonly type: 'member-removed'; readonly member: IdentityId; readonly by: IdentityId | null }
  | { readonly type: 'member-left'; readonly member: IdentityId }
  | { readonly type: 'role-changed'; readonly member: IdentityId; readonly role: Role }
  | { readonly type: 'invite-created'; readonly invite: InviteId; readonly role: Role }
  | { readonly type: 'invite-revoked'; readonly invite: InviteId }
  | { readonly type: 'epoch-opened'; readonly epoch: number }
  | { readonly type: 'epoch-retired'; readonly through: number }
  | { readonly type: 'rekey-owed' }
  | { readonly type: 'object-changed'; readonly object: ObjectId; readonly version: number; readonly author: IdentityId }
  | { readonly type: 'object-deleted'; readonly object: ObjectId; readonly author: IdentityId }
  | { readonly type: 'join-requested'; readonly request: Uint8Array }
  | { readonly type: 'rewrap-progress'; readonly epoch: number; readonly done: number; readonly total: number }
  | { readonly type: 'unopenable'; readonly objects: readonly ObjectId[] }
  /** The group’s name is in `group.name`. */
  | { readonly type: 'renamed' }
  /** A signed item that was refused; its signer and what is wrong with it. */
  | { readonly type: 'bad-item'; readonly signer: IdentityId | null; readonly error: ClavigerError }
  | { readonly type: 'verified' }
  /** This client can no longer open the current epoch; it stays readable on its last one. */
  | { readonly type: 'epoch-unavailable'; readonly epoch: number; readonly error: ClavigerError }
  /** It can again: somebody has supplied a good wrap. */
  | { readonly type: 'epoch-available'; readonly epoch: number }
  | { readonly type: 'healed'; readonly epoch: number; readonly wraps: number }
  /** This client is no longer a member, or the group was stopped. */
  | { readonly type: 'ended'; readonly error: ClavigerError }

/** What one commit means to those who watch. */
export function changesOf(before: GroupState | null, { commit, state, cards }: Fold): GroupChange[] {
  const author = before === null ? null : authorOf(before, commit)
  const ops = commit.payload.ops.flatMap((op, index) => changeOf(state, author, op, cards[index] ?? null))
  const opened: GroupChange[] = commit.payload.rekey === null ? [] : [{ type: 'epoch-opened', epoch: commit.payload.epoch }]
  const owed: GroupChange[] = state.roster.rekeyOwed && before?.roster.rekeyOwed === false ? [{ type: 'rekey-owed' }] : []
  return [...ops, ...opened, ...owed]
}

function changeOf({ roster }: GroupState, author: Author | null, op: Op, cards: DecodedCards | null): GroupChange[] {
  const by = author?.kind === 'member' ? author.member.id : null
  switch (op.type) {
    case 'create':
    case 'join':
    case 'approve':
    case 'add': {
      const member = cards === null ? null : findMember(roster, cards.identity)
      return member === null ? [] : [{ type: 'member-joined', member: member.id, role: member.role, via: member.via }]
    }
    case 'remove':
      return [{ type: 'member-removed', member: op.member, by }]
    case 'leave':
      return by === null ? [] : [{ type: 'member-left', member: by }]
    case 'set-role':
      return [{ type: 'role-changed', member: op.member, role: op.role }]
    case 'invite':
      return [{ type: 'invite-created', invite: inviteIdOf(op.signingKey), role: op.role }]
    case 'revoke-invite':
      return [{ type: 'invite-revoked', invite: op.invite }]
    case 'retire-epoch':
      return [{ type: 'epoch-retired', through: op.through }]
  }
}

function authorOf(before: GroupState, commit: Commit): Author | null {
  const member = findMemberBySigningKey(before.roster, commit.payload.author)
  if (member !== null) return { kind: 'member', member }
  const invite = findInviteBySigningKey(before.roster, commit.payload.author)
  return invite === null ? null : { kind: 'invite', invite }
}
