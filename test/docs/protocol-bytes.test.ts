/**
 * The formulas of docs/PROTOCOL.md for the group, written down once more from the text alone, with node:crypto and a CBOR
 * encoder: they give the bytes that the code makes. (Objects have vectors of their own, wraps a second HPKE.)
 */
import { createHash, createHmac, createPrivateKey, createPublicKey, verify } from 'node:crypto'
import { xchacha20poly1305 } from '@noble/ciphers/chacha.js'
import { decode, encode as encodeCbor } from 'cborg'
import { beforeAll, describe, expect, test } from 'vitest'
import { kemKeyId } from '../../shared/crypto/keys.ts'
import { epochCommitment, generateEpochSecret, sealLink } from '../../shared/group/epoch.ts'
import { appendCommit, historyRoot } from '../../shared/group/history.ts'
import type { InviteKeys } from '../../shared/group/invite.ts'
import { inviteSessionMessage } from '../../shared/group/invite-proof.ts'
import { signJoinRequest, verifyJoinRequest } from '../../shared/group/join-request.ts'
import { linkHash } from '../../shared/group/link-hash.ts'
import { rosterHash } from '../../shared/group/roster.ts'
import { safetyNumber } from '../../shared/group/safety-number.ts'
import { signHead } from '../../shared/group/signed-head.ts'
import { authenticationMessage } from '../../shared/protocol/authentication.ts'
import { inviteOf, inviteOp, Log, ops } from '../support/forge.ts'
import type { Person } from '../support/people.ts'
import { people, rotated, seedOf } from '../support/people.ts'

type Bytes = Uint8Array

const labelled = (label: string): Bytes => Buffer.from(`claviger/1 ${label}\0`)
const join = (...parts: readonly Bytes[]): Bytes => new Uint8Array(Buffer.concat(parts))
const encode = (value: unknown): Bytes => join(encodeCbor(value))
const sha256 = (...parts: readonly Bytes[]): Bytes =>
  new Uint8Array(
    createHash('sha256')
      .update(join(...parts))
      .digest(),
  )
const H = (label: string, ...parts: readonly Bytes[]): Bytes => sha256(labelled(label), ...parts)
const hmac = (key: Bytes, ...parts: readonly Bytes[]): Bytes =>
  new Uint8Array(
    createHmac('sha256', key)
      .update(join(...parts))
      .digest(),
  )
const derive = (secret: Bytes, label: string, context: readonly unknown[]): Bytes =>
  hmac(secret, labelled(label), encode(context), Uint8Array.of(1))

function isSigned(key: Bytes, signature: Bytes, label: string, ...parts: readonly Bytes[]): boolean {
  const der = join(Buffer.from('302a300506032b6570032100', 'hex'), key)
  return verify(null, join(labelled(label), ...parts), createPublicKey({ key: Buffer.from(der), format: 'der', type: 'spki' }), signature)
}

let alice: Person
let bob: Person
let carol: Person
let invite: InviteKeys
let log: Log

beforeAll(async () => {
  ;({ alice, bob, carol } = await people('alice', 'bob', 'carol'))
  invite = await inviteOf('approve')
  log = await Log.found(alice)
  await log.commit({ author: alice, ops: [ops.add(bob, 'member')] })
  await log.commit({ author: alice, ops: [await inviteOp(log.state, alice, invite, { mode: 'approve' })] })
  await log.commit({ author: alice, rekey: 'fresh' })
})

function commitAt(seq: number): { payload: Bytes; signatures: Bytes[]; fields: Record<string, unknown> } {
  const { payload, signatures } = decode(log.commits[seq] ?? new Uint8Array(0)) as { payload: Bytes; signatures: Bytes[] }
  return { payload, signatures, fields: decode(payload) as Record<string, unknown> }
}

