/**
 * The line to the server for somebody who holds an invite and is no member yet: in each session the invite is opened before
 * anything else is asked for, since what a session was allowed is gone with it.
 */
import type { ClavigerError } from '../shared/errors.ts'
import { hasCode } from '../shared/errors.ts'
import { asSignature } from '../shared/crypto/keys.ts'
import type { InviteKeys } from '../shared/group/invite.ts'
import { inviteSessionMessage } from '../shared/group/invite-proof.ts'
import type { GroupId } from '../shared/ids.ts'
import type { MethodName, Params, Result } from '../shared/protocol/messages.ts'
import type { Connection, ConnectionEvents, RequestOptions, Session } from './connection.ts'
import type { Line } from './group-context.ts'

/** Whose invite, to which group, until when. */
export interface InvitedLineParts {
  readonly connection: Connection
  readonly group: GroupId
  readonly keys: InviteKeys
  /** Ends every wait. */
  readonly signal: AbortSignal | undefined
}

interface Opening {
  readonly session: number
  /** Why the invite opens nothing (any more); null if it does. */
  readonly refusal: Promise<ClavigerError | null>
}

export class InvitedLine implements Line {
  readonly #parts: InvitedLineParts
  #opening: Opening | null = null

  constructor(parts: InvitedLineParts) {
    this.#parts = parts
  }

  get session(): Session | null {
    return this.#parts.connection.session
  }

  serverTime(): number {
    return this.#parts.connection.serverTime()
  }

  on<Name extends keyof ConnectionEvents>(name: Name, listener: (value: ConnectionEvents[Name]) => void): () => void {
    return this.#parts.connection.on(name, listener)
  }

  /** The current session or the next one, with the invite opened in it. */
  async whenOpen(): Promise<Session> {
    const session = await this.#parts.connection.whenOpen(this.#withSignal())
    await this.#openIn(session)
    return session
  }

  /** Asks in the current session or the next one. @throws ClavigerError also why the invite opens nothing. */
  async request<M extends MethodName>(method: M, params: Params<M>): Promise<Result<M>> {
    const session = await this.#parts.connection.whenOpen(this.#withSignal())
    const refusal = await this.#openIn(session)
    try {
      return await this.#parts.connection.request(method, params, { ...this.#withSignal(), session: session.number })
    } catch (error) {
      // Whoever has become a member meanwhile needs no invite; a stranger is told what became of it.
      if (refusal !== null && hasCode(error, 'unknown_group')) throw refusal
      throw error
    }
  }

  #openIn(session: Session): Promise<ClavigerError | null> {
    if (this.#opening?.session !== session.number) this.#opening = { session: session.number, refusal: this.#open(session) }
    return this.#opening.refusal
  }

  async #open(session: Session): Promise<ClavigerError | null> {
    const { connection, group, keys } = this.#parts
    try {
      const signature = asSignature(await keys.signer.sign(inviteSessionMessage(session, group, keys.id)))
      await connection.request('invite.open', { group, invite: keys.id, signature }, { ...this.#withSignal(), session: session.number })
      return null
    } catch (error) {
      if (hasCode(error, 'invite_spent', 'invite_expired', 'invite_invalid', 'not_a_member')) return error
      this.#opening = null
      throw error
    }
  }

  #withSignal(): Pick<RequestOptions, 'signal'> {
    const { signal } = this.#parts
    return signal === undefined ? {} : { signal }
  }
}
