/**
 * HPKE base mode (RFC 9180) with HKDF-SHA256 and ChaCha20-Poly1305. Secret side: never imported by the server.
 *
 * Written for one message to many recipients: with a shared ephemeral key pair a recipient costs one DH,
 * six HMACs and one AEAD call. The exporter secret is derived only when something is exported.
 */
import { utf8ToBytes } from '@noble/hashes/utils.js'
import type { Kem, KemKeyPair, KemPrivateKey } from './kem.ts'
import type { KemPublicKey } from './keys.ts'
import type { LabeledKdf } from './hpke-labels.ts'
import type { KemId } from './suites.ts'
import { concat, u64, wipe } from '../bytes.ts'
import { openChaCha, sealChaCha } from './aead.ts'
import { NOTHING, labeledKdf, u16 } from './hpke-labels.ts'

/** RFC 9180 §7.2: HKDF-SHA256. */
const KDF_ID = 0x0001
/** RFC 9180 §7.3: ChaCha20-Poly1305. */
const AEAD_ID = 0x0003
/** RFC 9180 §5, Table 1: mode_base. */
const MODE_BASE = Uint8Array.of(0)
const KEY_BYTES = 32
const NONCE_BYTES = 12
const EXPORTER_BYTES = 32

/** An HPKE context after the key schedule (RFC 9180 §5.1). */
export interface HpkeContext {
  readonly kdf: LabeledKdf
  readonly key: Uint8Array
  readonly baseNonce: Uint8Array
  /** Derives the exporter secret, when asked. */
  readonly exporterSecret: () => Uint8Array
}

/** Who is to read, and what the context is bound to. */
export interface SenderParameters {
  readonly kem: Kem
  readonly recipientPublicKey: KemPublicKey
  /** Given: deterministic. Never share one between different messages. */
  readonly ephemeral?: KemKeyPair | undefined
  readonly info: Uint8Array
}

/** Who reads, and what the context is bound to. */
export interface RecipientParameters {
  readonly kem: Kem
  readonly privateKey: KemPrivateKey
  readonly enc: Uint8Array
  readonly info: Uint8Array
}

/** A single-shot message (RFC 9180 §6.1). */
export interface SealParameters extends SenderParameters {
  readonly aad: Uint8Array
  readonly plaintext: Uint8Array
}

/** A single-shot message to open (RFC 9180 §6.1). */
export interface OpenParameters extends RecipientParameters {
  readonly aad: Uint8Array
  readonly ciphertext: Uint8Array
}

/** What to derive from a context (RFC 9180 §5.3). */
export interface ExportParameters {
  readonly exporterContext: Uint8Array
  /** Bytes. */
  readonly length: number
}

/** Seals one message (RFC 9180 §6.1, SealBase). @returns `nEnc` bytes, and the plaintext's length + 16 bytes. */
export async function sealBase(parameters: SealParameters): Promise<{ enc: Uint8Array; ciphertext: Uint8Array }> {
  const { enc, context } = await setupBaseSender(parameters)
  try {
    return { enc, ciphertext: contextSeal(context, 0, parameters.aad, parameters.plaintext) }
  } finally {
    wipe(context.key)
  }
}

/** Opens one message (RFC 9180 §6.1, OpenBase). @throws ClavigerError `decryption_failed`, for any reason. */
export async function openBase(parameters: OpenParameters): Promise<Uint8Array> {
  const context = await setupBaseRecipient(parameters)
  try {
    return contextOpen(context, 0, parameters.aad, parameters.ciphertext)
  } finally {
    wipe(context.key)
  }
}

/** Sends a secret without a message (RFC 9180 §6.2, SendExportBase). */
export async function sendExportBase(parameters: SenderParameters & ExportParameters): Promise<{ enc: Uint8Array; secret: Uint8Array }> {
  const { enc, context } = await setupBaseSender(parameters)
  return { enc, secret: contextExport(context, parameters) }
}

