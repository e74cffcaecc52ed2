/**
 * The stored vectors of the group formats: what the second implementation makes, and what ours makes of them.
 */
import { readFileSync } from 'node:fs'
import { beforeEach, describe, expect, test } from 'vitest'
import { fromHex, toHex } from '../../../shared/bytes.ts'
import type { KemPrivateKey } from '../../../shared/crypto/kem.ts'
import { KEMS, kemPrivateKeyFromSeed } from '../../../shared/crypto/kem.ts'
import { asEpochSecret, kemKeyId } from '../../../shared/crypto/keys.ts'
import { signerFromSeed } from '../../../shared/crypto/sign.ts'
import type { Signer } from '../../../shared/crypto/signature.ts'
import { createCard, verifyCards } from '../../../shared/group/card.ts'
import { decodeCommit, encodePayload } from '../../../shared/group/commit.ts'
import type { EpochContext } from '../../../shared/group/epoch.ts'
import { epochPublic, isGoodWrap, openLink, sealLink, unwrapEpochSecret, wrapAlone, wrapEpochSecret } from '../../../shared/group/epoch.ts'
import type { GroupState } from '../../../shared/group/fold.ts'
import { applyCommit } from '../../../shared/group/fold.ts'
import type { History } from '../../../shared/group/history.ts'
import {
  EMPTY_HISTORY,
  appendCommit,
  consistencyPath,
  historyRoot,
  inclusionPath,
  verifyConsistency,
  verifyInclusion,
} from '../../../shared/group/history.ts'
import { encodeToken, inviteKeys, parseToken } from '../../../shared/group/invite.ts'
import { signJoinRequest, verifyJoinRequest } from '../../../shared/group/join-request.ts'
import { linkHash } from '../../../shared/group/link-hash.ts'
import { planCommit, signCommit } from '../../../shared/group/plan-commit.ts'
import { decodeRoster, encodeRoster, rosterHash } from '../../../shared/group/roster.ts'
import { decodeSignedHead, signHead, verifySignedHead } from '../../../shared/group/signed-head.ts'
import type { Head } from '../../../shared/ids.ts'
import { asCommitHash, asGroupId, asIdentityId, idKey } from '../../../shared/ids.ts'
import { BACKENDS, useBackend } from '../crypto/backends.ts'
import { failureOf } from '../objects/fixtures.ts'
import type { Negative } from './reference-vectors.ts'
import { referenceVectors } from './reference-vectors.ts'

interface Named {
  readonly name: string
}
interface Twinned extends Named {
  readonly negatives: readonly Negative[]
}
interface CardVector extends Twinned {
  readonly seeds: readonly { readonly signing: string; readonly kem: string }[]
  readonly cards: readonly string[]
  readonly identity: string
}
interface CommitVector extends Twinned {
  readonly signers: readonly string[]
  readonly payloadBytes: string
  readonly commit: string
  readonly hash: string
  readonly roster: string
  readonly rosterHash: string
  readonly rekeyOwed: boolean
}
interface HistoryVector extends Named {
  readonly commits: readonly string[]
  readonly roots: readonly string[]
  readonly inclusion: readonly { readonly index: number; readonly path: readonly string[] }[]
  readonly consistency: readonly { readonly size: number; readonly path: readonly string[] }[]
}
interface WrapVector extends Twinned {
  readonly secret: string
  readonly group: string
  readonly epoch: number
  readonly seq: number
  readonly parent: string | null
  readonly commitment: string
  readonly depositKey: string
  readonly recipient: string
  readonly recipientKey: string
  readonly enc: string
  readonly wrap: string
}
interface LinkVector extends Twinned {
  readonly newer: string
  readonly older: string
  readonly group: string
  readonly epoch: number
  readonly to: number
  readonly link: string
  readonly hash: string
}
interface TokenVector extends Twinned {
  readonly fields: { readonly server: string; readonly group: string; readonly at: HeadFields; readonly secret: string }
  readonly token: string
  readonly id: string
  readonly signingKey: string
  readonly kemKey: string
}
interface HeadFields {
  readonly seq: number
  readonly hash: string
}
interface HeadVector extends Twinned {
  readonly signer: string
  readonly statement: { readonly member: string; readonly at: HeadFields; readonly time: number }
  readonly head: string
}
interface RequestVector extends Twinned {
  readonly invite: string
  readonly joiner: string
  readonly statement: { readonly cards: readonly string[]; readonly at: HeadFields }
  readonly request: string
  readonly hash: string
  readonly identity: string
}

const readFile = (name: string): unknown => JSON.parse(readFileSync(new URL(`../../vectors/group/${name}`, import.meta.url), 'utf8'))
// Our own files: their shape is declared, not checked.
const read = <Vector>(name: string): Vector[] => (readFile(`${name}.json`) as { readonly vectors: Vector[] }).vectors
const commits = read<CommitVector>('commits')

