/**
 * What holds in every history: the fold is a pure function of the commits, and nothing outside them gets in.
 */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { useNodePublicCrypto } from '../../../platform/node/index.ts'
import { useNodeSecretCrypto } from '../../../platform/node/secret.ts'
import { toHex } from '../../../shared/bytes.ts'
import { ClavigerError } from '../../../shared/errors.ts'
import { historyRoot, leafHash, nodeHash } from '../../../shared/group/history.ts'
import type { Fold, GroupState } from '../../../shared/group/fold.ts'
import { applyCommit } from '../../../shared/group/fold.ts'
import type { Roster } from '../../../shared/group/roster.ts'
import { decodeRoster, encodeRoster, recipients, rosterHash } from '../../../shared/group/roster.ts'
import { withFlippedBit } from '../../support/forge.ts'
import { castOfHistories, playHistory, stepsArbitrary } from './random-history.ts'

useNodePublicCrypto()
useNodeSecretCrypto()

const cast = await castOfHistories()
const RUNS = 60
const STEPS = 40

async function foldAll(commits: readonly Uint8Array[], from: GroupState | null = null): Promise<GroupState | null> {
  let state = from
  for (const bytes of commits) state = (await applyCommit(state, bytes)).state
  return state
}

const plain = (state: GroupState | null): unknown =>
  state && { group: toHex(state.group), head: { ...state.head, hash: toHex(state.head.hash) }, roster: toHex(encodeRoster(state.roster)) }
const holders = (roster: Roster): string[] => recipients(roster).map(({ key }) => key)

/** What a commit changes about who holds keys, told without the fold’s own helpers. */
function holdersByHand(roster: Roster): string[] {
  const members = roster.members.filter(({ state, role }) => state === 'active' && role !== 'depositor')
  const invites = roster.invites.filter(({ state, mode, role }) => state === 'live' && mode === 'open' && role !== 'depositor')
  return [...members, ...invites].map(({ kemKey }) => toHex(kemKey))
}

function assertKeysFollow({ before, fold }: { before: Roster; fold: Fold }): void {
  const { roster } = fold.state
  const [old, now] = [holdersByHand(before), holdersByHand(roster)]
  const lost = old.some((key) => !now.includes(key))
  const opened = fold.commit.payload.rekey !== null
  expect(roster.rekeyOwed).toBe(!opened && (before.rekeyOwed || lost))
  expect(fold.newRecipients.map(({ kemKey }) => toHex(kemKey))).toEqual(opened ? [] : now.filter((key) => !old.includes(key)))
  expect(recipients(roster).map(({ kemKey }) => toHex(kemKey))).toEqual(now)
  expect(roster.epoch).toBe(before.epoch + (opened ? 1 : 0))
  if (lost && !opened)
    expect(fold.commit.payload.ops.map(({ type }) => type)).toSatisfy((types: string[]) => types[0] === 'leave' || types[0] === 'join')
}

function assertSound(roster: Roster, hashes: readonly Uint8Array[]): void {
  expect(roster.members.filter(({ state, role }) => state === 'active' && role === 'admin').length).toBeGreaterThan(0)
  expect(new Set(holders(roster)).size).toBe(holders(roster).length)
  const signing = [
    ...roster.members.flatMap(({ segments }) => [...new Set(segments.map(({ signingKey }) => toHex(signingKey)))]),
    ...roster.invites.map(({ signingKey }) => toHex(signingKey)),
  ]
  expect(new Set(signing).size).toBe(signing.length)
  expect(roster.epochs.at(-1)?.epoch).toBe(roster.epoch)
  expect(roster.epochs.map(({ epoch }) => epoch)).toEqual(
    Array.from({ length: roster.epoch - roster.retiredThrough }, (_, index) => roster.retiredThrough + 1 + index),
  )
  for (const { state, segments } of roster.members)
    expect(segments.filter(({ toSeq }) => toSeq === null).length).toBe(state === 'active' ? 1 : 0)
  expect(roster.history.size).toBe(roster.seq)
  expect(toHex(historyRoot(roster.history))).toBe(toHex(treeByHand(hashes.slice(0, roster.seq))))
}

/** RFC 9162 §2.1.1, as it is written there. */
function treeByHand(hashes: readonly Uint8Array[]): Uint8Array {
  const [first, ...rest] = hashes
  if (first === undefined) return new Uint8Array(32)
  if (rest.length === 0) return leafHash(first)
  const split = 2 ** Math.floor(Math.log2(hashes.length - 1))
  return nodeHash(treeByHand(hashes.slice(0, split)), treeByHand(hashes.slice(split)))
}

