/**
 * Epoch secrets: made, committed to, wrapped to recipients, linked to their predecessors. Secret side.
 *
 * Wraps are derandomised (encrypt-with-hash, Bellare, Boldyreva, O’Neill 2007): the encapsulation randomness comes from the
 * epoch secret itself, so whoever holds it can compute, and so check and heal, everybody’s wrap. In suite 1 one
 * ephemeral key pair serves all recipients of an epoch (multi-recipient randomness re-use, Bellare, Boldyreva, Staddon
 * 2003). docs/adr/0002 has the argument.
 */
import { concat, equalBytes } from '../bytes.ts'
import { context } from '../codec.ts'
import { openXChaCha, sealXChaCha, XCHACHA_NONCE_BYTES } from '../crypto/aead.ts'
import { openBase, sealBase } from '../crypto/hpke.ts'
import { derive } from '../crypto/kdf.ts'
import type { Kem, KemKeyPair, KemPrivateKey } from '../crypto/kem.ts'
import { KEMS } from '../crypto/kem.ts'
import type { EpochSecret, KemKeyId, KemPublicKey } from '../crypto/keys.ts'
import { asEpochSecret, kemKeyId, SYMMETRIC_KEY_BYTES } from '../crypto/keys.ts'
import { labelled } from '../crypto/labels.ts'
import { randomBytes } from '../crypto/public-crypto.ts'
import type { SuiteId } from '../crypto/suites.ts'
import { SUITES } from '../crypto/suites.ts'
import { ClavigerError, hasCode } from '../errors.ts'
import type { CommitHash, GroupId } from '../ids.ts'
import type { Recipient } from './roster.ts'

/** What a wrap is bound to: the epoch, and the commit that opened it by number and parent. */
export interface EpochContext {
  readonly suite: SuiteId
  readonly group: GroupId
  readonly epoch: number
  readonly seq: number
  readonly parent: CommitHash | null
  readonly commitment: Uint8Array
}

/** The public facts of a new secret that stand in the signed `rekey`. */
export interface EpochPublic {
  readonly commitment: Uint8Array
  readonly depositKey: KemPublicKey
}

/** A fresh secret, never derived from an earlier one. */
export function generateEpochSecret(): EpochSecret {
  return asEpochSecret(randomBytes(SYMMETRIC_KEY_BYTES))
}

/** Commits to the secret of `epoch`: 32 bytes. Its context is the number alone, because it stands inside the genesis. */
export function epochCommitment(secret: EpochSecret, epoch: number): Uint8Array {
  return derive(secret, 'epoch-commitment', context(epoch))
}

/** The key pair that deposits of this epoch are encapsulated to. */
export async function depositKeyPair(secret: EpochSecret, { suite, epoch }: Pick<EpochContext, 'suite' | 'epoch'>): Promise<KemKeyPair> {
  return kemOf(suite).deriveKeyPair(derive(secret, 'deposit', context(epoch)))
}

/** What goes into the `rekey` of the commit that opens `epoch`. */
export async function epochPublic(secret: EpochSecret, at: Pick<EpochContext, 'suite' | 'epoch'>): Promise<EpochPublic> {
  const { publicKey } = await depositKeyPair(secret, at)
  return { commitment: epochCommitment(secret, at.epoch), depositKey: publicKey }
}

/** @throws ClavigerError `wrap_invalid` unless `secret` is the one the commit committed to: AEADs do not commit to their key. */
export function assertEpochSecret(secret: EpochSecret, { epoch, commitment }: Pick<EpochContext, 'epoch' | 'commitment'>): void {
  if (!equalBytes(epochCommitment(secret, epoch), commitment)) throw new ClavigerError('wrap_invalid')
}

/** The shared encapsulation of an epoch, and one wrap for each recipient in order; null where sealing failed. */
export interface SealedEpoch {
  readonly enc: Uint8Array
  readonly wraps: readonly (Uint8Array | null)[]
}

/**
 * Wraps an epoch secret for every recipient.
 *
 * @param recipients - from the verified roster, in its order.
 * @returns one 48-byte wrap each (suite 1). A recipient whose key cannot be sealed to gets null: one bad key must not
 * block a removal, the planner takes it out in the same commit.
 */
export async function wrapEpochSecret(secret: EpochSecret, at: EpochContext, recipients: readonly Recipient[]): Promise<SealedEpoch> {
  const wrapper = await epochWrapper(secret, at)
  const wraps: (Uint8Array | null)[] = []
  for (const recipient of recipients) wraps.push(await sealOrNull(wrapper, recipient))
  return { enc: wrapper.ephemeral.publicKey, wraps }
}

/** A wrap that carries its own encapsulation (80 bytes in suite 1): what heals a missing or bad one. */
export async function wrapAlone(
  secret: EpochSecret,
  at: EpochContext,
  recipient: Pick<Recipient, 'kemKey' | 'kemKeyId'>,
): Promise<Uint8Array> {
  const wrapper = await epochWrapper(secret, at)
  return concat(wrapper.ephemeral.publicKey, await sealTo(wrapper, recipient))
}

/** A wrap as it is stored, with the epoch’s shared encapsulation. */
export interface StoredWrap {
  readonly enc: Uint8Array
  readonly wrap: Uint8Array
}

