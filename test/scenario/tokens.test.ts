/** Tokens against a lying server: it learns nothing from them, and cannot make them stand for another group. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Claviger, Group } from '../../client/node/index.ts'
import { GroupStore } from '../../client/group-store.ts'
import { concat, toBase64Url, toHex } from '../../shared/bytes.ts'
import { context } from '../../shared/codec.ts'
import { derive } from '../../shared/crypto/kdf.ts'
import { epochPublic, generateEpochSecret, wrapEpochSecret } from '../../shared/group/epoch.ts'
import type { GroupState } from '../../shared/group/fold.ts'
import { foldCommit } from '../../shared/group/fold.ts'
import { inclusionPath } from '../../shared/group/history.ts'
import { encodeToken, inviteKeys, parseToken } from '../../shared/group/invite.ts'
import { encodeRoster, recipients } from '../../shared/group/roster.ts'
import type { GroupId } from '../../shared/ids.ts'
import type { Result } from '../../shared/protocol/messages.ts'
import { castGroup } from '../support/cast.ts'
import { epochContext, forge, ops } from '../support/forge.ts'
import type { LyingServer } from '../support/lying-server.ts'
import { person } from '../support/people.ts'
import { commitsAfter } from '../support/server-log.ts'
import type { Actor } from '../support/world.ts'
import { World } from '../support/world.ts'

let world: World
beforeAll(async () => {
  world = await World.start()
})
afterAll(() => world.close())

async function stateOf(group: GroupId): Promise<GroupState> {
  let state: GroupState | null = null
  for (const commit of await commitsAfter(world, group)) ({ state } = foldCommit(state, commit))
  if (state === null) throw new RangeError('the group has a genesis')
  return state
}

const revoke = async (group: Group): Promise<void> => {
  for (const { id } of group.invites()) await group.revokeInvite(id)
}
const use = async (group: Group, token: string): Promise<void> => {
  const carol = await world.connect(await world.person('carol'))
  await carol.join(token, {
    onWaiting: () => void group.joinRequests().then(([request]) => (request === undefined ? undefined : group.approve(request))),
  })
}
const ENDS_OF_TOKENS = (['open', 'approve'] as const).flatMap((mode) => [
  { what: 'spent', mode, end: use },
  { what: 'revoked', mode, end: revoke },
])

/** What an honest server hands out at the head of a group. */
async function snapshotOf(group: GroupId): Promise<Result<'log.snapshot'>['snapshot']> {
  const commits = await commitsAfter(world, group)
  const before = commits.slice(0, -1).map(({ hash }) => hash)
  const { roster } = await stateOf(group)
  return {
    commit: commits.at(-1)?.bytes ?? new Uint8Array(0),
    roster: encodeRoster(roster),
    consistency: [],
    genesis: inclusionPath(before, 0),
  }
}

/** Bob, who can only talk to mallory. */
async function bobBehind(mallory: LyingServer): Promise<{ actor: Actor; client: Claviger }> {
  const actor = await world.person('bob')
  return { actor, client: await world.connect(actor, { url: mallory.url }) }
}

/** Nothing was joined, signed or kept. */
async function expectNothingDone(
  mallory: LyingServer,
  { actor, client }: { actor: Actor; client: Claviger },
  group: GroupId,
): Promise<void> {
  expect(mallory.count('commit.submit')).toBe(0)
  expect(await client.groups()).toEqual([])
  expect([...(await actor.store.getAll('g/')).keys()]).toEqual([])
  expect((await stateOf(group)).roster.members.some(({ id }) => String(id) === String(actor.identity.id))).toBe(false)
}

