/** Where the log stands: what happens when a server goes back, shows two histories, or somebody signs an invented head. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { ClavigerError, Group } from '../../client/node/index.ts'
import { asObjectId, idKey } from '../../client/node/index.ts'
import { randomBytes } from '../../shared/crypto/public-crypto.ts'
import type { GroupState } from '../../shared/group/fold.ts'
import { foldCommit } from '../../shared/group/fold.ts'
import { signHead } from '../../shared/group/signed-head.ts'
import type { CommitHash } from '../../shared/ids.ts'
import { decodeEnvelope } from '../../shared/objects/header.ts'
import { signHeader } from '../../shared/objects/header-signing.ts'
import { castGroup } from '../support/cast.ts'
import { forge, ops } from '../support/forge.ts'
import { commitsAfter } from '../support/server-log.ts'
import { eventually, nextChange, World } from '../support/world.ts'

let world: World
beforeAll(async () => {
  world = await World.start()
})
afterAll(() => world.close())

/** The error a promise is rejected with. */
async function refusal(promise: Promise<unknown>): Promise<ClavigerError> {
  const error = await promise.then(
    () => null,
    (reason: unknown) => reason,
  )
  if (!(error instanceof Error) || !('code' in error)) throw new Error('it was not refused')
  return error as ClavigerError
}

async function stateOf(from: World, group: Group): Promise<GroupState> {
  let state: GroupState | null = null
  for (const commit of await commitsAfter(from, group.id)) ({ state } = foldCommit(state, commit))
  if (state === null) throw new RangeError('the group has a genesis')
  return state
}