/**
 * Opens one’s own wrap and checks the commitment.
 *
 * @throws ClavigerError `wrap_invalid`, whatever is wrong with it; and whatever keeps the private key from answering, such as a
 * key agent that is locked: that says nothing about the wrap.
 */
export async function unwrapEpochSecret(privateKey: KemPrivateKey, at: EpochContext, stored: StoredWrap): Promise<EpochSecret> {
  const secret = await openWrap(privateKey, at, splitWrap(at.suite, stored))
  assertEpochSecret(secret, at)
  return secret
}

/** Whether a stored wrap is the one that the holder of `secret` would make; false too for a key that cannot be sealed to. */
export async function isGoodWrap(
  secret: EpochSecret,
  at: EpochContext,
  { recipient, stored }: { recipient: Pick<Recipient, 'kemKey' | 'kemKeyId'>; stored: StoredWrap },
): Promise<boolean> {
  const split = splitWrap(at.suite, stored)
  const wrapper = await epochWrapper(secret, at)
  const good = await sealOrNull(wrapper, recipient)
  return good !== null && equalBytes(split.enc, wrapper.ephemeral.publicKey) && equalBytes(split.wrap, good)
}

/** Two epochs of one group, the newer first. */
export interface LinkContext {
  readonly group: GroupId
  readonly epoch: number
  readonly to: number
}

/** Bytes of a link: an epoch secret and its tag. */
export const LINK_BYTES = 48

/**
 * Seals an older epoch secret under a newer one: 48 bytes.
 *
 * The key is derived for this pair of epochs and used once, so the nonce is zero and every holder of both makes the same bytes.
 */
export function sealLink(newer: EpochSecret, older: EpochSecret, at: LinkContext): Uint8Array {
  return sealXChaCha(linkKey(newer, at), ZERO_NONCE, linkAad(at), older)
}

/** @throws ClavigerError `decryption_failed`. The caller compares the secret with its epoch’s commitment. */
export function openLink(newer: EpochSecret, link: Uint8Array, at: LinkContext): EpochSecret {
  if (link.length !== LINK_BYTES) throw new ClavigerError('decryption_failed')
  return asEpochSecret(openXChaCha(linkKey(newer, at), ZERO_NONCE, linkAad(at), link))
}

const ZERO_NONCE = new Uint8Array(XCHACHA_NONCE_BYTES)

function linkKey(newer: EpochSecret, { group, epoch, to }: LinkContext): Uint8Array {
  return derive(newer, 'link', context(group, epoch, to))
}

function linkAad({ group, epoch, to }: LinkContext): Uint8Array {
  return context('link', group, epoch, to)
}

/** All that is the same for every recipient of one epoch. */
interface EpochWrapper {
  readonly secret: EpochSecret
  readonly kem: Kem
  readonly ephemeral: KemKeyPair
  readonly aad: Uint8Array
}

async function epochWrapper(secret: EpochSecret, at: EpochContext): Promise<EpochWrapper> {
  const kem = kemOf(at.suite)
  const aad = wrapAad(at)
  return { secret, kem, aad, ephemeral: await kem.deriveKeyPair(derive(secret, 'wrap', aad)) }
}

async function sealTo(
  { secret, kem, ephemeral, aad }: EpochWrapper,
  recipient: Pick<Recipient, 'kemKey' | 'kemKeyId'>,
): Promise<Uint8Array> {
  const info = wrapInfo(recipient.kemKeyId)
  const { ciphertext } = await sealBase({ kem, recipientPublicKey: recipient.kemKey, ephemeral, info, aad, plaintext: secret })
  return ciphertext
}

async function sealOrNull(wrapper: EpochWrapper, recipient: Pick<Recipient, 'kemKey' | 'kemKeyId'>): Promise<Uint8Array | null> {
  try {
    return await sealTo(wrapper, recipient)
  } catch {
    // A key that slipped past enrolment: reported to the planner by the null.
    return null
  }
}

async function openWrap(privateKey: KemPrivateKey, at: EpochContext, { enc, wrap }: StoredWrap): Promise<EpochSecret> {
  const { nEnc, wrapBytes } = SUITES[at.suite]
  if (enc.length !== nEnc || wrap.length !== wrapBytes) throw new ClavigerError('wrap_invalid')
  try {
    const info = wrapInfo(kemKeyId(privateKey.publicKey))
    return asEpochSecret(await openBase({ kem: kemOf(at.suite), privateKey, enc, info, aad: wrapAad(at), ciphertext: wrap }))
  } catch (error) {
    throw hasCode(error, 'decryption_failed', 'invalid_key') ? new ClavigerError('wrap_invalid') : error
  }
}

/** A healed wrap brings its own encapsulation in front. */
function splitWrap(suite: SuiteId, { enc, wrap }: StoredWrap): StoredWrap {
  const { nEnc, wrapBytes } = SUITES[suite]
  if (wrap.length === nEnc + wrapBytes) return { enc: wrap.subarray(0, nEnc), wrap: wrap.subarray(nEnc) }
  return { enc, wrap }
}

function wrapInfo(recipient: KemKeyId): Uint8Array {
  return concat(labelled('wrap'), recipient)
}

function wrapAad({ group, epoch, seq, parent, commitment }: EpochContext): Uint8Array {
  return context(group, epoch, seq, parent, commitment)
}

function kemOf(suite: SuiteId): Kem {
  return KEMS[SUITES[suite].kem]
}
