/**
 * Who may do what: every role with every op of the schema, against the table of the design.
 *
 * Each op stands in a commit that an admin could make, with a rekey where it needs one, so that nothing but the author’s
 * authority decides.
 */
import { describe, expect, test } from 'vitest'
import { useNodePublicCrypto } from '../../../platform/node/index.ts'
import { useNodeSecretCrypto } from '../../../platform/node/secret.ts'
import type { OpType } from '../../../shared/group/commit.ts'
import { OpSchema } from '../../../shared/group/commit.ts'
import type { Signer } from '../../../shared/crypto/signature.ts'
import type { Attempt } from '../../support/forge.ts'
import { Log, START_MS, inviteOf, inviteOp, ops } from '../../support/forge.ts'
import type { Person } from '../../support/people.ts'
import { people } from '../../support/people.ts'

useNodePublicCrypto()
useNodeSecretCrypto()

const HOUR_MS = 3_600_000
const cast = await people('alice', 'adam', 'bob', 'carol', 'dave', 'erin', 'frank', 'grace', 'mallory', 'newcomer')
const { alice, adam, bob, carol, dave, erin, frank, grace, mallory, newcomer } = cast
const [open, approve, expiredOpen, expiredApprove, next] = await Promise.all(
  ['open', 'approve', 'old open', 'old approve', 'next'].map(inviteOf),
)
if (open === undefined || approve === undefined || expiredOpen === undefined || expiredApprove === undefined || next === undefined)
  throw new Error('five invites')

const log = await Log.found(adam)
await log.commit({
  author: adam,
  ops: [
    ops.add(alice, 'admin'),
    ops.add(bob, 'member'),
    ops.add(carol, 'reader'),
    ops.add(dave, 'depositor'),
    ops.add(grace, 'member'),
    ops.add(erin, 'admin'),
    ops.add(frank, 'admin'),
  ],
})
await log.commit({
  author: adam,
  ops: [
    await inviteOp(log.state, adam, open, { maxUses: 10 }),
    await inviteOp(log.state, adam, approve, { mode: 'approve', maxUses: 10 }),
    await inviteOp(log.state, adam, expiredOpen, { expiresAt: START_MS + HOUR_MS }),
    await inviteOp(log.state, adam, expiredApprove, { mode: 'approve', expiresAt: START_MS + HOUR_MS }),
  ],
})
await log.commit({ author: frank, ops: [ops.leave()] })
await log.commit({ author: adam, ops: [ops.remove(erin)], rekey: 'fresh', time: START_MS + HOUR_MS + 1 })
const settled = log
const owed = log.fork()
await owed.commit({ author: grace, ops: [ops.leave()] })

type Who = 'admin' | 'member' | 'reader' | 'depositor' | 'removed' | 'left' | 'invite' | 'stranger'
const AUTHORS = {
  admin: alice,
  member: bob,
  reader: carol,
  depositor: dave,
  removed: erin,
  left: frank,
  invite: open,
  stranger: mallory,
} as const satisfies Readonly<Record<Who, { readonly signer: Signer }>>

interface Row {
  /** The op, or the way of using it. */
  readonly does: string
  readonly op: OpType | null
  readonly may: readonly Who[]
  readonly on?: Log
  readonly make: (author: { readonly signer: Signer }) => Promise<Omit<Attempt, 'author'>> | Omit<Attempt, 'author'>
}

const creator = (author: { readonly signer: Signer }): Person => Object.values(cast).find(({ signer }) => signer === author.signer) ?? alice

