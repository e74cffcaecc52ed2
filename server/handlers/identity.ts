/** Identities: anybody with a session may ask for the cards behind an id, which is their hash. */
import { ClavigerError } from '../../shared/errors.ts'
import { decodeChain } from '../authentication.ts'
import { readIdentity } from '../storage/identities.ts'
import type { Handlers } from './handler.ts'

export const identityHandlers: Handlers<'identity.read'> = {
  'identity.read': async ({ services: { database } }, { identity }) => {
    const known = await readIdentity(database, identity)
    if (known === null) throw new ClavigerError('not_found', 'No such identity has been here.')
    return { cards: decodeChain(known.cards) }
  },
}
