import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { randomBytes } from '../../shared/crypto/public-crypto.ts'
import { kemKeyId } from '../../shared/crypto/keys.ts'
import type { Role } from '../../shared/group/commit.ts'
import { inviteSessionMessage } from '../../shared/group/invite-proof.ts'
import { asBodyId, asGroupId, asObjectId, asPageId } from '../../shared/ids.ts'
import type { MethodName } from '../../shared/protocol/messages.ts'
import { METHODS } from '../../shared/protocol/messages.ts'
import { inviteOf, inviteOp, ops } from '../support/forge.ts'
import { LiveGroup } from '../support/live-group.ts'
import type { Person } from '../support/people.ts'
import { people } from '../support/people.ts'
import type { RawClient } from '../support/raw-client.ts'
import { ServerStage } from '../support/server-stage.ts'

type Who = Role | 'guest' | 'removed' | 'left' | 'stranger'

let stage: ServerStage
let group: LiveGroup
const clients = new Map<Who, RawClient>()
const persons = new Map<Who, Person>()

beforeAll(async () => {
  stage = await ServerStage.start()
  const cast = await people('alice', 'bob', 'carol', 'dave', 'erin', 'frank', 'grace', 'mallory')
  const roles = {
    admin: cast.alice,
    member: cast.bob,
    reader: cast.carol,
    depositor: cast.dave,
    removed: cast.erin,
    left: cast.frank,
    guest: cast.grace,
    stranger: cast.mallory,
  }
  for (const [who, person] of Object.entries(roles)) {
    persons.set(who as Who, person)
    clients.set(who as Who, await stage.open(person))
  }
  const alice = clientOf('admin')
  group = await LiveGroup.found(alice, cast.alice)
  for (const role of ['member', 'reader', 'depositor'] as const)
    await group.commit(alice, { author: cast.alice, ops: [ops.add(roles[role], role)] })
  await group.commit(alice, { author: cast.alice, ops: [ops.add(cast.erin, 'member'), ops.add(cast.frank, 'member')] })
  await group.commit(alice, { author: cast.alice, ops: [ops.remove(cast.erin)], rekey: 'fresh' })
  await group.commit(clientOf('left'), { author: cast.frank, ops: [ops.leave()] })
  await group.commit(alice, { author: cast.alice, rekey: 'fresh' })
  const keys = await inviteOf('access')
  await group.commit(alice, {
    author: cast.alice,
    ops: [await inviteOp(group.state, cast.alice, keys, { expiresAt: Date.now() + 60_000 })],
  })
  await openInvite(clientOf('guest'))
})
afterAll(() => stage.close())

function clientOf(who: Who): RawClient {
  const client = clients.get(who)
  if (client === undefined) throw new RangeError(`${who} has no session`)
  return client
}

function personOf(who: Who): Person {
  const person = persons.get(who)
  if (person === undefined) throw new RangeError(`${who} is nobody`)
  return person
}

async function openInvite(client: RawClient): Promise<void> {
  const keys = await inviteOf('access')
  const invite = group.state.roster.invites.find(({ state }) => state === 'live')
  if (invite === undefined || client.hello === null) throw new Error('no invite')
  const message = inviteSessionMessage({ nonce: client.hello.nonce, host: client.host }, group.id, invite.id)
  await client.request('invite.open', { group: group.id, invite: invite.id, signature: await keys.signer.sign(message) })
}

/** Well-formed parameters of each method, so that only access can be what refuses them. */
function paramsOf(method: MethodName, who: Who): unknown {
  const { head, roster, group: id } = group.state
  const person = personOf(who)
  const own = roster.invites.find(({ state }) => state === 'live')
  const recipient = kemKeyId(who === 'guest' && own !== undefined ? own.kemKey : person.kemPrivateKey.publicKey)
  const at = { group: id, seq: head.seq, epoch: roster.epoch }
  const bodyId = asBodyId(new Uint8Array(16))
  const object = asObjectId(new Uint8Array(16).fill(9))
  switch (method) {
    case 'log.read':
      return { group: id, from: 0 }
    case 'log.snapshot':
      return { kind: 'at', group: id, seq: 0 }
    case 'log.inclusion':
      return { group: id, seq: 0, size: 1 }
    case 'epoch.read':
      return { group: id, epoch: roster.epoch, recipient, downTo: 0 }
    case 'wrap.read':
      return { group: id, epoch: roster.epoch, recipients: [] }
    case 'wrap.request':
      return { group: id, epoch: roster.epoch, recipient }
    case 'feed.subscribe':
      return { group: id, cursor: 0, seq: 0 }
    case 'object.put':
      return { ...at, items: [{ header: new Uint8Array(8), seal: null, body: null, bodyId: null }] }
    case 'object.get':
      return { group: id, objects: [object], openPages: [] }
    case 'object.headers':
      return { group: id, objects: [object] }
    case 'dek.fallback':
      return { group: id, object, generation: 1 }
    case 'dek.reseal':
      return { ...at, object, generation: 1, seal: new Uint8Array(72) }
    case 'body.begin':
      return { group: id, bodyId: asBodyId(randomBytes(16)) }
    case 'body.write':
      return { group: id, bodyId, part: 0, offset: 0, data: new Uint8Array(1), last: true }
    case 'body.complete':
      return { group: id, bodyId, hashes: new Uint8Array(32) }
    case 'body.read':
    case 'body.hashes':
      return { group: id, bodyId, offset: 0, bytes: 1 }
    case 'pages.range':
      return { group: id, lo: new Uint8Array(0), pages: 1 }
    case 'pages.replace':
      return {
        group: id,
        epoch: roster.epoch,
        replaced: [{ lo: new Uint8Array(0), pageId: asPageId(randomBytes(16)) }],
        absorbed: new Uint8Array(0),
        pages: [
          {
            lo: new Uint8Array(0),
            hi: null,
            pageId: asPageId(randomBytes(16)),
            epoch: roster.epoch,
            entries: new Uint8Array(0),
            sealed: new Uint8Array(0),
          },
        ],
      }
    case 'rewrap.start':
      return { group: id, epoch: roster.epoch }
    case 'dek.report':
      return { group: id, epoch: roster.epoch, deks: [] }
    default:
      return { group: id }
  }
}