describe('by the formulas of docs/PROTOCOL.md', () => {
  test('cards are signed, chained and named', async () => {
    const { cards } = await rotated(alice, 'alice the second')
    const [first, second] = cards.map((card) => decode(card) as { card: Bytes; signatures: Bytes[] })
    if (first === undefined || second === undefined) throw new Error('two cards')
    const [before, after] = [first, second].map(({ card }) => decode(card) as { signingKey: Bytes; parent: Bytes | null; revision: number })
    expect(alice.id).toEqual(H('identity-id', first.card))
    expect(after?.parent).toEqual(H('card', first.card))
    expect(isSigned(before?.signingKey ?? new Uint8Array(32), first.signatures[0] ?? new Uint8Array(64), 'card', first.card)).toBe(true)
    expect(isSigned(after?.signingKey ?? new Uint8Array(32), second.signatures[0] ?? new Uint8Array(64), 'card', second.card)).toBe(true)
    expect(
      isSigned(before?.signingKey ?? new Uint8Array(32), second.signatures[1] ?? new Uint8Array(64), 'card-rotation', second.card),
    ).toBe(true)
  })

  test('commits are signed and chained, and the first is the group', () => {
    const hashes = log.commits.map((_, seq) => H('commit-hash', commitAt(seq).payload, ...commitAt(seq).signatures))
    expect(log.hashes).toEqual(hashes)
    expect(log.state.group).toEqual(hashes[0])
    for (const [seq] of log.commits.entries()) {
      const { payload, signatures, fields } = commitAt(seq)
      expect(fields['parent']).toEqual(hashes[seq - 1] ?? null)
      expect(isSigned(alice.signer.publicKey, signatures[0] ?? new Uint8Array(64), 'commit', payload)).toBe(true)
    }
  })

  test('a roster and its history are hashed', () => {
    const { roster } = log.state
    const list = (entries: readonly unknown[]): Bytes => sha256(...entries.map((entry) => H('roster-entry', encode(entry))))
    const [zero, one, two] = log.hashes.map((hash) => H('history-leaf', hash))
    const root = H('history-node', H('history-node', zero ?? new Uint8Array(0), one ?? new Uint8Array(0)), two ?? new Uint8Array(0))
    const { v, suite, seq, epoch, rekeyOwed, retiredThrough, logTime, members, invites, epochs, history } = roster
    const lists = [list(members), list(invites), list(epochs)]
    expect(historyRoot(history)).toEqual(root)
    expect(historyRoot(appendCommit({ size: 0, peaks: [] }, log.hashes[0] ?? new Uint8Array(32)))).toEqual(zero)
    expect(rosterHash(roster)).toEqual(
      H('roster', encode([v, suite, seq, epoch, rekeyOwed, retiredThrough, logTime, ...lists, history.size, root])),
    )
    expect(commitAt(seq).fields['roster']).toEqual(rosterHash(roster))
  })

  test('an epoch secret is committed to, and linked to an older one', () => {
    const [newer, older] = [generateEpochSecret(), generateEpochSecret()]
    const { group } = log.state
    const key = derive(newer, 'link', [group, 7, 4])
    const link = xchacha20poly1305(key, new Uint8Array(24), encode(['link', group, 7, 4])).encrypt(older)
    expect(epochCommitment(newer, 7)).toEqual(derive(newer, 'epoch-commitment', [7]))
    expect(sealLink(newer, older, { group, epoch: 7, to: 4 })).toEqual(link)
    expect(linkHash(link)).toEqual(H('link-hash', link))
    expect(kemKeyId(alice.kemPrivateKey.publicKey)).toEqual(H('kem-key-id', alice.kemPrivateKey.publicKey))
  })

  test('an invite is named, vouches for its terms, and opens itself in a session', async () => {
    const { signingKey, kemKey, role, mode, expiresAt, maxUses, proof } = (commitAt(2).fields['ops'] as Record<string, Bytes>[])[0] ?? {}
    const terms = encode([log.state.group, alice.id, signingKey, kemKey, role, mode, expiresAt, maxUses])
    expect(invite.id).toEqual(H('invite-id', invite.signer.publicKey))
    expect(isSigned(invite.signer.publicKey, proof ?? new Uint8Array(64), 'invite-proof', terms)).toBe(true)
    const [nonce, host] = [seedOf('nonce', 'any'), 'example.org:8443']
    expect(inviteSessionMessage({ nonce, host }, log.state.group, invite.id)).toEqual(
      join(labelled('authenticate-invite'), encode([nonce, host, log.state.group, invite.id])),
    )
    const seed = derive(seedOf('invite', 'approve'), 'invite-signing', [])
    const der = Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), seed])
    const spki = createPublicKey(createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })).export({ format: 'der', type: 'spki' })
    expect(new Uint8Array(spki.subarray(-32))).toEqual(new Uint8Array(invite.signer.publicKey))
  })

  test('a join request is signed twice and named by its hash', async () => {
    const statement = { group: log.state.group, invite: invite.id, cards: [...carol.cards], at: log.state.head }
    const bytes = await signJoinRequest(statement, { invite: invite.signer, joiner: carol.signer })
    const sent = decode(bytes) as { statement: Bytes; signatures: Bytes[] }
    expect(sent.statement).toEqual(encode({ v: 1, ...statement }))
    expect(isSigned(invite.signer.publicKey, sent.signatures[0] ?? new Uint8Array(64), 'join-request', sent.statement)).toBe(true)
    expect(isSigned(carol.signer.publicKey, sent.signatures[1] ?? new Uint8Array(64), 'join-request', sent.statement)).toBe(true)
    expect((await verifyJoinRequest(log.state.group, log.roster, bytes)).hash).toEqual(H('join-request', bytes))
  })

  test('heads and sessions are signed', async () => {
    const statement = { group: log.state.group, member: bob.id, at: log.state.head, time: 1_700_000_000_000 }
    const sent = decode(await signHead(bob.signer, statement)) as { statement: Bytes; signature: Bytes }
    expect(sent.statement).toEqual(encode({ v: 1, ...statement }))
    expect(isSigned(bob.signer.publicKey, sent.signature, 'signed-head', sent.statement)).toBe(true)
    const [nonce, host] = [seedOf('nonce', 'any'), 'example.org']
    expect(authenticationMessage({ nonce, host, identity: bob.id })).toEqual(join(labelled('authenticate'), encode([nonce, host, bob.id])))
  })

  test('a safety number is twelve groups of five digits', () => {
    const parties = log.roster.members.map(({ id, signingKey, kemKey, cardRevision }) => [id, signingKey, kemKey, cardRevision] as const)
    const sorted = parties.toSorted(([left], [right]) => Buffer.compare(left, right))
    const hash = H('safety-number', encode([log.state.group, sorted]))
    const first = hmac(hash, labelled('safety-number'), Uint8Array.of(1))
    const bytes = Buffer.from(join(first, hmac(hash, first, labelled('safety-number'), Uint8Array.of(2))))
    const digits = Array.from({ length: 12 }, (_, index) => String(bytes.readUIntBE(index * 5, 5) % 100_000).padStart(5, '0'))
    const [one, other] = log.roster.members
    if (one === undefined || other === undefined) throw new Error('two members')
    expect(safetyNumber(log.state.group, other, one)).toBe(digits.join(' '))
  })
})
