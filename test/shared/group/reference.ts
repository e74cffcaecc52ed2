/**
 * The group formats a second time, plain and slow, sharing no code with `shared/`: HPKE on node:crypto, CBOR by hand.
 * The vectors in test/vectors/group are what this file and `reference-story.ts` make.
 */
import { createCipheriv, createHash, createHmac, createPrivateKey, createPublicKey, diffieHellman } from 'node:crypto'
import { xchacha20poly1305 } from '@noble/ciphers/chacha.js'
import type { Value } from '../objects/reference.ts'
import { cbor, derive, hash, join, publicKeyOf, signature } from '../objects/reference.ts'

export type Fields = { readonly [key: string]: Value }

/** An X25519 key pair. */
export interface KemKeys {
  readonly secretKey: Uint8Array
  readonly publicKey: Uint8Array
}

const ascii = (text: string): Uint8Array => new Uint8Array(Buffer.from(text))
const NOTHING = new Uint8Array(0)
/** RFC 9180 §4.1: "KEM" ‖ 0x0020, and §5.1: "HPKE" ‖ 0x0020 ‖ 0x0001 ‖ 0x0003. */
const KEM_SUITE = join(ascii('KEM'), Uint8Array.of(0, 0x20))
const HPKE_SUITE = join(ascii('HPKE'), Uint8Array.of(0, 0x20, 0, 1, 0, 3))

const hmac = (key: Uint8Array, ...parts: readonly Uint8Array[]): Uint8Array =>
  new Uint8Array(
    createHmac('sha256', key)
      .update(join(...parts))
      .digest(),
  )

function extract(suite: Uint8Array, salt: Uint8Array, label: string, input: Uint8Array): Uint8Array {
  return hmac(salt.length === 0 ? new Uint8Array(32) : salt, ascii('HPKE-v1'), suite, ascii(label), input)
}

/** For at most 32 bytes. */
function expand(suite: Uint8Array, key: Uint8Array, label: string, info: Uint8Array, length: number): Uint8Array {
  return hmac(key, Uint8Array.of(0, length), ascii('HPKE-v1'), suite, ascii(label), info, Uint8Array.of(1)).subarray(0, length)
}

const privateKey = (secretKey: Uint8Array): ReturnType<typeof createPrivateKey> =>
  createPrivateKey({
    key: Buffer.concat([Buffer.from('302e020100300506032b656e04220420', 'hex'), secretKey]),
    format: 'der',
    type: 'pkcs8',
  })
const publicKey = (bytes: Uint8Array): ReturnType<typeof createPublicKey> =>
  createPublicKey({ key: Buffer.concat([Buffer.from('302a300506032b656e032100', 'hex'), bytes]), format: 'der', type: 'spki' })

/** RFC 9180 §7.1.3, DeriveKeyPair. */
export function kemKeys(input: Uint8Array): KemKeys {
  const secretKey = expand(KEM_SUITE, extract(KEM_SUITE, NOTHING, 'dkp_prk', input), 'sk', NOTHING, 32)
  const bytes = createPublicKey(privateKey(secretKey)).export({ format: 'der', type: 'spki' }).subarray(-32)
  return { secretKey, publicKey: new Uint8Array(bytes) }
}

/** RFC 9180 §6.1, SealBase with a given ephemeral key pair; without `enc`. */
export function hpkeSeal(
  recipient: Uint8Array,
  ephemeral: KemKeys,
  { info, aad, plain }: { info: Uint8Array; aad: Uint8Array; plain: Uint8Array },
): Uint8Array {
  const dh = new Uint8Array(diffieHellman({ privateKey: privateKey(ephemeral.secretKey), publicKey: publicKey(recipient) }))
  const shared = expand(KEM_SUITE, extract(KEM_SUITE, NOTHING, 'eae_prk', dh), 'shared_secret', join(ephemeral.publicKey, recipient), 32)
  const context = join(
    Uint8Array.of(0),
    extract(HPKE_SUITE, NOTHING, 'psk_id_hash', NOTHING),
    extract(HPKE_SUITE, NOTHING, 'info_hash', info),
  )
  const secret = extract(HPKE_SUITE, shared, 'secret', NOTHING)
  const cipher = createCipheriv(
    'chacha20-poly1305',
    expand(HPKE_SUITE, secret, 'key', context, 32),
    expand(HPKE_SUITE, secret, 'base_nonce', context, 12),
    { authTagLength: 16 },
  )
  cipher.setAAD(aad, { plaintextLength: plain.length })
  return join(cipher.update(plain), cipher.final(), cipher.getAuthTag())
}

/** Somebody’s keys and first card. */
export interface Character {
  readonly seed: Uint8Array
  readonly kemSeed: Uint8Array
  readonly signingKey: Uint8Array
  readonly kem: KemKeys
  readonly id: Uint8Array
  readonly cards: readonly Uint8Array[]
}

export function character(seed: Uint8Array, kemSeed: Uint8Array): Character {
  const [signingKey, kem] = [publicKeyOf(seed), kemKeys(kemSeed)]
  const card = cbor({ v: 1, revision: 0, parent: null, signingKey, kemKey: kem.publicKey })
  return {
    seed,
    kemSeed,
    signingKey,
    kem,
    id: hash('identity-id', card),
    cards: [cbor({ card, signatures: [signature(seed, 'card', card)] })],
  }
}

