/** One measurement in a fresh process: `removal-once.js <what> <fixture>`. */
import { Buffer } from 'node:buffer'
import { createCipheriv, createPrivateKey, createPublicKey, diffieHellman, randomBytes } from 'node:crypto'
import type { KeyObject } from 'node:crypto'
import { depositKeyPair, unwrapEpochSecret } from '../shared/group/epoch.ts'
import type { GroupState } from '../shared/group/fold.ts'
import { applyCommit } from '../shared/group/fold.ts'
import { currentEpoch } from '../shared/group/roster.ts'
import { asIdentityId } from '../shared/ids.ts'
import { loadCrowd, loadState, personKeys, readFixture, sealFor, useNodeCrypto } from './crowd.ts'
import type { Cost } from './measure.ts'
import { answer, costOf } from './measure.ts'
import type { RemovalFixture, SentRemoval } from './removal-fixture.ts'

/** What a process measures. */
export type Contender = 'commit' | 'warm-commit' | 'bare' | 'bare-import' | 'receive'

export interface CommitCost extends Cost {
  /** Of the commit with all that travels beside it. */
  readonly bytes: number
  readonly commitBytes: number
}

export interface ReceiveCost {
  /** Right after the state was read from the store. */
  readonly first: Cost
  /** The next removal, in a client that runs. */
  readonly second: Cost
}

const MEASURES: Readonly<Record<Contender, (fixture: RemovalFixture) => Promise<unknown>>> = {
  commit: measureCommit,
  'warm-commit': measureWarmCommit,
  bare: (fixture) => measureBare(fixture, 'imported'),
  'bare-import': (fixture) => measureBare(fixture, 'raw'),
  receive: measureReceive,
}

const [what = '', path = ''] = process.argv.slice(2)
useNodeCrypto()
const measure = isContender(what) ? MEASURES[what] : null
if (measure === null) throw new TypeError(`there is no measurement called ${what}`)
answer(await measure(await readFixture<RemovalFixture>(path)))

function isContender(name: string): name is Contender {
  return Object.hasOwn(MEASURES, name)
}

/** Everything the client does between the decision and the request: plan, seal, sign. */
async function measureCommit(fixture: RemovalFixture): Promise<CommitCost> {
  const crowd = await loadCrowd(fixture.state, fixture.adminSeed, fixture.secret)
  const member = asIdentityId(fixture.removed)
  const { value, cpuMs, wallMs } = await costOf(() => sealFor(crowd, { ops: [{ type: 'remove', member }], rekey: true }))
  const { enc, wraps, link } = value.params
  const beside = enc.length + (link?.length ?? 0) + wraps.reduce((sum, wrap) => sum + wrap.length, 0)
  return { cpuMs, wallMs, commitBytes: value.commit.bytes.length, bytes: value.commit.bytes.length + beside }
}

/** The same in a process that has done it before. */
async function measureWarmCommit(fixture: RemovalFixture): Promise<CommitCost> {
  await measureCommit(fixture)
  await measureCommit(fixture)
  const crowd = await loadCrowd(fixture.state, fixture.adminSeed, fixture.secret)
  const member = asIdentityId(fixture.removed)
  const intent = { ops: [{ type: 'remove', member } as const], rekey: true }
  await sealFor(crowd, intent)
  const { cpuMs, wallMs } = await costOf(() => sealFor(crowd, intent))
  return { cpuMs, wallMs, bytes: 0, commitBytes: 0 }
}

/** What cannot be avoided: one DH and one AEAD call for each recipient. */
async function measureBare({ kemKeys }: RemovalFixture, from: 'imported' | 'raw'): Promise<Cost> {
  const privateKey = createPrivateKey({
    key: Buffer.concat([Buffer.from('302e020100300506032b656e04220420', 'hex'), randomBytes(32)]),
    format: 'der',
    type: 'pkcs8',
  })
  const [secret, nonce, aad] = [randomBytes(32), randomBytes(12), randomBytes(100)]
  const imported = from === 'imported' ? kemKeys.map(importKey) : null
  const { cpuMs, wallMs } = await costOf(() =>
    kemKeys.map((raw, index) => seal(diffieHellman({ privateKey, publicKey: imported?.[index] ?? importKey(raw) }), nonce, aad, secret)),
  )
  return { cpuMs, wallMs }
}

function importKey(raw: Uint8Array): KeyObject {
  return createPublicKey({ key: { kty: 'OKP', crv: 'X25519', x: Buffer.from(raw).toString('base64url') }, format: 'jwk' })
}

function seal(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, secret: Uint8Array): Uint8Array {
  const cipher = createCipheriv('chacha20-poly1305', key, nonce, { authTagLength: 16 })
  cipher.setAAD(aad, { plaintextLength: secret.length })
  return Buffer.concat([cipher.update(secret), cipher.final(), cipher.getAuthTag()])
}

async function measureReceive(fixture: RemovalFixture): Promise<ReceiveCost> {
  const { kem } = await personKeys(fixture.receiverSeed)
  const [one, two] = fixture.sent
  if (one === undefined || two === undefined) throw new Error('the fixture has two removals')
  const stored = loadState(fixture.state)
  const { value: state, ...first } = await costOf(() => receive(stored, kem, one))
  const { cpuMs, wallMs } = await costOf(() => receive(state, kem, two))
  return { first, second: { cpuMs, wallMs } }
}

/** Fold, verify, unwrap, compare with the commitment and the deposit key: what a member’s client does. */
async function receive(state: GroupState, kem: Parameters<typeof unwrapEpochSecret>[0], sent: SentRemoval): Promise<GroupState> {
  const fold = await applyCommit(state, sent.commit)
  const { group, roster } = fold.state
  const entry = currentEpoch(roster)
  const at = { suite: roster.suite, group, epoch: entry.epoch, seq: entry.seq, parent: entry.parent, commitment: entry.commitment }
  const secret = await unwrapEpochSecret(kem, at, sent)
  await depositKeyPair(secret, at)
  return fold.state
}
