import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { idKey } from '../../client/node/index.ts'
import type { WaitingJoiner } from '../../client/node/index.ts'
import { castGroup } from '../support/cast.ts'
import { nextChange, World } from '../support/world.ts'

let world: World
beforeAll(async () => {
  world = await World.start()
})
afterAll(() => world.close())

/** A promise, and how to keep it. */
function promised<T>(): { promise: Promise<T>; keep: (value: T) => void } {
  let keep: (value: T) => void = () => undefined
  const promise = new Promise<T>((resolve) => {
    keep = resolve
  })
  return { promise, keep }
}

describe('an invite that asks for approval', () => {
  test('A03: an admin and the joiner compare safety numbers, and the joiner comes in', async () => {
    const { alice, bob } = await castGroup(world, { bob: { role: 'admin' } })
    const { id } = await alice.group.put('for carol')
    const token = await alice.group.invite({ mode: 'approve', role: 'reader' })
    const requested = nextChange(alice.group, 'join-requested')
    const waiting = promised<WaitingJoiner>()
    const carol = await world.connect(await world.person('carol'))
    const joining = carol.join(token, { onWaiting: waiting.keep })
    const { safetyNumbers } = await waiting.promise
    await requested
    expect(safetyNumbers.map(({ admin }) => idKey(admin)).sort()).toEqual([alice, bob].map(({ client }) => idKey(client.id)).sort())

    const [request] = await alice.group.joinRequests()
    if (request === undefined) throw new RangeError('a request waits')
    const seen = safetyNumbers.find(({ admin }) => idKey(admin) === idKey(alice.client.id))?.number
    expect(await alice.group.safetyNumber(request)).toBe(seen)
    await alice.group.approve(request)
    const group = await joining
    expect(group.role).toBe('reader')
    expect(await group.safetyNumber(alice.client.id)).toBe(seen)
    expect(await (await group.get(id)).text()).toBe('for carol')
    expect(await alice.group.joinRequests()).toEqual([])
  })

  test('A03: a server that asks with its own keys in place of the joiner’s shows another safety number', async () => {
    const { alice } = await castGroup(world, {})
    const token = await alice.group.invite({ mode: 'approve', maxUses: 2 })
    const waiting = promised<WaitingJoiner>()
    const [carol, mallory] = [await world.connect(await world.person('carol')), await world.connect(await world.person('mallory'))]
    const stop = new AbortController()
    // The server has the token as well here: even so it is found out.
    const swapped = mallory.join(token, { signal: stop.signal, onWaiting: waiting.keep })
    await waiting.promise
    const [request] = await alice.group.joinRequests()
    if (request === undefined) throw new RangeError('a request waits')
    const shown = promised<WaitingJoiner>()
    const joining = carol.join(token, { signal: stop.signal, onWaiting: shown.keep })
    const { safetyNumbers } = await shown.promise
    expect(await alice.group.safetyNumber(request)).not.toBe(safetyNumbers[0]?.number)
    stop.abort()
    await expect(swapped).rejects.toMatchObject({ name: 'AbortError' })
    await expect(joining).rejects.toMatchObject({ name: 'AbortError' })
  })

  test('holds no key and shows no object before the approval', async () => {
    const { alice } = await castGroup(world, {})
    const { id } = await alice.group.put('not yet')
    const token = await alice.group.invite({ mode: 'approve' })
    const waiting = promised<WaitingJoiner>()
    const stop = new AbortController()
    const carol = await world.connect(await world.person('carol'))
    const joining = carol.join(token, { signal: stop.signal, onWaiting: waiting.keep })
    await waiting.promise
    const { connection } = carol
    const { id: group, epoch, head } = alice.group
    await expect(connection.request('object.get', { group, objects: [id], openPages: [] })).rejects.toMatchObject({
      code: 'not_authorised',
    })
    await expect(connection.request('feed.subscribe', { group, cursor: 0, seq: head.seq })).rejects.toMatchObject({
      code: 'not_authorised',
    })
    await expect(connection.request('join.requests', { group })).rejects.toMatchObject({ code: 'not_authorised' })
    const wraps = await world.sql('select 1 from wraps where group_id = $1 and epoch = $2', [group, epoch])
    expect(wraps).toHaveLength(1)
    stop.abort()
    await expect(joining).rejects.toMatchObject({ name: 'AbortError' })
  })

  test('that is revoked while somebody waits ends the wait', async () => {
    const { alice } = await castGroup(world, {})
    const token = await alice.group.invite({ mode: 'approve' })
    const waiting = promised<WaitingJoiner>()
    const carol = await world.connect(await world.person('carol'))
    const joining = carol.join(token, { onWaiting: waiting.keep })
    await waiting.promise
    const [invite] = alice.group.invites()
    if (invite !== undefined) await alice.group.revokeInvite(invite.id)
    await expect(joining).rejects.toMatchObject({ code: 'invite_spent' })
    expect(await alice.group.joinRequests()).toEqual([])
    expect(await carol.groups()).toEqual([])
  })

  test('lists nobody who is in already, and approving twice makes one member', async () => {
    const { alice, bob } = await castGroup(world, { bob: { role: 'admin' } })
    const token = await alice.group.invite({ mode: 'approve', maxUses: 5 })
    const waiting = promised<WaitingJoiner>()
    const carol = await world.connect(await world.person('carol'))
    const joining = carol.join(token, { onWaiting: waiting.keep })
    await waiting.promise
    await bob.group.sync()
    const requests = await Promise.all([alice.group.joinRequests(), bob.group.joinRequests()])
    const [[first], [second]] = requests
    if (first === undefined || second === undefined) throw new RangeError('a request waits')
    await Promise.all([alice.group.approve(first), bob.group.approve(second)])
    await joining
    await alice.group.sync()
    expect(alice.group.members().filter(({ id }) => idKey(id) === idKey(carol.id))).toHaveLength(1)
    expect(alice.group.invites()[0]?.uses).toBe(1)
    expect(await alice.group.joinRequests()).toEqual([])
  })

  test('waits through a lost connection', async () => {
    const { alice } = await castGroup(world, {})
    const token = await alice.group.invite({ mode: 'approve' })
    const mallory = await world.mallory()
    const waiting = promised<WaitingJoiner>()
    const carol = await world.connect(await world.person('carol'), { url: mallory.url })
    const joining = carol.join(token, { onWaiting: waiting.keep })
    await waiting.promise
    mallory.cut()
    const [request] = await alice.group.joinRequests()
    if (request !== undefined) await alice.group.approve(request)
    expect((await joining).role).toBe('member')
    expect(mallory.count('invite.open')).toBeGreaterThanOrEqual(1)
  })

  test('is shown by the token to nobody but admins, in every process', async () => {
    await world.addServer()
    const { alice, bob } = await castGroup(world, { bob: { options: { server: 1 } } })
    await alice.group.setRole(bob.client.id, 'admin')
    await bob.group.sync()
    const requested = nextChange(bob.group, 'join-requested')
    const token = await alice.group.invite({ mode: 'approve' })
    const carol = await world.connect(await world.person('carol'))
    const joining = carol.join(token)
    await requested
    const [request] = await bob.group.joinRequests()
    if (request !== undefined) await bob.group.approve(request)
    await joining
  })
})
