/**
 * Sealing and opening key pages: up to 256 DEKs in one AEAD call. Secret side: never imported by the server.
 */
import { context } from '../codec.ts'
import { openWithNonce, sealWithNonce, TAG_BYTES, XCHACHA_NONCE_BYTES } from '../crypto/aead.ts'
import type { Dek } from '../crypto/keys.ts'
import { asDek, SYMMETRIC_KEY_BYTES } from '../crypto/keys.ts'
import { ClavigerError } from '../errors.ts'
import type { PageId } from '../ids.ts'
import type { EpochSealKeys } from './dek.ts'
import { checkDek } from './dek.ts'
import type { SignedHeader } from './header.ts'
import { checkEntries, vouchedIndex } from './page.ts'

/** A page that has been opened. */
export interface OpenedPage {
  readonly pageId: PageId
  /** Packed, sorted: see `page.ts`. */
  readonly entries: Uint8Array
  /** The DEKs in the order of the entries, 32 bytes each. */
  readonly deks: Uint8Array
}

/**
 * Seals a page under the epoch of `keys`; page id and entries are authenticated.
 *
 * @param page - `deks` has 32 bytes for each entry.
 * @returns nonce ‖ ciphertext ‖ tag, or nothing for an empty page.
 */
export function sealPage(keys: EpochSealKeys, page: OpenedPage): Uint8Array {
  const count = checkEntries(page.entries)
  if (page.deks.length !== count * SYMMETRIC_KEY_BYTES)
    throw new TypeError(`deks must be ${count * SYMMETRIC_KEY_BYTES} bytes, got ${page.deks.length}`)
  if (count === 0) return new Uint8Array(0)
  return sealWithNonce(keys.page, pageAad(keys, page), page.deks)
}

/**
 * Opens a page.
 *
 * @throws ClavigerError `decryption_failed`; `malformed` or `limit_exceeded` for entries that are no page’s.
 */
export function openPage(
  keys: EpochSealKeys,
  page: { readonly pageId: PageId; readonly entries: Uint8Array; readonly sealed: Uint8Array },
): OpenedPage {
  const { pageId, entries, sealed } = page
  const count = checkEntries(entries)
  if (sealed.length !== sealedPageBytes(count)) throw new ClavigerError('decryption_failed')
  const deks = count === 0 ? new Uint8Array(0) : openWithNonce(keys.page, pageAad(keys, page), sealed)
  return { pageId, entries, deks }
}

/** Bytes of the seal of a page with `count` DEKs. */
export function sealedPageBytes(count: number): number {
  return count === 0 ? 0 : XCHACHA_NONCE_BYTES + count * SYMMETRIC_KEY_BYTES + TAG_BYTES
}

/** A copy of the DEK at `index`. */
export function dekAt(page: OpenedPage, index: number): Dek {
  return asDek(page.deks.slice(index * SYMMETRIC_KEY_BYTES, (index + 1) * SYMMETRIC_KEY_BYTES))
}

/**
 * The DEK of a verified header from a page that vouches for exactly that header.
 *
 * @throws ClavigerError `page_invalid` or `dek_invalid`.
 */
export function dekForHeader(page: OpenedPage, signed: SignedHeader): Dek {
  const dek = dekAt(page, vouchedIndex(page.entries, signed))
  checkDek(dek, signed.header)
  return dek
}

/** Whatever a page says in the clear is authenticated with its DEKs. */
function pageAad(keys: EpochSealKeys, page: { readonly pageId: PageId; readonly entries: Uint8Array }): Uint8Array {
  return context('page', keys.group, page.pageId, keys.epoch, page.entries)
}
