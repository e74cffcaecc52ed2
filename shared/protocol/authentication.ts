/** What a client signs to open a session. */
import { concat } from '../bytes.ts'
import { context } from '../codec.ts'
import type { IdentityId } from '../ids.ts'
import { labelled } from '../crypto/labels.ts'

/** A session before it is open. */
export interface AuthenticationClaim {
  /** The server’s 32 random bytes. */
  readonly nonce: Uint8Array
  /** The authority the client dialled (`example.org`, `127.0.0.1:8787`), so that a server cannot pass the signature on to another. */
  readonly host: string
  readonly identity: IdentityId
}

/** The message signed by the newest card’s signing key: `labelled('authenticate') ‖ CBOR[nonce, host, identity]`. */
export function authenticationMessage({ nonce, host, identity }: AuthenticationClaim): Uint8Array {
  return concat(labelled('authenticate'), context(nonce, host, identity))
}