/** Receives a secret without a message (RFC 9180 §6.2, ReceiveExportBase). */
export async function receiveExportBase(parameters: RecipientParameters & ExportParameters): Promise<Uint8Array> {
  return contextExport(await setupBaseRecipient(parameters), parameters)
}

/** RFC 9180 §5.1.1, SetupBaseS. */
export async function setupBaseSender(parameters: SenderParameters): Promise<{ enc: Uint8Array; context: HpkeContext }> {
  const { kem, recipientPublicKey, ephemeral, info } = parameters
  const { enc, sharedSecret } = await kem.encapsulate(recipientPublicKey, ephemeral)
  return { enc, context: keySchedule(kem.id, sharedSecret, info) }
}

/** RFC 9180 §5.1.1, SetupBaseR. @throws ClavigerError `decryption_failed` if `enc` is malformed. */
export async function setupBaseRecipient(parameters: RecipientParameters): Promise<HpkeContext> {
  const { kem, privateKey, enc, info } = parameters
  return keySchedule(kem.id, await privateKey.decapsulate(enc), info)
}

/** RFC 9180 §5.2, Context.Seal at a given sequence number; the caller never uses one twice. */
export function contextSeal(context: HpkeContext, sequence: number, aad: Uint8Array, plaintext: Uint8Array): Uint8Array {
  return sealChaCha(context.key, nonceAt(context.baseNonce, sequence), aad, plaintext)
}

/** RFC 9180 §5.2, Context.Open at a given sequence number. @throws ClavigerError `decryption_failed`. */
export function contextOpen(context: HpkeContext, sequence: number, aad: Uint8Array, ciphertext: Uint8Array): Uint8Array {
  return openChaCha(context.key, nonceAt(context.baseNonce, sequence), aad, ciphertext)
}

/** RFC 9180 §5.3, Context.Export. */
export function contextExport(context: HpkeContext, { exporterContext, length }: ExportParameters): Uint8Array {
  return context.kdf.expand(context.exporterSecret(), 'sec', exporterContext, length)
}

/** What the key schedule needs of a KEM: its labelled KDF, and the hash of the empty psk_id, the same for every message. */
interface Schedule {
  readonly kdf: LabeledKdf
  readonly pskIdHash: Uint8Array
}

const scheduleByKem = new Map<KemId, Schedule>()

function scheduleOf(kem: KemId): Schedule {
  const known = scheduleByKem.get(kem)
  if (known !== undefined) return known
  const kdf = labeledKdf(concat(utf8ToBytes('HPKE'), u16(kem), u16(KDF_ID), u16(AEAD_ID)))
  const schedule: Schedule = { kdf, pskIdHash: kdf.extract(NOTHING, 'psk_id_hash', NOTHING) }
  scheduleByKem.set(kem, schedule)
  return schedule
}

/** RFC 9180 §5.1, KeySchedule in base mode. Wipes `sharedSecret`. */
function keySchedule(kem: KemId, sharedSecret: Uint8Array, info: Uint8Array): HpkeContext {
  const { kdf, pskIdHash } = scheduleOf(kem)
  const context = concat(MODE_BASE, pskIdHash, kdf.extract(NOTHING, 'info_hash', info))
  const secret = kdf.extract(sharedSecret, 'secret', NOTHING)
  wipe(sharedSecret)
  return {
    kdf,
    key: kdf.expand(secret, 'key', context, KEY_BYTES),
    baseNonce: kdf.expand(secret, 'base_nonce', context, NONCE_BYTES),
    exporterSecret: () => kdf.expand(secret, 'exp', context, EXPORTER_BYTES),
  }
}

/** RFC 9180 §5.2, ComputeNonce. */
function nonceAt(baseNonce: Uint8Array, sequence: number): Uint8Array {
  if (sequence === 0) return baseNonce
  const nonce = Uint8Array.from(baseNonce)
  const counter = u64(sequence)
  for (let index = 0; index < counter.length; index += 1) {
    const at = NONCE_BYTES - counter.length + index
    nonce[at] = (nonce[at] ?? 0) ^ (counter[index] ?? 0)
  }
  return nonce
}