const headOf = ({ seq, hash }: HeadFields): Head => ({ seq, hash: asCommitHash(fromHex(hash)) })
const signerOf = (seed: string): Promise<Signer> => signerFromSeed(fromHex(seed))
const kemKeyOf = (seed: string): Promise<KemPrivateKey> => kemPrivateKeyFromSeed(KEMS[0x0020], fromHex(seed))
const epochOf = ({ group, epoch, seq, parent, commitment }: WrapVector): EpochContext => ({
  suite: 1,
  group: asGroupId(fromHex(group)),
  epoch,
  seq,
  parent: parent === null ? null : asCommitHash(fromHex(parent)),
  commitment: fromHex(commitment),
})

/** The group after the first `count` commits of the story. */
async function groupAfter(count: number): Promise<GroupState | null> {
  let state: GroupState | null = null
  for (const { commit } of commits.slice(0, count)) state = (await applyCommit(state, fromHex(commit))).state
  return state
}

/** As when alice had added carol and made two invites, which is when head and request of the vectors were signed. */
async function groupOfTwo(): Promise<GroupState> {
  const state = await groupAfter(2)
  if (state === null) throw new Error('the story has two commits')
  return state
}

/** Reads each negative twin of a vector; all must fail as they say. */
async function expectRefused<Vector extends Twinned>(vector: Vector, reading: (vector: Vector) => unknown): Promise<void> {
  for (const { name, change, error } of vector.negatives) {
    const failure = await failureOf(() => reading({ ...vector, ...change }))
    expect(failure, `${vector.name}: ${name}`).toBe(error)
  }
}

test('the vectors are what the second implementation makes', () => {
  const made = referenceVectors()
  expect(Object.fromEntries(Object.keys(made).map((name) => [name, readFile(name)]))).toEqual(made)
})