describe('a server', () => {
  test('A13: that goes behind a head one has accepted stops the group, with both heads as evidence, also after a restart', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    const { id } = await alice.group.put('kept')
    const restored = await world.branch()
    await bob.group.sync()
    await alice.group.rekey()
    await bob.group.sync()
    bob.client.close()
    const again = await restored.connect(bob.actor)
    const group = await again.group(bob.group.id)
    const error = await refusal(group.ready())
    expect(error.code).toBe('rollback')
    expect(error.data).toMatchObject({ accepted: bob.group.head, offered: { seq: bob.group.head.seq - 1 } })
    const later = await refusal(group.put('into the past'))
    expect(later.code).toBe('group_stopped')
    expect(later.cause).toBe(error)
    await expect(group.get(id)).rejects.toMatchObject({ code: 'group_stopped' })
    await expect(group.rekey()).rejects.toMatchObject({ code: 'group_stopped' })
    expect(await again.group(bob.group.id)).toBe(group)
    again.close()
    // A restart forgets nothing, also where the server is honest again: who is right is for people to find out.
    for (const place of [restored, world]) {
      const restarted = await (await place.connect(bob.actor)).group(bob.group.id)
      const reason = await refusal(restarted.get(id))
      expect([reason.code, reason.data]).toEqual(['group_stopped', error.data])
      expect(reason.cause).toMatchObject({ code: 'rollback', data: error.data })
      expect(restarted.ended).toMatchObject({ code: 'group_stopped' })
      restarted.close()
    }
    const honest = await world.connect(bob.actor)
    await honest.forget(bob.group.id)
    expect(await (await (await honest.group(bob.group.id)).get(id)).text()).toBe('kept')
    await restored.close()
  })

  test('that goes behind while one is connected stops the group at the next look', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    bob.client.close()
    const mallory = await world.mallory()
    const group = await (await world.connect(bob.actor, { url: mallory.url })).group(bob.group.id)
    await group.ready()
    const old = group.head
    await alice.group.rekey()
    await group.sync()
    mallory.lie('log.read', () => ({ commits: [], head: old }))
    const ended = nextChange(group, 'ended')
    const reading = (async () => {
      for await (const change of group.changes()) if (change.type === 'ended') return change.error.code
      return null
    })()
    expect((await refusal(group.sync())).code).toBe('rollback')
    expect((await ended).error).toMatchObject({ code: 'rollback', data: { accepted: group.head, offered: old } })
    expect(await reading).toBe('rollback')
    expect((await refusal(group.put('no'))).code).toBe('group_stopped')
  })

  test('A14: that shows two histories is found out by whoever is shown both, and the other history is the evidence', async () => {
    for (const lead of [0, 1]) {
      const { alice, bob } = await castGroup(world, { bob: { role: 'admin' } })
      await bob.group.ready()
      bob.client.close()
      const other = await world.branch()
      await alice.group.rekey()
      const apart = await (await other.connect(bob.actor)).group(bob.group.id)
      await apart.ready()
      await apart.rekey()
      if (lead > 0) await apart.rekey()
      const [shown] = await commitsAfter(other, apart.id, alice.group.head.seq - 1)
      alice.client.close()
      const group = await (await other.connect(alice.actor)).group(alice.group.id)
      const error = await refusal(group.ready())
      expect(error.code).toBe('fork')
      expect(error.data).toMatchObject(lead === 0 ? { accepted: alice.group.head, offered: apart.head } : { accepted: alice.group.head })
      if (lead > 0) expect(error.data['offered']).toBeInstanceOf(Uint8Array)
      expect(shown?.hash).not.toEqual(alice.group.head.hash)
      expect((await refusal(group.put('no'))).code).toBe('group_stopped')
      expect((await refusal(group.invite())).code).toBe('group_stopped')
      await other.close()
    }
  })

  test('A14: that keeps two members in two histories cannot carry a signed head across without both being alarmed', async () => {
    const { alice, bob } = await castGroup(world, { bob: { role: 'admin' } })
    bob.client.close()
    alice.client.close()
    const other = await world.branch()
    const [here, there] = [await world.mallory(), await other.mallory()]
    const aliceGroup = await (await world.connect(alice.actor, { url: here.url })).group(alice.group.id)
    const bobGroup = await (await other.connect(bob.actor, { url: there.url })).group(bob.group.id)
    await Promise.all([aliceGroup.rekey(), bobGroup.rekey()])
    const alarms = [nextChange(aliceGroup, 'bad-item'), nextChange(bobGroup, 'bad-item')]
    const [byAlice, byBob] = await Promise.all(
      [alice, bob].map(({ actor }, position) => {
        const at = (position === 0 ? aliceGroup : bobGroup).head
        return signHead(actor.identity.signer, { group: aliceGroup.id, member: actor.identity.id, at, time: Date.now() })
      }),
    )
    if (byAlice === undefined || byBob === undefined) throw new RangeError('both have signed')
    here.say({ type: 'signed-head', group: aliceGroup.id, head: byBob })
    there.say({ type: 'signed-head', group: aliceGroup.id, head: byAlice })
    const [first, second] = await Promise.all(alarms)
    expect(first).toMatchObject({ signer: bob.actor.identity.id, error: { code: 'bad_head' } })
    expect(second).toMatchObject({ signer: alice.actor.identity.id, error: { code: 'bad_head' } })
    await other.close()
  })

  test('A07: that hands out a commit of somebody who may not make it is not followed, and the group goes on where it was', async () => {
    const { alice, bob, carol } = await castGroup(world, { bob: {}, carol: {} })
    alice.client.close()
    const mallory = await world.mallory()
    const group = await (await world.connect(alice.actor, { url: mallory.url })).group(alice.group.id)
    await group.ready()
    const state = await stateOf(world, group)
    const commit = await forge(state, { author: bob.actor.identity, ops: [ops.remove(carol.client)], rekey: 'fresh', time: Date.now() })
    mallory.lie('log.read', () => ({ commits: [commit], head: { seq: state.head.seq + 1, hash: state.head.hash } }))
    await expect(group.sync()).rejects.toMatchObject({ code: 'not_authorised' })
    expect(group.head).toEqual(state.head)
    mallory.relent('log.read')
    await group.put('goes on')
  })
})

