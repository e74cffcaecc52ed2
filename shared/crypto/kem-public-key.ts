/**
 * Which KEM public keys may be enrolled: public side, because the server's fold judges them as well.
 */
import type { KemId } from './suites.ts'
import { ClavigerError } from '../errors.ts'
import { KEM_DHKEM_X25519 } from './suites.ts'
import { isSoundX25519Key } from './x25519-key.ts'

const IS_SOUND_BY_KEM = {
  [KEM_DHKEM_X25519]: isSoundX25519Key,
} as const satisfies Record<KemId, (publicKey: Uint8Array) => boolean>

/**
 * Checks a KEM public key at enrolment: length, canonical form, order.
 *
 * @param kem - the KEM of the group's suite, `SUITES[suite].kem`.
 * @throws ClavigerError `invalid_key`.
 */
export function assertKemPublicKey(kem: KemId, publicKey: Uint8Array): void {
  if (!IS_SOUND_BY_KEM[kem](publicKey)) throw new ClavigerError('invalid_key')
}
