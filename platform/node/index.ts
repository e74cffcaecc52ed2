/**
 * The public half of the crypto layer for Node: what a server loads.
 */
import { usePublicCrypto } from '../../shared/crypto/public-crypto.ts'
import { nodePublicCrypto } from './public-crypto.ts'

/** Makes this process hash and check signatures with node:crypto. */
export function useNodePublicCrypto(): void {
  usePublicCrypto(nodePublicCrypto)
}

export { nodePublicCrypto }
