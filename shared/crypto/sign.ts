/**
 * Making Ed25519 signatures from a seed in memory. Secret side: never imported by the server.
 */
import type { Signature } from './keys.ts'
import type { Signer } from './signature.ts'
import { isBytes } from '../bytes.ts'
import { SIGNING_KEY_BYTES, asSignature, asSigningPublicKey } from './keys.ts'
import { secretCrypto } from './secret-crypto.ts'

/**
 * Signs a message (RFC 8032 §5.1.6).
 *
 * @param seed - 32-byte private key.
 * @param message - starts with `labelled(…)`.
 */
export async function signMessage(seed: Uint8Array, message: Uint8Array): Promise<Signature> {
  assertSeed(seed)
  return asSignature(await secretCrypto().signEd25519(seed, message))
}

/**
 * A signer that keeps its seed in memory.
 *
 * @param seed - 32-byte private key; copied.
 */
export async function signerFromSeed(seed: Uint8Array): Promise<Signer> {
  assertSeed(seed)
  const ownSeed = Uint8Array.from(seed)
  const publicKey = asSigningPublicKey(await secretCrypto().ed25519PublicKey(ownSeed))
  return { publicKey, sign: (message) => signMessage(ownSeed, message) }
}

function assertSeed(seed: Uint8Array): void {
  if (!isBytes(seed, SIGNING_KEY_BYTES)) throw new TypeError(`seed must be ${SIGNING_KEY_BYTES} bytes`)
}
