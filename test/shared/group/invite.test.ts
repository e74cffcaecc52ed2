/**
 * Invite tokens: what they say, what is refused, and that no error repeats them.
 */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { useNodePublicCrypto } from '../../../platform/node/index.ts'
import { useNodeSecretCrypto } from '../../../platform/node/secret.ts'
import { fromBase64Url, toBase64Url, toHex } from '../../../shared/bytes.ts'
import { encodeCanonical } from '../../../shared/codec.ts'
import { verifySignature } from '../../../shared/crypto/signature.ts'
import { encodeToken, generateInviteSecret, inviteKeys, parseToken, planInvite } from '../../../shared/group/invite.ts'
import type { InviteToken } from '../../../shared/group/invite.ts'
import { inviteIdOf, inviteProofMessage, inviteSessionMessage } from '../../../shared/group/invite-proof.ts'
import { asCommitHash, asGroupId } from '../../../shared/ids.ts'
import { authenticationMessage } from '../../../shared/protocol/authentication.ts'
import { Log, inviteOp, ops } from '../../support/forge.ts'
import { people, seedOf } from '../../support/people.ts'

useNodePublicCrypto()
useNodeSecretCrypto()

const { alice, bob } = await people('alice', 'bob')
const token: InviteToken = {
  v: 1,
  server: 'wss://claviger.example/socket',
  group: asGroupId(seedOf('hash', 'group')),
  at: { seq: 3, hash: asCommitHash(seedOf('hash', 'commit')) },
  secret: seedOf('invite', 'secret'),
}
const text = encodeToken(token)

/** Everything an error shows: message, cause, stack and fields. */
function told(action: () => unknown): string {
  try {
    action()
  } catch (error) {
    if (!(error instanceof Error)) throw error
    return JSON.stringify([error.message, error.stack, error.cause, { ...error }])
  }
  throw new Error('nothing was refused')
}

describe('a token', () => {
  test('is text for the part of a URL that is not sent, and says what went in', () => {
    expect(text).toMatch(/^clv1\.[A-Za-z0-9_-]+$/)
    expect(new URL(`https://example.org/#${text}`).hash).toBe(`#${text}`)
    expect(parseToken(text)).toEqual(token)
  })

  test('of any parts parses to the same parts', () => {
    const bytes32 = fc.uint8Array({ minLength: 32, maxLength: 32 })
    fc.assert(
      fc.property(fc.string({ maxLength: 60 }), bytes32, bytes32, fc.maxSafeNat(), bytes32, (server, group, commit, seq, secret) => {
        const any: InviteToken = { v: 1, server, group: asGroupId(group), at: { seq, hash: asCommitHash(commit) }, secret }
        expect(parseToken(encodeToken(any))).toEqual(any)
      }),
      { numRuns: 100 },
    )
  })

  test.each([
    ['nothing', ''],
    ['a word', 'hello'],
    ['another version', `clv2.${text.slice(5)}`],
    ['no prefix', text.slice(5)],
    ['a space in front', ` ${text}`],
    ['a line break behind', `${text}\n`],
    ['padding', `${text}==`],
    ['characters of plain base64', `${text.slice(0, -1)}+`],
    ['half of it', text.slice(0, 60)],
    ['one character more', `${text}A`],
    ['a trailing byte', `clv1.${toBase64Url(Uint8Array.from([...fromBase64Url(text.slice(5)), 0]))}`],
    ['an unknown field', `clv1.${toBase64Url(encodeCanonical({ ...token, role: 'admin' }))}`],
    ['a missing field', `clv1.${toBase64Url(encodeCanonical({ v: 1, server: token.server, group: token.group, secret: token.secret }))}`],
    ['a secret of 16 bytes', `clv1.${toBase64Url(encodeCanonical({ ...token, secret: token.secret.subarray(16) }))}`],
    ['another number in front', `clv1.${toBase64Url(encodeCanonical({ ...token, v: 2 }))}`],
    ['a server past its limit', `clv1.${toBase64Url(encodeCanonical({ ...token, server: 'x'.repeat(257) }))}`],
    ['far too long', `clv1.${'A'.repeat(2000)}`],
  ])('that is %s is refused', (_, bad) => {
    expect(() => parseToken(bad)).toThrow(expect.objectContaining({ code: 'invite_invalid' }))
  })

  test('A30 A65 stands in no error, nor does its secret, in any encoding', () => {
    for (let index = 5; index < text.length; index += 1) {
      const bad = `${text.slice(0, index)}!${text.slice(index + 1)}`
      const shown = told(() => parseToken(bad))
      for (const part of [
        bad,
        text,
        text.slice(5, 60),
        text.slice(-40),
        toHex(token.secret),
        toBase64Url(token.secret),
        [...token.secret].join(','),
      ])
        expect(shown).not.toContain(part)
    }
  })

  test('with any character changed is refused or says something else', () => {
    for (let index = 0; index < text.length; index += 1) {
      const other = text[index] === 'A' ? 'B' : 'A'
      const changed = text.slice(0, index) + other + text.slice(index + 1)
      try {
        expect(parseToken(changed)).not.toEqual(token)
      } catch (error) {
        expect(error).toMatchObject({ code: 'invite_invalid' })
      }
    }
  })

  test.each([
    ['longer than its limit', 'x'.repeat(257)],
    ['longer in bytes than a token has room for', '€'.repeat(256)],
  ])('for a server %s is not made, rather than made and refused later', (_, server) => {
    expect(() => encodeToken({ ...token, server })).toThrow(RangeError)
  })
})

