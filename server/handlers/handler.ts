/** The shape of every request handler. */
import type { MethodName, Params, Result } from '../../shared/protocol/messages.ts'
import type { Peer } from '../peer.ts'
import type { Services } from '../services.ts'

/** What a handler has: the server’s parts and who asks. */
export interface Call {
  readonly services: Services
  readonly peer: Peer
}

/** Answers one method; its parameters have been checked by the method’s schema. */
export type Handler<M extends MethodName> = (call: Call, params: Params<M>) => Promise<Result<M>>

/** Handlers of some methods, by name. */
export type Handlers<M extends MethodName> = { readonly [Name in M]: Handler<Name> }
