/**
 * A second HPKE implementation (the `hpke` package over WebCrypto) to compare ours with.
 *
 * Node 20 has no ChaCha20-Poly1305 in WebCrypto, so the package is given one.
 */
import type { AEAD } from 'hpke'
import { chacha20poly1305 } from '@noble/ciphers/chacha.js'
import * as hpke from 'hpke'

const chaCha20Poly1305 = (): AEAD => ({
  id: 0x0003,
  type: 'AEAD',
  name: 'ChaCha20Poly1305',
  Nk: 32,
  Nn: 12,
  Nt: 16,
  Seal: async (key, nonce, aad, plaintext) => chacha20poly1305(key, nonce, aad).encrypt(plaintext),
  Open: async (key, nonce, aad, ciphertext) => chacha20poly1305(key, nonce, aad).decrypt(ciphertext),
})

/** Suite 1 of the other implementation. */
export const hpkeOracle = new hpke.CipherSuite(hpke.KEM_DHKEM_X25519_HKDF_SHA256, hpke.KDF_HKDF_SHA256, chaCha20Poly1305)