/** The invite behind a token’s secret. */
export function inviteKeys(secret: Uint8Array): Character {
  const seed = derive(secret, 'invite-signing')
  const kemSeed = derive(secret, 'invite-kem', 1)
  const signingKey = publicKeyOf(seed)
  return { seed, kemSeed, signingKey, kem: kemKeys(kemSeed), id: hash('invite-id', signingKey), cards: [] }
}

/** A signed commit. */
export function commit(payload: Uint8Array, seeds: readonly Uint8Array[]): { readonly bytes: Uint8Array; readonly hash: Uint8Array } {
  const signatures = seeds.map((seed) => signature(seed, 'commit', payload))
  return { bytes: cbor({ payload, signatures }), hash: hash('commit-hash', payload, ...signatures) }
}

/** The roster as its bytes are, field by field. */
export interface PlainRoster {
  readonly v: 1
  readonly suite: 1
  readonly seq: number
  readonly epoch: number
  readonly rekeyOwed: boolean
  readonly retiredThrough: number
  readonly logTime: number
  readonly members: readonly Fields[]
  readonly invites: readonly Fields[]
  readonly epochs: readonly Fields[]
  readonly history: { readonly size: number; readonly peaks: readonly Uint8Array[] }
}

export function rosterBytes(roster: PlainRoster): Uint8Array {
  return cbor({ ...roster })
}

export function rosterHash(roster: PlainRoster, commits: readonly Uint8Array[]): Uint8Array {
  const list = (entries: readonly Fields[]): Uint8Array =>
    new Uint8Array(
      createHash('sha256')
        .update(join(...entries.map((entry) => hash('roster-entry', cbor(entry)))))
        .digest(),
    )
  const { v, suite, seq, epoch, rekeyOwed, retiredThrough, logTime, members, invites, epochs } = roster
  return hash(
    'roster',
    cbor([v, suite, seq, epoch, rekeyOwed, retiredThrough, logTime, list(members), list(invites), list(epochs), seq, historyRoot(commits)]),
  )
}

/** RFC 9162 §2.1.1. */
export function historyRoot(commits: readonly Uint8Array[]): Uint8Array {
  const [first] = commits
  if (first === undefined) return new Uint8Array(32)
  if (commits.length === 1) return hash('history-leaf', first)
  const split = splitOf(commits.length)
  return hash('history-node', historyRoot(commits.slice(0, split)), historyRoot(commits.slice(split)))
}

/** The roots of the perfect subtrees, the largest first. */
export function peaks(commits: readonly Uint8Array[]): Uint8Array[] {
  if (commits.length === 0) return []
  const size = 2 ** Math.floor(Math.log2(commits.length))
  return [historyRoot(commits.slice(0, size)), ...peaks(commits.slice(size))]
}

/** RFC 9162 §2.1.3.1: PATH. */
export function inclusion(index: number, commits: readonly Uint8Array[]): Uint8Array[] {
  if (commits.length === 1) return []
  const split = splitOf(commits.length)
  const [left, right] = [commits.slice(0, split), commits.slice(split)]
  return index < split ? [...inclusion(index, left), historyRoot(right)] : [...inclusion(index - split, right), historyRoot(left)]
}

/** RFC 9162 §2.1.4.1: SUBPROOF. */
export function consistency(size: number, commits: readonly Uint8Array[], whole = true): Uint8Array[] {
  if (size === commits.length) return whole ? [] : [historyRoot(commits)]
  const split = splitOf(commits.length)
  const [left, right] = [commits.slice(0, split), commits.slice(split)]
  return size <= split
    ? [...consistency(size, left, whole), historyRoot(right)]
    : [...consistency(size - split, right, false), historyRoot(left)]
}

const splitOf = (size: number): number => 2 ** Math.floor(Math.log2(size - 1))

/** What a wrap is bound to. */
export interface EpochFacts {
  readonly group: Uint8Array
  readonly epoch: number
  readonly seq: number
  readonly parent: Uint8Array | null
}

/** All that a holder of an epoch secret derives. */
export function epochOf(secret: Uint8Array, { group, epoch, seq, parent }: EpochFacts) {
  const commitment = derive(secret, 'epoch-commitment', epoch)
  const ephemeral = kemKeys(derive(secret, 'wrap', group, epoch, seq, parent, commitment))
  const aad = cbor([group, epoch, seq, parent, commitment])
  const wrapFor = (recipient: Uint8Array): Uint8Array =>
    hpkeSeal(recipient, ephemeral, { info: join(ascii('claviger/1 wrap\0'), hash('kem-key-id', recipient)), aad, plain: secret })
  return { commitment, depositKey: kemKeys(derive(secret, 'deposit', epoch)).publicKey, enc: ephemeral.publicKey, wrapFor }
}

/** 48 bytes. */
export function link(
  newer: Uint8Array,
  older: Uint8Array,
  { group, epoch, to }: { group: Uint8Array; epoch: number; to: number },
): Uint8Array {
  return xchacha20poly1305(derive(newer, 'link', group, epoch, to), new Uint8Array(24), cbor(['link', group, epoch, to])).encrypt(older)
}
