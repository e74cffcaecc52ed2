import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { toHex } from '../../shared/bytes.ts'
import { randomBytes } from '../../shared/crypto/public-crypto.ts'
import { openDatabase } from '../../server/storage/database.ts'
import { listAudit } from '../../server/storage/audit.ts'
import type { Person } from '../support/people.ts'
import { people, personWith, rotated } from '../support/people.ts'
import { RawClient } from '../support/raw-client.ts'
import { ServerStage } from '../support/server-stage.ts'
import { eventually } from '../support/world.ts'

let stage: ServerStage
let alice: Person
let bob: Person
let mallory: Person

beforeAll(async () => {
  stage = await ServerStage.start({ limits: { authenticationFailuresPerMinute: 1000 } })
  await stage.addServer({ limits: { authenticationFailuresPerMinute: 1000 } })
  ;({ alice, bob, mallory } = await people('alice', 'bob', 'mallory'))
})
afterAll(() => stage.close())

/** What the server says to a claim. */
async function refusalOf(make: (client: RawClient) => Promise<unknown>): Promise<{ code: string | undefined; closedFor: unknown }> {
  const client = await stage.dial()
  client.send(await make(client))
  await client.until(() => client.closedFor !== null)
  return { code: client.complaints[0]?.code, closedFor: client.closedFor }
}

describe('signing in', () => {
  it('an identity is welcome that signs the nonce with its card’s key', async () => {
    const client = await stage.open(alice)
    expect(await client.request('group.list', {})).toEqual({ groups: [] })
  })

  it('anybody with a session reads the cards behind an id', async () => {
    const client = await stage.open(bob)
    await stage.open(alice)
    const { cards } = await client.request('identity.read', { identity: alice.id })
    expect(cards.map(toHex)).toEqual(alice.cards.map(toHex))
    expect((await client.refusal('identity.read', { identity: randomBytes(32) })).code).toBe('not_found')
  })

  it('a claim signed for another session is refused', async () => {
    const other = await stage.dial()
    const refusal = await refusalOf(() => other.claim(alice))
    expect(refusal).toEqual({ code: 'authentication_failed', closedFor: 'unauthenticated' })
  })

  it('a claim signed for another server is refused', async () => {
    expect((await refusalOf((client) => client.claim(alice, { signedHost: 'evil.example' }))).code).toBe('authentication_failed')
  })

  it('a claim with somebody else’s cards is refused', async () => {
    const refusal = await refusalOf((client) => client.claim({ ...mallory, id: alice.id, cards: alice.cards }))
    expect(refusal.code).toBe('authentication_failed')
  })

  it('a claim whose identity is not that of its cards is refused', async () => {
    expect((await refusalOf((client) => client.claim({ ...mallory, id: alice.id }))).code).toBe('authentication_failed')
  })

  it('cards that do not verify are refused', async () => {
    const [card = new Uint8Array(0)] = alice.cards
    const broken = Uint8Array.from(card)
    broken[broken.length - 1] = (broken[broken.length - 1] ?? 0) ^ 1
    expect((await refusalOf((client) => client.claim({ ...alice, cards: [broken] }))).code).toBe('invalid_signature')
  })

  it('another identity with the same signing key is refused', async () => {
    await stage.open(alice)
    const twin = await personWith('alice', alice.signer, bob.kemPrivateKey)
    expect((await refusalOf((client) => client.claim(twin))).code).toBe('authentication_failed')
  })

  it('failures stand in the audit table, without the claim', async () => {
    await refusalOf((client) => client.claim(mallory, { signedHost: 'evil.example' }))
    const database = openDatabase(stage.database.url)
    try {
      await eventually(async () => {
        const entries = await listAudit(database, null, { before: new Date(Date.now() + 1000), limit: 100 })
        return entries.some(
          ({ kind, principal, detail }) =>
            kind === 'authentication-failed' && principal !== null && Object.keys(detail).join() === 'code,address',
        )
      })
    } finally {
      await database.close()
    }
  })
})

describe('replaced keys', () => {
  it('end the sessions that authenticated with the old ones, in every process', async () => {
    const { carol } = await people('carol')
    const old = await stage.open(carol)
    const elsewhere = await stage.open(carol, { server: 1 })
    const renewed = await rotated(carol, 'carol, second key')
    const current = await stage.open(renewed)
    await Promise.all([old, elsewhere].map((client) => client.until(() => client.closedFor === 'forbidden')))
    expect(current.closedFor).toBe(null)
    expect((await refusalOf((client) => client.claim(carol))).code).toBe('authentication_failed')
  })

  it('do not come in by a chain that leaves the known one', async () => {
    const { dave } = await people('dave')
    await stage.open(await rotated(dave, 'dave, second key'))
    const stolen = await rotated(await rotated(dave, 'mallory’s key for dave'), 'mallory’s second key for dave')
    expect((await refusalOf((client) => client.claim(stolen))).code).toBe('authentication_failed')
  })
})

describe('addresses', () => {
  it('that fail too often are turned away before anything is verified', async () => {
    const strict = await stage.addServer({ limits: { authenticationFailuresPerMinute: 3 } })
    for (let count = 0; count < 3; count += 1) {
      const client = await RawClient.dial(strict.url)
      await client.signIn(mallory, { signedHost: 'evil.example' })
      expect(client.complaints[0]?.code).toBe('authentication_failed')
    }
    const client = await RawClient.dial(strict.url)
    await client.signIn(alice)
    expect([client.complaints[0]?.code, client.closedFor]).toEqual(['rate_limited', 'rateLimited'])
  })
})