describe('the server', () => {
  for (const mode of ['open', 'approve'] as const) {
    test(`A30: sees neither the secret of a token nor any key derived from it when somebody joins (${mode})`, async () => {
      const { alice } = await castGroup(world, {})
      const token = await alice.group.invite({ mode })
      const mallory = await world.mallory()
      const { actor, client } = await bobBehind(mallory)
      const joining = client.join(token, {
        onWaiting: () =>
          void alice.group.joinRequests().then(([request]) => (request === undefined ? undefined : alice.group.approve(request))),
      })
      const group = await joining
      await group.put('written')
      const { secret } = parseToken(token)
      const secrets = [
        secret,
        derive(secret, 'invite-signing', context()),
        derive(secret, 'invite-kem', context(1)),
        ...(await new GroupStore(actor.store, group.id).loadSecrets()).values(),
      ]
      expect(secrets.length).toBeGreaterThanOrEqual(4)
      const heard = Buffer.from(concat(...mallory.heard))
      expect(heard.length).toBeGreaterThan(1000)
      for (const bytes of secrets) {
        expect(heard.includes(Buffer.from(bytes))).toBe(false)
        for (const text of [toHex(bytes), toBase64Url(bytes), Buffer.from(bytes).toString('base64')])
          expect(heard.includes(text)).toBe(false)
      }
      expect(heard.includes(token)).toBe(false)
      // The search finds what is there: the public half.
      expect(heard.includes(Buffer.from((await inviteKeys(secret, 1)).id))).toBe(true)
    })
  }

  test('A52: that shows another group’s snapshot is refused', async () => {
    const { alice } = await castGroup(world, {})
    const token = await alice.group.invite()
    const other = await castGroup(world, {})
    await other.alice.group.invite()
    const mallory = await world.mallory()
    const bob = await bobBehind(mallory)
    const snapshot = await snapshotOf(other.alice.group.id)
    mallory.lie('log.snapshot', () => ({ snapshot }))
    await expect(bob.client.join(token)).rejects.toMatchObject({ code: 'roster_mismatch' })
    await expectNothingDone(mallory, bob, alice.group.id)
  })

  test('A52: that goes along with a token that names one group and the head of another is refused', async () => {
    const { alice } = await castGroup(world, {})
    const other = await castGroup(world, {})
    const token = parseToken(await other.alice.group.invite())
    const mallory = await world.mallory()
    const bob = await bobBehind(mallory)
    const snapshot = await snapshotOf(other.alice.group.id)
    mallory.lie('invite.open', () => ({ head: token.at }))
    mallory.lie('log.snapshot', () => ({ snapshot }))
    await expect(bob.client.join(encodeToken({ ...token, group: alice.group.id }))).rejects.toMatchObject({ code: 'roster_mismatch' })
    await expectNothingDone(mallory, bob, alice.group.id)
  })

  test('A52: that shows the right commit with a roster of its own is refused', async () => {
    const { alice } = await castGroup(world, {})
    const token = await alice.group.invite()
    const mallory = await world.mallory()
    const bob = await bobBehind(mallory)
    const liar = await person('mallory')
    mallory.lie('log.snapshot', async (_params, truth) => {
      const { snapshot } = await truth()
      if (snapshot === null) return { snapshot }
      const { roster } = await stateOf(alice.group.id)
      const [first] = roster.members
      const members = first === undefined ? [] : [first, { ...first, id: liar.id, signingKey: liar.signer.publicKey }]
      return { snapshot: { ...snapshot, roster: encodeRoster({ ...roster, members }) } }
    })
    await expect(bob.client.join(token)).rejects.toMatchObject({ code: 'roster_mismatch' })
    await expectNothingDone(mallory, bob, alice.group.id)
  })

  test('A52: that has no snapshot and shows another genesis is refused', async () => {
    const { alice } = await castGroup(world, {})
    const token = await alice.group.invite()
    const other = await castGroup(world, {})
    await other.alice.group.invite()
    const mallory = await world.mallory()
    const bob = await bobBehind(mallory)
    const commits = (await commitsAfter(world, other.alice.group.id)).map(({ bytes }) => bytes)
    mallory.lie('log.snapshot', () => ({ snapshot: null }))
    mallory.lie('log.read', () => ({ commits, head: other.alice.group.head }))
    await expect(bob.client.join(token)).rejects.toMatchObject({ code: 'invite_invalid' })
    await expectNothingDone(mallory, bob, alice.group.id)
  })

  test('that has no snapshot and shows the log itself is believed', async () => {
    const { alice } = await castGroup(world, { carol: {} })
    await alice.group.rekey()
    const token = await alice.group.invite()
    await alice.group.rekey()
    const mallory = await world.mallory()
    const bob = await bobBehind(mallory)
    mallory.lie('log.snapshot', () => ({ snapshot: null }))
    expect((await bob.client.join(token)).role).toBe('member')
  })

  for (const { what, mode, end } of ENDS_OF_TOKENS)
    test(`that lets somebody in with a token that is ${what} (${mode}) is refused before anything is signed for it`, async () => {
      const { alice } = await castGroup(world, {})
      const token = await alice.group.invite({ mode })
      const snapshot = await snapshotOf(alice.group.id)
      await end(alice.group, token)
      const mallory = await world.mallory()
      const bob = await bobBehind(mallory)
      const commits = (await commitsAfter(world, alice.group.id)).map(({ bytes }) => bytes)
      const { head } = await stateOf(alice.group.id)
      mallory.lie('invite.open', () => ({ head }))
      mallory.lie('log.snapshot', () => ({ snapshot }))
      mallory.lie('log.read', ({ from }) => ({ commits: commits.slice(from), head }))
      mallory.lie('join.request', () => ({}))
      await expect(bob.client.join(token)).rejects.toMatchObject({ code: 'invite_spent' })
      expect(mallory.count('join.request')).toBe(0)
      await expectNothingDone(mallory, bob, alice.group.id)
    })

  test('A01: that goes on from there with commits of its own is refused', async () => {
    const { alice } = await castGroup(world, {})
    const token = await alice.group.invite()
    const mallory = await world.mallory()
    const bob = await bobBehind(mallory)
    const liar = await person('mallory')
    const state = await stateOf(alice.group.id)
    const [admin] = state.roster.members
    for (const author of [{ signer: liar.signer }, { signer: { ...liar.signer, publicKey: admin?.signingKey ?? liar.signer.publicKey } }]) {
      const commit = await forge(state, { author, ops: [ops.add(liar, 'admin')], time: Date.now() })
      mallory.lie('log.read', (params) => ({
        commits: params.from > state.head.seq + 1 ? [] : [commit],
        head: { seq: state.head.seq + 1, hash: state.head.hash },
      }))
      const refusal = await bob.client.join(token).catch((error: unknown) => error)
      expect(refusal).toMatchObject({ code: author.signer.publicKey === liar.signer.publicKey ? 'not_authorised' : 'invalid_signature' })
      await expectNothingDone(mallory, bob, alice.group.id)
    }
  })

  test('A23: that gives the joiner the wrap of a secret it has chosen is refused', async () => {
    const { alice } = await castGroup(world, {})
    const token = await alice.group.invite()
    const mallory = await world.mallory()
    const bob = await bobBehind(mallory)
    const state = await stateOf(alice.group.id)
    const chosen = generateEpochSecret()
    const at = { ...epochContext(state, state.roster.epoch), ...(await epochPublic(chosen, { suite: 1, epoch: state.roster.epoch })) }
    for (const context of [epochContext(state, state.roster.epoch), at]) {
      const { enc, wraps } = await wrapEpochSecret(chosen, context, recipients(state.roster))
      mallory.lie('epoch.read', () => ({ enc, wraps: wraps.filter((wrap) => wrap !== null), links: [] }))
      await expect(bob.client.join(token)).rejects.toMatchObject({ code: 'wrap_invalid' })
      await expectNothingDone(mallory, bob, alice.group.id)
    }
  })

  test('A50: that knows a token cannot come in with more than the invite gives', async () => {
    const { alice } = await castGroup(world, {})
    const token = await alice.group.invite({ role: 'reader' })
    const mallory = await person('mallory')
    const state = await stateOf(alice.group.id)
    const { signer } = await inviteKeys(parseToken(token).secret, 1)
    const more = [ops.join(mallory), ops.setRole(mallory, 'admin')]
    const commit = await forge(state, { author: { signer }, ops: more, signers: [{ signer }, mallory], time: Date.now() })
    const liar = await world.mallory()
    const lied = await world.connect(alice.actor, { url: liar.url })
    const group = await lied.group(alice.group.id)
    await group.ready()
    liar.lie('log.read', () => ({ commits: [commit], head: { seq: state.head.seq + 1, hash: state.head.hash } }))
    await expect(group.sync()).rejects.toMatchObject({ code: 'not_authorised' })
    expect(group.head).toEqual(state.head)
  })
})
