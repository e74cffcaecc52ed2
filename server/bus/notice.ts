/**
 * What server processes tell each other. A notice may be lost or come twice: it says where to look, the database says what
 * is there. Passing events travel whole, because there is nothing to look up afterwards.
 */
import { z } from 'zod/mini'
import { fromBase64Url, toBase64Url } from '../../shared/bytes.ts'
import { bytesOf, decodePlain, encodeCanonical, uint } from '../../shared/codec.ts'
import type { GroupId, IdentityId } from '../../shared/ids.ts'
import { Event } from '../../shared/protocol/messages.ts'

const groupId = bytesOf<GroupId>(32)

const NoticeSchema = z.discriminatedUnion('kind', [
  /** The group’s feed has reached `change`, its log `seq`. */
  z.strictObject({ kind: z.literal('advanced'), group: groupId, change: uint(), seq: uint() }),
  /** An event for everybody who follows the group. */
  z.strictObject({ kind: z.literal('event'), event: Event }),
  /** A join request waits in the database under this hash: it is too large for a notice. */
  z.strictObject({ kind: z.literal('join-requested'), group: groupId, request: bytesOf(32) }),
  /** The identity has a newer card: sessions that authenticated with an older one end. */
  z.strictObject({ kind: z.literal('card'), identity: bytesOf<IdentityId>(32), revision: uint() }),
])
export type Notice = z.infer<typeof NoticeSchema>

/** PostgreSQL’s own limit is 8000 bytes of text. */
export const NOTICE_CHARACTERS_MAX = 7900

/** The notice as text, or null if it is too long to send. */
export function encodeNotice(notice: Notice): string | null {
  const text = toBase64Url(encodeCanonical(notice))
  return text.length <= NOTICE_CHARACTERS_MAX ? text : null
}

/** A notice from its text, or null if it is none that this version knows. */
export function parseNotice(text: string): Notice | null {
  try {
    const parsed = NoticeSchema.safeParse(decodePlain(fromBase64Url(text)))
    return parsed.success ? parsed.data : null
  } catch {
    // Written by another version, or by hand: notices are hints.
    return null
  }
}