describe.each(BACKENDS)('with the $name backend', (backend) => {
  beforeEach(() => useBackend(backend))

  test.each(read<CardVector>('cards'))('$name verifies, and its first card is made to the same bytes', async (vector) => {
    const verify = ({ cards }: CardVector): ReturnType<typeof verifyCards> => verifyCards(cards.map(fromHex))
    expect(toHex((await verify(vector)).identity)).toBe(vector.identity)
    const [first] = vector.seeds
    if (first === undefined) throw new Error('a card has seeds')
    const card = await createCard({ signer: await signerOf(first.signing), kemKey: (await kemKeyOf(first.kem)).publicKey })
    expect(toHex(card)).toBe(vector.cards[0])
    await expectRefused(vector, verify)
  })

  test.each(commits.map((vector, seq) => ({ ...vector, seq })))(
    'the commit in which $name is folded, planned and signed to the same bytes',
    async (vector) => {
      const before = await groupAfter(vector.seq)
      const apply = ({ commit }: CommitVector): ReturnType<typeof applyCommit> => applyCommit(before, fromHex(commit))
      const { state, commit } = await apply(vector)
      expect({
        hash: toHex(state.head.hash),
        roster: toHex(encodeRoster(state.roster)),
        rosterHash: toHex(rosterHash(state.roster)),
        owed: state.roster.rekeyOwed,
      }).toEqual({ hash: vector.hash, roster: vector.roster, rosterHash: vector.rosterHash, owed: vector.rekeyOwed })
      expect(toHex(rosterHash(decodeRoster(fromHex(vector.roster))))).toBe(vector.rosterHash)
      const { author, time, ops, rekey } = decodeCommit(fromHex(vector.commit)).payload
      const planned = planCommit(before, { publicKey: author }, { time, ops, rekey })
      expect(toHex(encodePayload(planned.payload).payloadBytes)).toBe(vector.payloadBytes)
      const signers = await Promise.all(vector.signers.map(signerOf))
      expect(planned.transition.signers).toEqual(signers.map(({ publicKey }) => publicKey))
      expect(toHex((await signCommit(planned.payload, signers)).bytes)).toBe(toHex(commit.bytes))
      await expectRefused(vector, apply)
    },
  )

  test.each(read<HistoryVector>('histories'))('the history of $name has these roots and proofs', (vector) => {
    const hashes = vector.commits.map(fromHex)
    const trees = hashes.reduce<History[]>((all, hash) => [...all, appendCommit(all.at(-1) ?? EMPTY_HISTORY, hash)], [EMPTY_HISTORY])
    expect(trees.map((tree) => toHex(historyRoot(tree)))).toEqual(vector.roots)
    const [size, root] = [hashes.length, fromHex(vector.roots.at(-1) ?? '')]
    for (const { index, path } of vector.inclusion) {
      expect(inclusionPath(hashes, index).map(toHex)).toEqual(path)
      expect(verifyInclusion({ commitHash: hashes[index] ?? root, index, size, root }, path.map(fromHex))).toBe(true)
      expect(verifyInclusion({ commitHash: root, index, size, root }, path.map(fromHex))).toBe(false)
    }
    for (const { size: fromSize, path } of vector.consistency) {
      const claim = { fromSize, fromRoot: fromHex(vector.roots[fromSize] ?? ''), toSize: size, toRoot: root }
      expect(consistencyPath(hashes, fromSize).map(toHex)).toEqual(path)
      expect(verifyConsistency(claim, path.map(fromHex))).toBe(true)
      expect(verifyConsistency({ ...claim, fromRoot: new Uint8Array(32) }, path.map(fromHex))).toBe(false)
    }
  })

  test.each(read<WrapVector>('wraps'))('$name opens, and is made to the same bytes', async (vector) => {
    const [at, secret] = [epochOf(vector), asEpochSecret(fromHex(vector.secret))]
    const unwrap = async (one: WrapVector): Promise<Uint8Array> =>
      unwrapEpochSecret(await kemKeyOf(one.recipient), epochOf(one), { enc: fromHex(one.enc), wrap: fromHex(one.wrap) })
    expect(toHex(await unwrap(vector))).toBe(vector.secret)
    const { commitment, depositKey } = await epochPublic(secret, at)
    expect({ commitment: toHex(commitment), depositKey: toHex(depositKey) }).toEqual({
      commitment: vector.commitment,
      depositKey: vector.depositKey,
    })
    const { publicKey: kemKey } = await kemKeyOf(vector.recipient)
    expect(toHex(kemKey)).toBe(vector.recipientKey)
    const recipient = { principal: asIdentityId(new Uint8Array(32)), kemKey, kemKeyId: kemKeyId(kemKey), key: idKey(kemKeyId(kemKey)) }
    const [shared, healed] = [await wrapEpochSecret(secret, at, [recipient]), await wrapAlone(secret, at, recipient)]
    expect([toHex(shared.wraps[0] ?? healed), toHex(healed)]).toContain(vector.wrap)
    const judge = (one: WrapVector): Promise<boolean> =>
      isGoodWrap(secret, at, { recipient, stored: { enc: fromHex(one.enc), wrap: fromHex(one.wrap) } })
    expect(await judge(vector)).toBe(true)
    await expectRefused(vector, unwrap)
    for (const { name, change } of vector.negatives)
      if ('enc' in change || 'wrap' in change) expect(await judge({ ...vector, ...change }), name).toBe(false)
  })

  test.each(read<LinkVector>('links'))('$name opens, and is made to the same bytes', async (vector) => {
    const where = ({ group, epoch, to }: LinkVector): Parameters<typeof openLink>[2] => ({ group: asGroupId(fromHex(group)), epoch, to })
    const openIt = (one: LinkVector): Uint8Array => openLink(asEpochSecret(fromHex(one.newer)), fromHex(one.link), where(one))
    expect(toHex(openIt(vector))).toBe(vector.older)
    const sealed = sealLink(asEpochSecret(fromHex(vector.newer)), asEpochSecret(fromHex(vector.older)), where(vector))
    expect([toHex(sealed), toHex(linkHash(sealed))]).toEqual([vector.link, vector.hash])
    await expectRefused(vector, openIt)
  })

  test.each(read<TokenVector>('tokens'))('$name parses, is made to the same text and gives these keys', async (vector) => {
    const { server, group, at, secret } = vector.fields
    const token = { v: 1, server, group: asGroupId(fromHex(group)), at: headOf(at), secret: fromHex(secret) } as const
    expect(parseToken(vector.token)).toEqual(token)
    expect(encodeToken(token)).toBe(vector.token)
    const keys = await inviteKeys(token.secret, 1)
    expect([keys.id, keys.signer.publicKey, keys.kem.publicKey].map(toHex)).toEqual([vector.id, vector.signingKey, vector.kemKey])
    await expectRefused(vector, ({ token: text }) => parseToken(text))
  })

  test.each(read<HeadVector>('heads'))('$name verifies, and is made to the same bytes', async (vector) => {
    const { group, roster } = await groupOfTwo()
    const verify = ({ head }: HeadVector): Promise<void> =>
      Promise.resolve().then(() => verifySignedHead(group, roster, decodeSignedHead(fromHex(head))))
    await verify(vector)
    const { member, at, time } = vector.statement
    const made = await signHead(await signerOf(vector.signer), { group, member: asIdentityId(fromHex(member)), at: headOf(at), time })
    expect(toHex(made)).toBe(vector.head)
    await expectRefused(vector, verify)
  })

  test.each(read<RequestVector>('requests'))('$name verifies, and is made to the same bytes', async (vector) => {
    const { group, roster } = await groupOfTwo()
    const verify = ({ request }: RequestVector): ReturnType<typeof verifyJoinRequest> => verifyJoinRequest(group, roster, fromHex(request))
    const verified = await verify(vector)
    expect([toHex(verified.hash), toHex(verified.cards.identity)]).toEqual([vector.hash, vector.identity])
    const { cards, at } = vector.statement
    const made = await signJoinRequest(
      { group, invite: verified.invite, cards: cards.map(fromHex), at: headOf(at) },
      { invite: await signerOf(vector.invite), joiner: await signerOf(vector.joiner) },
    )
    expect(toHex(made)).toBe(vector.request)
    await expectRefused(vector, verify)
  })
})
