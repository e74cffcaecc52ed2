/**
 * The secret half of the crypto layer for Node: apart from `index.ts`, so that a server never loads it.
 */
import { useSecretCrypto } from '../../shared/crypto/secret-crypto.ts'
import { nodeSecretCrypto } from './secret-crypto.ts'

/** Makes this process sign, agree on keys, seal and open with node:crypto. */
export function useNodeSecretCrypto(): void {
  useSecretCrypto(nodeSecretCrypto)
}

export { nodeSecretCrypto }
