/**
 * DEKs: making, committing to, and sealing them loose under an epoch. Secret side: never imported by the server.
 */
import { equalBytes } from '../bytes.ts'
import { context } from '../codec.ts'
import { openWithNonce, sealWithNonce, TAG_BYTES, XCHACHA_NONCE_BYTES } from '../crypto/aead.ts'
import { derive } from '../crypto/kdf.ts'
import type { Dek, EpochSecret } from '../crypto/keys.ts'
import { asDek, SYMMETRIC_KEY_BYTES } from '../crypto/keys.ts'
import { randomBytes } from '../crypto/public-crypto.ts'
import { ClavigerError } from '../errors.ts'
import type { GroupId, ObjectId } from '../ids.ts'

/** Bytes of a DEK sealed alone: nonce, key, tag. */
export const LOOSE_SEAL_BYTES = XCHACHA_NONCE_BYTES + SYMMETRIC_KEY_BYTES + TAG_BYTES

/** Names one DEK within a group. */
export interface DekName {
  readonly object: ObjectId
  readonly generation: number
}

/** Names one DEK everywhere: the context of whatever is derived from it. */
export interface DekContext extends DekName {
  readonly group: GroupId
}

/** The keys under which one epoch seals DEKs, derived once and used for all of them. */
export interface EpochSealKeys {
  readonly group: GroupId
  readonly epoch: number
  /** For loose DEKs. */
  readonly dek: Uint8Array
  /** For key pages. */
  readonly page: Uint8Array
}

/** Derives what an epoch seals DEKs with. */
export function epochSealKeys(secret: EpochSecret, of: { readonly group: GroupId; readonly epoch: number }): EpochSealKeys {
  const binding = context(of.group, of.epoch)
  return { group: of.group, epoch: of.epoch, dek: derive(secret, 'dek', binding), page: derive(secret, 'page', binding) }
}

/** A fresh DEK: one for every write, so that those somebody kept open nothing later. */
export function generateDek(): Dek {
  return asDek(randomBytes(SYMMETRIC_KEY_BYTES))
}

/** The 32-byte commitment to a DEK that stands in the signed header. */
export function dekCommitment(dek: Dek, of: DekContext): Uint8Array {
  return derive(dek, 'dek-commitment', dekBinding(of))
}

/**
 * Checks a DEK against the commitment in the header its author signed: AEADs do not commit to their key, so a seal can be
 * made that opens to different DEKs for different readers.
 *
 * @param header - the fields of a verified header.
 * @throws ClavigerError `dek_invalid`.
 */
export function checkDek(dek: Dek, header: DekContext & { readonly dekCommitment: Uint8Array | null }): void {
  const holds = header.dekCommitment !== null && equalBytes(dekCommitment(dek, header), header.dekCommitment)
  if (!holds) throw new ClavigerError('dek_invalid', undefined, { data: { object: header.object, generation: header.generation } })
}

/** The AES-256-GCM key of the one body a DEK encrypts. */
export function bodyKey(dek: Dek, of: DekContext): Uint8Array {
  return derive(dek, 'body', dekBinding(of))
}

/** The key of the sealed metadata in the header. */
export function metadataKey(dek: Dek, of: DekContext): Uint8Array {
  return derive(dek, 'object-metadata', dekBinding(of))
}

/** Seals a DEK alone. @returns {@link LOOSE_SEAL_BYTES} bytes. */
export function sealDek(keys: EpochSealKeys, name: DekName, dek: Dek): Uint8Array {
  return sealWithNonce(keys.dek, looseAad(keys, name), dek)
}

/** Opens a DEK sealed alone; the caller then calls {@link checkDek}. @throws ClavigerError `decryption_failed`. */
export function openDek(keys: EpochSealKeys, name: DekName, seal: Uint8Array): Dek {
  if (seal.length !== LOOSE_SEAL_BYTES) throw new ClavigerError('decryption_failed')
  return asDek(openWithNonce(keys.dek, looseAad(keys, name), seal))
}

/** Group, epoch, object and generation: a seal moved to another of any of them does not open. */
function looseAad(keys: EpochSealKeys, name: DekName): Uint8Array {
  return context('dek', keys.group, keys.epoch, name.object, name.generation)
}

function dekBinding(of: DekContext): Uint8Array {
  return context(of.group, of.object, of.generation)
}
