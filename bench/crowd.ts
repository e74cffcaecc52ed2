/** Groups of many members, made without a server, and kept in files so that a fresh process starts from a stored state. */
import { readFile, writeFile } from 'node:fs/promises'
import { deserialize, serialize } from 'node:v8'
import { useNodePublicCrypto } from '../platform/node/index.ts'
import { useNodeSecretCrypto } from '../platform/node/secret.ts'
import type { SecretSource, SealedCommit } from '../client/committer.ts'
import { sealCommit } from '../client/committer.ts'
import { asEpochSecret } from '../shared/crypto/keys.ts'
import type { EpochSecret } from '../shared/crypto/keys.ts'
import type { KemPrivateKey } from '../shared/crypto/kem.ts'
import { KEMS, kemPrivateKeyFromSeed } from '../shared/crypto/kem.ts'
import { randomBytes } from '../shared/crypto/public-crypto.ts'
import { signerFromSeed } from '../shared/crypto/sign.ts'
import type { Signer } from '../shared/crypto/signature.ts'
import { SUITES } from '../shared/crypto/suites.ts'
import { createCard, decodeCards } from '../shared/group/card.ts'
import type { Op } from '../shared/group/commit.ts'
import { epochPublic, generateEpochSecret } from '../shared/group/epoch.ts'
import type { GroupState } from '../shared/group/fold.ts'
import { foldCommit } from '../shared/group/fold.ts'
import { planCommit, signCommit } from '../shared/group/plan-commit.ts'
import { decodeRoster, encodeRoster } from '../shared/group/roster.ts'
import type { IdentityId } from '../shared/ids.ts'
import { asCommitHash, asGroupId } from '../shared/ids.ts'

/** Somebody with keys. */
export interface Person {
  readonly seed: Uint8Array
  readonly id: IdentityId
  readonly cards: readonly Uint8Array[]
  readonly signer: Signer
  readonly kem: KemPrivateKey
}

/** A group as its admin sees it. */
export interface Crowd {
  readonly admin: Pick<Person, 'signer'>
  readonly state: GroupState
  readonly secret: EpochSecret
}

const START_MS = 1_700_000_000_000
const ADDS_PER_COMMIT = 256

/** What a client on Node does when it is loaded. */
export function useNodeCrypto(): void {
  useNodePublicCrypto()
  useNodeSecretCrypto()
}

/** One seed serves both keys: nobody has to keep these secret. */
export async function person(seed: Uint8Array = randomBytes(32)): Promise<Person> {
  const signer = await signerFromSeed(seed)
  const kem = await kemPrivateKeyFromSeed(KEMS[SUITES[1].kem], seed)
  const cards = [await createCard({ signer, kemKey: kem.publicKey })]
  return { seed, id: decodeCards(cards).identity, cards, signer, kem }
}

/** Somebody’s keys after a restart. */
export async function personKeys(seed: Uint8Array): Promise<Pick<Person, 'signer' | 'kem'>> {
  return { signer: await signerFromSeed(seed), kem: await kemPrivateKeyFromSeed(KEMS[SUITES[1].kem], seed) }
}

/** A group and who is in it. */
export interface MadeCrowd {
  readonly crowd: Crowd
  readonly admin: Person
  /** All but the admin. */
  readonly people: readonly Person[]
  /** Of every commit. */
  readonly hashes: readonly Uint8Array[]
}

/** A group of `members` people, its admin included. */
export async function makeCrowd(members: number): Promise<MadeCrowd> {
  const admin = await person()
  const people: Person[] = []
  while (people.length < members - 1) people.push(await person())
  let crowd = await createCrowd(admin)
  const hashes: Uint8Array[] = [crowd.state.head.hash]
  for (let from = 0; from < people.length; from += ADDS_PER_COMMIT) {
    const ops = people.slice(from, from + ADDS_PER_COMMIT).map(({ cards }): Op => ({ type: 'add', role: 'member', cards: [...cards] }))
    crowd = (await commitTo(crowd, { ops, rekey: false })).crowd
    hashes.push(crowd.state.head.hash)
  }
  return { crowd, admin, people, hashes }
}

async function createCrowd(admin: Person): Promise<Crowd> {
  const secret = generateEpochSecret()
  const rekey = { ...(await epochPublic(secret, { suite: 1, epoch: 0 })), link: null }
  const { payload } = planCommit(null, admin.signer, { time: START_MS, ops: [{ type: 'create', cards: [...admin.cards] }], rekey })
  return { admin, secret, state: foldCommit(null, await signCommit(payload, [admin.signer])).state }
}

/** Plans, seals and signs what the client would send. */
export function sealFor(crowd: Crowd, intent: { readonly ops: readonly Op[]; readonly rekey: boolean }): Promise<SealedCommit> {
  const { admin, state, secret } = crowd
  const secrets: SecretSource = { secretOf: async () => secret, linkFrom: async () => ({ epoch: state.roster.epoch, secret }) }
  return sealCommit(state, { ...intent, time: state.roster.logTime + 1000, signers: [admin.signer], group: state.group }, secrets)
}

/** The group after one more commit. */
export async function commitTo(
  crowd: Crowd,
  intent: { readonly ops: readonly Op[]; readonly rekey: boolean },
): Promise<{ readonly crowd: Crowd; readonly sealed: SealedCommit }> {
  const sealed = await sealFor(crowd, intent)
  const { state } = foldCommit(crowd.state, sealed.commit)
  return { sealed, crowd: { ...crowd, state, secret: sealed.secret ?? crowd.secret } }
}

/** A state as a store keeps it. */
export interface SavedState {
  readonly group: Uint8Array
  readonly seq: number
  readonly hash: Uint8Array
  readonly roster: Uint8Array
}

export function saveState({ group, head, roster }: GroupState): SavedState {
  return { group, seq: head.seq, hash: head.hash, roster: encodeRoster(roster) }
}

export function loadState({ group, seq, hash, roster }: SavedState): GroupState {
  return { group: asGroupId(group), head: { seq, hash: asCommitHash(hash) }, roster: decodeRoster(roster) }
}

/** A saved state with the admin’s keys. */
export async function loadCrowd(saved: SavedState, adminSeed: Uint8Array, secret: Uint8Array): Promise<Crowd> {
  return { admin: await personKeys(adminSeed), state: loadState(saved), secret: asEpochSecret(secret) }
}

export async function writeFixture(path: string, fixture: unknown): Promise<void> {
  await writeFile(path, serialize(fixture))
}

/** What {@link writeFixture} wrote, of the type that its caller knows. */
export async function readFixture<T>(path: string): Promise<T> {
  return deserialize(await readFile(path)) as T
}
