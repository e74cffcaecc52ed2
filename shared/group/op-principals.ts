/** Whom an op is about: two ops on one principal do not go into one commit (G09). */
import { idKey } from '../ids.ts'
import type { DecodedCards } from './card.ts'
import type { OpOf, OpType } from './commit.ts'
import { inviteIdOf } from './invite-proof.ts'
import type { Author } from './rules.ts'

/** The principals an op is about, as `Map` keys; `cards` is the chain it carries, if any. */
export function principalsOf(op: OpOf<OpType>, author: Author | null, cards: DecodedCards | null): string[] {
  switch (op.type) {
    case 'remove':
    case 'set-role':
      return [idKey(op.member)]
    case 'invite':
      return [idKey(inviteIdOf(op.signingKey))]
    case 'revoke-invite':
      return [idKey(op.invite)]
    case 'add':
    case 'approve':
      return cards === null ? [] : [idKey(cards.identity)]
    case 'leave':
      return author?.kind === 'member' ? [idKey(author.member.id)] : []
    case 'create':
    case 'join':
    case 'retire-epoch':
      return []
  }
}
