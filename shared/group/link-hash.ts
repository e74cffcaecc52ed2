/** How a commit names the link that travels beside it; public, so that the server can compare. */
import { hashLabelled } from '../crypto/public-crypto.ts'

/** The hash of a link’s bytes: 32 bytes. */
export function linkHash(link: Uint8Array): Uint8Array {
  return hashLabelled('link-hash', link)
}