const everybody: readonly Who[] = ['admin', 'member', 'reader', 'depositor', 'guest', 'removed', 'left', 'stranger']
const keyHolders: readonly Who[] = ['admin', 'member', 'reader']

/** Who may call what. Methods that answer to more than membership (commits, invites, heads) have tests of their own. */
const MAY: Partial<Record<MethodName, readonly Who[]>> = {
  'log.head': ['admin', 'member', 'reader', 'depositor', 'guest'],
  'log.read': ['admin', 'member', 'reader', 'depositor', 'guest'],
  'log.snapshot': ['admin', 'member', 'reader', 'depositor', 'guest'],
  'log.inclusion': ['admin', 'member', 'reader', 'depositor', 'guest'],
  'epoch.read': ['admin', 'member', 'reader', 'guest'],
  'wrap.read': keyHolders,
  'wrap.request': ['admin', 'member', 'reader', 'guest'],
  'wrap.requests': keyHolders,
  'join.requests': ['admin'],
  'head.list': ['admin', 'member', 'reader', 'depositor'],
  'feed.subscribe': ['admin', 'member', 'reader', 'depositor'],
  'object.put': ['admin', 'member'],
  'object.get': keyHolders,
  'object.headers': keyHolders,
  'dek.fallback': keyHolders,
  'dek.reseal': ['admin', 'member'],
  'body.begin': ['admin', 'member'],
  'body.write': ['admin', 'member'],
  'body.complete': ['admin', 'member'],
  'body.read': keyHolders,
  'body.hashes': keyHolders,
  'pages.range': ['admin'],
  'pages.replace': ['admin'],
  'rewrap.start': ['admin'],
  'rewrap.status': keyHolders,
  'dek.report': ['admin'],
}

const REFUSAL: Record<Who, string> = {
  admin: '',
  member: 'not_authorised',
  reader: 'not_authorised',
  depositor: 'not_authorised',
  guest: 'not_authorised',
  removed: 'not_a_member',
  left: 'not_a_member',
  stranger: 'unknown_group',
}

/** Codes with which access is refused; anything else came after it. */
const ACCESS_CODES = ['not_authorised', 'not_a_member', 'unknown_group']

const cases = Object.entries(MAY).flatMap(([method, allowed]) =>
  everybody.map((who) => ({ method: method as MethodName, who, allowed: allowed.includes(who) })),
)

describe('access', () => {
  it.each(cases)('$method by $who: $allowed', async ({ method, who, allowed }) => {
    const outcome = await clientOf(who)
      .ask(method, paramsOf(method, who))
      .then(
        () => 'done',
        (error: { readonly code: string }) => error.code,
      )
    if (allowed) expect(ACCESS_CODES).not.toContain(outcome)
    else expect(outcome).toBe(REFUSAL[who])
  })

  it('a group that does not exist looks like one of others', async () => {
    const [none, others] = await Promise.all([
      clientOf('stranger').refusal('log.head', { group: asGroupId(randomBytes(32)) }),
      clientOf('stranger').refusal('log.head', { group: group.id }),
    ])
    expect([none.code, none.message, none.data]).toEqual([others.code, others.message, others.data])
  })

  it('nobody reads the wraps of another key as their own', async () => {
    const recipient = kemKeyId(personOf('admin').kemPrivateKey.publicKey)
    for (const who of ['member', 'guest'] as const) {
      expect(
        (await clientOf(who).refusal('epoch.read', { group: group.id, epoch: group.state.roster.epoch, recipient, downTo: 0 })).code,
      ).toBe('not_authorised')
    }
  })

  it('an invite opens nothing without its key', async () => {
    const invite = group.state.roster.invites.find(({ state }) => state === 'live')
    const client = clientOf('stranger')
    const refusal = await client.refusal('invite.open', { group: group.id, invite: invite?.id, signature: new Uint8Array(64) })
    expect(refusal.code).toBe('invite_invalid')
    expect((await client.refusal('log.head', { group: group.id })).code).toBe('unknown_group')
  })

  it('an invite opens nothing for a removed member', async () => {
    await expect(openInvite(clientOf('removed'))).rejects.toMatchObject({ code: 'not_a_member' })
  })

  it('every method is in the table, or said to be elsewhere', () => {
    const elsewhere: MethodName[] = [
      'session.ping',
      'identity.read',
      'group.list',
      'group.create',
      'commit.submit',
      'invite.open',
      'join.request',
      'head.sign',
      'wrap.offer',
      'link.offer',
      'feed.unsubscribe',
    ]
    expect([...Object.keys(MAY), ...elsewhere].sort()).toEqual(Object.keys(METHODS).sort())
  })

  it('parameters that are not well-formed are refused before anything else, and the session goes on', async () => {
    const client = clientOf('stranger')
    for (const method of Object.keys(METHODS) as MethodName[]) {
      expect((await client.refusal(method, { nonsense: true })).code).toBe('malformed')
    }
    expect((await client.refusal('no.such', {})).code).toBe('unknown_method')
    expect((await client.refusal('toString', {})).code).toBe('unknown_method')
    expect(client.closedFor).toBe(null)
  })
})