describe('in every random history', () => {
  test('keys, owed rekeys and wraps follow from who holds keys, and the roster stays sound', async () => {
    const seen = new Map<string, number>()
    await fc.assert(
      fc.asyncProperty(stepsArbitrary(STEPS), async (steps) => {
        const { log, accepted } = await playHistory(cast, steps)
        for (const step of accepted) assertKeysFollow(step)
        assertSound(log.roster, log.hashes)
        for (const { attempt } of accepted)
          for (const type of attempt.ops?.map((op) => op.type) ?? ['rekey']) seen.set(type, (seen.get(type) ?? 0) + 1)
      }),
      { numRuns: RUNS },
    )
    // The histories are histories: every kind of commit is accepted again and again.
    const kinds = ['add', 'approve', 'invite', 'join', 'leave', 'rekey', 'remove', 'retire-epoch', 'revoke-invite', 'set-role']
    expect(kinds.filter((kind) => (seen.get(kind) ?? 0) < 5)).toEqual([])
  })

  test('folding again from the genesis gives the same group', async () => {
    await fc.assert(
      fc.asyncProperty(stepsArbitrary(STEPS), async (steps) => {
        const { log } = await playHistory(cast, steps)
        expect(plain(await foldAll(log.commits))).toEqual(plain(log.state))
      }),
      { numRuns: RUNS },
    )
  })

  test('a snapshot anywhere, folded on, gives what folding from the genesis gives', async () => {
    await fc.assert(
      fc.asyncProperty(stepsArbitrary(STEPS), fc.nat(), async (steps, at) => {
        const { log } = await playHistory(cast, steps)
        const cut = 1 + (at % log.commits.length)
        const below = await foldAll(log.commits.slice(0, cut))
        if (below === null) throw new Error('a log has a genesis')
        const bytes = encodeRoster(below.roster)
        const roster = decodeRoster(bytes)
        expect(toHex(rosterHash(roster))).toBe(toHex(rosterHash(below.roster)))
        expect(toHex(encodeRoster(roster))).toBe(toHex(bytes))
        expect(plain(await foldAll(log.commits.slice(cut), { ...below, roster }))).toEqual(plain(log.state))
      }),
      { numRuns: RUNS },
    )
  })

  test('a commit with any bit flipped is refused', async () => {
    await fc.assert(
      fc.asyncProperty(stepsArbitrary(12), fc.nat(), fc.array(fc.nat(), { minLength: 20, maxLength: 20 }), async (steps, at, bits) => {
        const { log } = await playHistory(cast, steps)
        const cut = at % log.commits.length
        const state = await foldAll(log.commits.slice(0, cut))
        const bytes = log.commits[cut] ?? new Uint8Array()
        for (const bit of bits)
          await expect(applyCommit(state, withFlippedBit(bytes, bit % (bytes.length * 8)))).rejects.toBeInstanceOf(ClavigerError)
      }),
      { numRuns: RUNS },
    )
  })

  test('a commit left out, repeated or moved is refused', async () => {
    await fc.assert(
      fc.asyncProperty(stepsArbitrary(STEPS), fc.nat(), fc.nat(), async (steps, one, other) => {
        const { log } = await playHistory(cast, steps)
        const [from, to] = [1 + (one % log.commits.length), 1 + (other % log.commits.length)]
        fc.pre(from < log.commits.length && to < log.commits.length && from !== to)
        const state = await foldAll(log.commits.slice(0, from))
        await expect(applyCommit(state, log.commits[to] ?? new Uint8Array())).rejects.toMatchObject({ code: 'stale_head' })
      }),
      { numRuns: RUNS },
    )
  })
})

describe('a commit', () => {
  test('of two signatures is refused with any of its bits flipped', async () => {
    const { log } = await playHistory(cast, [
      { kind: 'invite', sense: 1, actor: 0, target: 0, other: 1, role: 'member', mode: 'open', rekey: false, laterMs: 1 },
      { kind: 'join', sense: 1, actor: 0, target: 0, other: 1, role: 'member', mode: 'open', rekey: false, laterMs: 1 },
    ])
    const state = await foldAll(log.commits.slice(0, 2))
    const bytes = log.commits[2] ?? new Uint8Array()
    expect(bytes.length).toBeGreaterThan(300)
    for (let bit = 0; bit < bytes.length * 8; bit += 1)
      await expect(applyCommit(state, withFlippedBit(bytes, bit))).rejects.toBeInstanceOf(ClavigerError)
  })

  test('that is cut short or continued is refused', async () => {
    const { log } = await playHistory(cast, [
      { kind: 'rekey', sense: 1, actor: 0, target: 0, other: 1, role: 'member', mode: 'open', rekey: true, laterMs: 1 },
    ])
    const state = await foldAll(log.commits.slice(0, 1))
    const bytes = log.commits[1] ?? new Uint8Array()
    for (let length = 0; length < bytes.length; length += 1)
      await expect(applyCommit(state, bytes.subarray(0, length))).rejects.toBeInstanceOf(ClavigerError)
    await expect(applyCommit(state, Uint8Array.from([...bytes, 0]))).rejects.toMatchObject({ code: 'malformed' })
  })

  test('of arbitrary bytes is refused without any other error', async () => {
    const { log } = await playHistory(cast, [])
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 600 }), async (bytes) => {
        await expect(applyCommit(log.state, bytes)).rejects.toBeInstanceOf(ClavigerError)
      }),
      { numRuns: 500 },
    )
  })

  test('in a Node Buffer that is reused afterwards leaves the roster as it was', async () => {
    const { log } = await playHistory(cast, [
      { kind: 'add', sense: 1, actor: 0, target: 1, other: 1, role: 'member', mode: 'open', rekey: false, laterMs: 1 },
    ])
    const state = await foldAll(log.commits.slice(0, 1))
    const frame = Buffer.from(log.commits[1] ?? [])
    const { state: after } = await applyCommit(state, frame)
    frame.fill(0)
    expect(toHex(encodeRoster(after.roster))).toBe(toHex(encodeRoster(log.roster)))
  })
})
