/**
 * Every crypto backend this machine can run: the same suites are run over each of them.
 */
import type { PublicCrypto } from '../../../shared/crypto/public-crypto.ts'
import type { SecretCrypto } from '../../../shared/crypto/secret-crypto.ts'
import { nodePublicCrypto } from '../../../platform/node/index.ts'
import { nodeSecretCrypto } from '../../../platform/node/secret.ts'
import { noblePublicCrypto } from '../../../shared/crypto/noble-public-crypto.ts'
import { nobleSecretCrypto } from '../../../shared/crypto/noble-secret-crypto.ts'
import { usePublicCrypto } from '../../../shared/crypto/public-crypto.ts'
import { useSecretCrypto } from '../../../shared/crypto/secret-crypto.ts'

/** Both halves of one platform's backend. */
export interface Backend {
  readonly name: string
  readonly publicCrypto: PublicCrypto
  readonly secretCrypto: SecretCrypto
}

/** A new backend is a new row. */
export const BACKENDS: readonly Backend[] = [
  { name: 'noble', publicCrypto: noblePublicCrypto, secretCrypto: nobleSecretCrypto },
  { name: 'node', publicCrypto: nodePublicCrypto, secretCrypto: nodeSecretCrypto },
]

/** Installs both halves. */
export function useBackend(backend: Backend): void {
  usePublicCrypto(backend.publicCrypto)
  useSecretCrypto(backend.secretCrypto)
}