describe('the keys behind a token', () => {
  test('A47 come from 32 random bytes that differ each time', () => {
    const secrets = Array.from({ length: 1000 }, generateInviteSecret)
    expect(secrets.every(({ length }) => length === 32)).toBe(true)
    expect(new Set(secrets.map(toHex)).size).toBe(1000)
    // Each of the 256 bits is set in about half of them: 1000 fair coins stay within 400 and 600 but once in 10^9.
    for (let bit = 0; bit < 256; bit += 1) {
      const set = secrets.filter((secret) => ((secret[bit >> 3] ?? 0) >> (bit & 7)) & 1).length
      expect(set).toBeGreaterThan(400)
      expect(set).toBeLessThan(600)
    }
  })

  test('are the same each time for one secret, and others for another', async () => {
    const [once, again, other] = await Promise.all([
      inviteKeys(token.secret, 1),
      inviteKeys(Uint8Array.from(token.secret), 1),
      inviteKeys(seedOf('invite', 'other'), 1),
    ])
    expect(again.id).toEqual(once.id)
    expect(again.kem.publicKey).toEqual(once.kem.publicKey)
    expect(other.signer.publicKey).not.toEqual(once.signer.publicKey)
    expect(other.kem.publicKey).not.toEqual(once.kem.publicKey)
    expect(once.id).toEqual(inviteIdOf(once.signer.publicKey))
  })

  test('A48 do not show the secret: nothing of it is in the op', async () => {
    const log = await Log.found(alice)
    const keys = await inviteKeys(token.secret, 1)
    const op = await inviteOp(log.state, alice, keys)
    const bytes = toHex(encodeCanonical(op))
    for (let index = 0; index + 4 <= 32; index += 1) expect(bytes).not.toContain(toHex(token.secret.subarray(index, index + 4)))
  })

  test('are not made from a secret of another length', async () => {
    await expect(inviteKeys(token.secret.subarray(1), 1)).rejects.toThrow(TypeError)
  })
})

describe('the proof of an invite', () => {
  const terms = { role: 'member', mode: 'open', expiresAt: 1, maxUses: 1 } as const
  const at = { group: token.group, creator: alice.id }

  test('is its own key’s word on group, creator and terms', async () => {
    const keys = await inviteKeys(token.secret, 1)
    const { proof, type, ...signed } = await planInvite(keys, terms, at)
    expect(type).toBe('invite')
    expect(await verifySignature(keys.signer.publicKey, inviteProofMessage(at.group, at.creator, signed), proof)).toBe(true)
    for (const change of [
      { role: 'reader' },
      { mode: 'approve' },
      { expiresAt: 2 },
      { maxUses: 2 },
      { kemKey: bob.kemPrivateKey.publicKey },
    ] as const)
      expect(await verifySignature(keys.signer.publicKey, inviteProofMessage(at.group, at.creator, { ...signed, ...change }), proof)).toBe(
        false,
      )
    expect(await verifySignature(keys.signer.publicKey, inviteProofMessage(at.group, bob.id, signed), proof)).toBe(false)
    expect(
      await verifySignature(keys.signer.publicKey, inviteProofMessage(asGroupId(seedOf('hash', 'other')), at.creator, signed), proof),
    ).toBe(false)
  })

  test('is accepted by the fold in a group', async () => {
    const log = await Log.found(alice)
    const keys = await inviteKeys(token.secret, 1)
    const op = await planInvite(keys, { ...terms, expiresAt: log.roster.logTime + 1000 }, { group: log.state.group, creator: alice.id })
    await log.commit({ author: alice, ops: [op, ops.add(bob, 'member')] })
    expect(log.roster.invites.length).toBe(1)
  })
})

describe('what opens a session', () => {
  const binding = { nonce: seedOf('hash', 'nonce'), host: 'claviger.example:443' }

  test('differs with nonce, host, identity, group and invite, and between identities and invites', () => {
    const invite = inviteIdOf(bob.signer.publicKey)
    const messages = [
      authenticationMessage({ ...binding, identity: alice.id }),
      authenticationMessage({ ...binding, identity: bob.id }),
      authenticationMessage({ ...binding, host: 'mallory.example:443', identity: alice.id }),
      authenticationMessage({ ...binding, nonce: seedOf('hash', 'another nonce'), identity: alice.id }),
      inviteSessionMessage(binding, token.group, invite),
      inviteSessionMessage(binding, asGroupId(seedOf('hash', 'other')), invite),
      inviteSessionMessage({ ...binding, host: 'mallory.example:443' }, token.group, invite),
      inviteSessionMessage(binding, token.group, inviteIdOf(alice.signer.publicKey)),
    ]
    expect(new Set(messages.map(toHex)).size).toBe(messages.length)
  })
})