describe('an invented head', () => {
  test('A71: in a signed head is a bad item of its signer, to the server and to every client, and stops nobody', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    alice.client.close()
    const mallory = await world.mallory()
    const group = await (await world.connect(alice.actor, { url: mallory.url })).group(alice.group.id)
    await group.ready()
    const { signer, id: member } = bob.actor.identity
    for (const seq of [0, group.head.seq, group.head.seq + 1000]) {
      const head = await signHead(signer, { group: group.id, member, at: { seq, hash: randomBytes(32) as CommitHash }, time: Date.now() })
      await expect(bob.client.connection.request('head.sign', { group: group.id, head })).rejects.toMatchObject({ code: 'bad_head' })
      const alarm = nextChange(group, 'bad-item')
      mallory.say({ type: 'signed-head', group: group.id, head })
      expect(await alarm).toMatchObject({ signer: member, error: { code: 'bad_head' } })
    }
    const { id } = await bob.group.put('and goes on')
    expect(await (await group.get(id)).text()).toBe('and goes on')
    expect(group.lastConfirmed().every(({ head }) => head.seq <= group.head.seq)).toBe(true)
  })

  test('A71: in an object is a bad item of its author, to the server and to every client, and stops nobody', async () => {
    const { alice, bob } = await castGroup(world, { bob: {} })
    await alice.group.rekey()
    await bob.group.sync()
    const { id: good } = await bob.group.put('good')
    const { head, epoch, id: group } = bob.group
    const { signer, id: author } = bob.actor.identity
    const object = asObjectId(randomBytes(16))
    const content = { dekCommitment: randomBytes(32), bodyHash: randomBytes(32), bodyLength: 0, metadata: randomBytes(64) }
    const at = { seq: head.seq, hash: randomBytes(32) as CommitHash }
    const header = await signHeader(signer, {
      v: 1,
      group,
      object,
      version: 1,
      generation: 1,
      epoch,
      at,
      author,
      previous: null,
      ...content,
    })
    const item = { header, seal: randomBytes(72), body: randomBytes(16), bodyId: null }
    const { results } = await bob.client.connection.request('object.put', { group, seq: head.seq, epoch, items: [item] })
    expect(results).toMatchObject([{ state: 'refused', code: 'bad_head' }])

    // The server lets it in all the same.
    const alarm = nextChange(alice.group, 'bad-item')
    const { hash } = decodeEnvelope(header)
    await world.sql('update groups set change_seq = change_seq + 1 where group_id = $1', [group])
    await world.sql(
      `insert into objects (group_id, object_id, version, generation, live, change_seq, header, header_hash, author, epoch, body)
       select $1, $2, 1, 1, true, change_seq, $3, $4, $5, $6, $7 from groups where group_id = $1`,
      [group, object, header, hash, author, epoch, item.body],
    )
    await alice.group.sync()
    expect(await alarm).toMatchObject({ signer: author, error: { code: 'bad_head' } })
    expect((await alice.group.list()).map(String)).toEqual([String(good)])
    const { id } = await bob.group.put('and goes on')
    expect(await (await alice.group.get(id)).text()).toBe('and goes on')
  })
})

describe('what members sign about the log', () => {
  test('everybody’s head is confirmed by the others, and by nobody who is out', async () => {
    const { alice, bob, carol } = await castGroup(world, { bob: {}, carol: {} })
    await eventually(() => alice.group.lastConfirmed().length === 2)
    expect(
      alice.group
        .lastConfirmed()
        .map(({ member }) => idKey(member))
        .sort(),
    ).toEqual([bob, carol].map(({ client }) => idKey(client.id)).sort())
    await alice.group.remove(carol.client.id)
    expect(alice.group.lastConfirmed().map(({ member }) => idKey(member))).toEqual([idKey(bob.client.id)])
    const again = await (await world.connect(bob.actor)).group(alice.group.id)
    await again.ready()
    await eventually(() => alice.group.lastConfirmed()[0]?.head.seq === alice.group.head.seq)
    expect(again.lastConfirmed().map(({ member }) => idKey(member))).toEqual([idKey(alice.client.id)])
  })
})