const ROWS: readonly Row[] = [
  { does: 'create', op: 'create', may: [], make: () => ({ ops: [ops.create(newcomer)], rekey: 'fresh' }) },
  {
    does: 'invite',
    op: 'invite',
    may: ['admin'],
    make: async (author) => ({ ops: [await inviteOp(settled.state, creator(author), next)] }),
  },
  { does: 'revoke an approve-mode invite', op: 'revoke-invite', may: ['admin'], make: () => ({ ops: [ops.revoke(approve)] }) },
  {
    does: 'revoke an open invite with a rekey',
    op: 'revoke-invite',
    may: ['admin'],
    make: () => ({ ops: [ops.revoke(open)], rekey: 'fresh' }),
  },
  {
    does: 'revoke an expired approve-mode invite',
    op: 'revoke-invite',
    may: ['admin', 'member', 'reader', 'depositor'],
    make: () => ({ ops: [ops.revoke(expiredApprove)] }),
  },
  {
    does: 'revoke an expired open invite with a rekey',
    op: 'revoke-invite',
    may: ['admin', 'member'],
    make: () => ({ ops: [ops.revoke(expiredOpen)], rekey: 'fresh' }),
  },
  { does: 'join', op: 'join', may: ['invite'], make: (author) => ({ ops: [ops.join(newcomer)], signers: [author, newcomer] }) },
  { does: 'approve', op: 'approve', may: ['admin'], make: () => ({ ops: [ops.approve(newcomer, approve)] }) },
  { does: 'add', op: 'add', may: ['admin'], make: () => ({ ops: [ops.add(newcomer, 'reader')] }) },
  { does: 'remove', op: 'remove', may: ['admin'], make: () => ({ ops: [ops.remove(grace)], rekey: 'fresh' }) },
  { does: 'leave', op: 'leave', may: ['admin', 'member', 'reader', 'depositor'], make: () => ({ ops: [ops.leave()] }) },
  { does: 'promote', op: 'set-role', may: ['admin'], make: () => ({ ops: [ops.setRole(grace, 'admin')] }) },
  { does: 'demote', op: 'set-role', may: ['admin'], make: () => ({ ops: [ops.setRole(grace, 'depositor')], rekey: 'fresh' }) },
  { does: 'retire an epoch', op: 'retire-epoch', may: ['admin'], make: () => ({ ops: [ops.retire(0)] }) },
  { does: 'rekey unasked', op: null, may: ['admin'], make: () => ({ rekey: 'fresh' }) },
  { does: 'settle an owed rekey', op: null, may: ['admin', 'member'], on: owed, make: () => ({ rekey: 'fresh' }) },
  {
    does: 'settle an owed rekey and revoke an expired invite',
    op: null,
    may: ['admin', 'member'],
    on: owed,
    make: () => ({ ops: [ops.revoke(expiredOpen)], rekey: 'fresh' }),
  },
  {
    does: 'settle an owed rekey and add',
    op: null,
    may: ['admin'],
    on: owed,
    make: () => ({ ops: [ops.add(newcomer, 'reader')], rekey: 'fresh' }),
  },
]

const MATRIX = ROWS.flatMap((row) =>
  Object.entries(AUTHORS).map(([who, author]) => ({
    row,
    who,
    author,
    verb: row.may.some((name) => name === who) ? 'may' : 'may not',
    does: row.does,
  })),
)

describe('authority at the parent', () => {
  test('is judged for every op of the schema', () => {
    const types = OpSchema._zod.def.options.flatMap((option) => [...option._zod.def.shape.type._zod.def.values])
    expect([...new Set(ROWS.flatMap(({ op }) => op ?? []))].toSorted()).toEqual(types.toSorted())
  })

  test.each(MATRIX)('$who $verb $does', async ({ row, author, verb }) => {
    const attempt: Attempt = { author, ...(await row.make(author)) }
    const on = row.on ?? settled
    if (verb === 'may') expect((await on.try(attempt)).state.head.seq).toBe(on.state.head.seq + 1)
    else expect((await on.refusal(attempt)).code).toBe('not_authorised')
  })

  test('is that of the parent: an admin who was demoted has none, whatever time the commit claims', async () => {
    const demoted = settled.fork()
    const prepared = { author: alice, ops: [ops.remove(bob)], rekey: 'fresh', time: START_MS } as const
    await demoted.commit({ author: adam, ops: [ops.setRole(alice, 'member')] })
    expect((await demoted.refusal(prepared)).data).toEqual({ rule: 'G10' })
    expect((await settled.try(prepared)).state.head.seq).toBe(settled.state.head.seq + 1)
  })

  test('is not gained within a commit: who is promoted in it does not author it', async () => {
    const error = await settled.refusal({ author: bob, ops: [ops.setRole(bob, 'admin'), ops.add(newcomer, 'admin')] })
    expect(error.code).toBe('not_authorised')
  })

  test('lasts to the end of the commit in which an admin steps down', async () => {
    const { state } = await settled.try({ author: alice, ops: [ops.setRole(alice, 'member'), ops.add(newcomer, 'admin')] })
    expect(state.roster.members.at(-1)?.role).toBe('admin')
  })
})
