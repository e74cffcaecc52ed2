/**
 * Every numbered rule: a commit that only this rule refuses, validly signed, beside a twin that is accepted.
 */
import { describe, expect, test } from 'vitest'
import { useNodePublicCrypto } from '../../../platform/node/index.ts'
import { useNodeSecretCrypto } from '../../../platform/node/secret.ts'
import { asKemPublicKey, asSigningPublicKey } from '../../../shared/crypto/keys.ts'
import { createCard } from '../../../shared/group/card.ts'
import type { CommitPayload } from '../../../shared/group/commit.ts'
import { OpSchema } from '../../../shared/group/commit.ts'
import type { GroupState } from '../../../shared/group/fold.ts'
import type { InviteKeys } from '../../../shared/group/invite.ts'
import type { Roster } from '../../../shared/group/roster.ts'
import { sameBytes } from '../../../shared/group/roster.ts'
import { COMMIT_RULES, FOLD_RULES, OP_RULES, RESULT_RULES } from '../../../shared/group/rules.ts'
import { asIdentityId, asInviteId } from '../../../shared/ids.ts'
import * as limits from '../../../shared/limits.ts'
import type { Attempt } from '../../support/forge.ts'
import { START_MS, applyUnchanged, anyHash, forge, freshEpoch, inviteOf, inviteOp, Log, ops, refusalOf } from '../../support/forge.ts'
import { cardWith, people, personWith, rotated } from '../../support/people.ts'

useNodePublicCrypto()
useNodeSecretCrypto()

const HOUR_MS = 3_600_000
const cast = await people('alice', 'adam', 'bob', 'carol', 'dave', 'erin', 'frank', 'grace', 'heidi', 'mallory')
const { alice, adam, bob, carol, dave, erin, frank, grace, heidi, mallory } = cast
const frankRotated = await rotated(frank, 'frank the second')
const frankElsewhere = await rotated(frank, 'frank’s thief')
const names = ['open', 'approve', 'expired open', 'expired approve', 'spent', 'revoked', 'new'] as const
const invites = Object.fromEntries(await Promise.all(names.map(async (name) => [name, await inviteOf(name)] as const))) as Readonly<
  Record<(typeof names)[number], InviteKeys>
>

/** Alice and adam are admins, bob a member, carol a reader, dave a depositor; erin was removed, frank left, grace is there to be acted upon. */
async function foundWorld(): Promise<Log> {
  const log = await Log.found(alice)
  await log.commit({
    author: alice,
    ops: [
      ops.add(adam, 'admin'),
      ops.add(bob, 'member'),
      ops.add(carol, 'reader'),
      ops.add(dave, 'depositor'),
      ops.add(erin, 'member'),
      ops.add(frankRotated, 'member'),
      ops.add(grace, 'member'),
    ],
  })
  const soon = START_MS + HOUR_MS
  const { state } = log
  await log.commit({
    author: alice,
    ops: [
      await inviteOp(state, alice, invites.open, { maxUses: 10 }),
      await inviteOp(state, alice, invites.approve, { mode: 'approve', maxUses: 10 }),
      await inviteOp(state, alice, invites['expired open'], { expiresAt: soon, maxUses: 2 }),
      await inviteOp(state, alice, invites['expired approve'], { mode: 'approve', expiresAt: soon }),
      await inviteOp(state, alice, invites.spent, { role: 'reader' }),
      await inviteOp(state, alice, invites.revoked, { mode: 'approve' }),
    ],
  })
  await log.commit({ author: invites.spent, ops: [ops.join(heidi)], signers: [invites.spent, heidi] })
  await log.commit({ author: frankRotated, ops: [ops.leave()] })
  await log.commit({ author: alice, ops: [ops.revoke(invites.revoked), ops.remove(erin)], rekey: 'fresh' })
  return log
}

const world = await foundWorld()
/** The same group after the two short invites have expired. */
const later = world.fork()
await later.commit({ author: alice, ops: [ops.setRole(heidi, 'member')], time: START_MS + HOUR_MS + 1 })
/** The same group while a rekey is owed. */
const owed = later.fork()
await owed.commit({ author: grace, ops: [ops.leave()] })
const solo = await Log.found(alice)
const soloWithBob = solo.fork()
await soloWithBob.commit({ author: alice, ops: [ops.add(bob, 'member')] })

interface Try {
  readonly state: GroupState | null
  readonly attempt: Attempt
}
type Make = () => Promise<Try> | Try

const on = (log: Log, attempt: Attempt): Try => ({ state: log.state, attempt })
const withRoster = (log: Log, change: Partial<Roster>): GroupState => ({ ...log.state, roster: { ...log.roster, ...change } })

interface Case {
  /** What the rule refuses, each by itself. */
  readonly refuses: Readonly<Record<string, Make>>
  /** What differs from it only in what the rule is about. */
  readonly accepts: Readonly<Record<string, Make>>
}

const smallOrder = asKemPublicKey(new Uint8Array(32))
const membersUpTo = (count: number): Roster['members'] => {
  const [some] = world.roster.members
  if (some === undefined) throw new RangeError('the world has members')
  const others = Array.from({ length: count - world.roster.members.length }, () => ({
    ...some,
    state: 'left' as const,
    id: asIdentityId(anyHash()),
    signingKey: asSigningPublicKey(anyHash()),
    kemKey: asKemPublicKey(anyHash()),
    segments: [],
  }))
  return [...world.roster.members, ...others]
}
const invitesUpTo = (log: Log, count: number, state: 'live' | 'spent'): Roster['invites'] => {
  const [first] = log.roster.invites
  if (first === undefined) throw new RangeError('the world has invites')
  const fill = Array.from({ length: count - log.roster.invites.length }, () => ({
    ...first,
    state,
    mode: 'approve' as const,
    id: asInviteId(anyHash()),
    signingKey: asSigningPublicKey(anyHash()),
    kemKey: asKemPublicKey(anyHash()),
  }))
  return [...log.roster.invites.map((invite) => ({ ...invite, state })), ...fill]
}

const join = (invite: InviteKeys, person: typeof bob): Attempt => ({ author: invite, ops: [ops.join(person)], signers: [invite, person] })
const invite = async (log: Log, change: Parameters<typeof inviteOp>[3], keys: InviteKeys = invites.new): Promise<Attempt> => ({
  author: alice,
  ops: [await inviteOp(log.state, alice, keys, change)],
})
const genesis = async (change: Partial<CommitPayload>, author = alice): Promise<Try> => ({
  state: null,
  attempt: { author, ops: [ops.create(alice)], rekey: (await freshEpoch(null)).rekey, payload: change },
})
const impostor = await personWith('mallory with bob’s KEM key', mallory.signer, bob.kemPrivateKey)
const newcomer = mallory

const enrolments = (byAdmin: (person: typeof bob) => Attempt) => ({
  present: {
    refuses: { 'an active member': () => on(world, byAdmin(bob)) },
    accepts: { 'a newcomer': () => on(world, byAdmin(newcomer)), 'somebody who was removed': () => on(world, byAdmin(erin)) },
  },
  keys: {
    refuses: {
      'a KEM key of a member': () => on(world, byAdmin(impostor)),
      'the signing key of a removed member on a new card': async () =>
        on(world, byAdmin(await personWith('erin anew', erin.signer, newcomer.kemPrivateKey))),
    },
    accepts: { 'new keys': () => on(world, byAdmin(newcomer)), 'the own keys of who returns': () => on(world, byAdmin(frankRotated)) },
  },
  card: {
    refuses: {
      'the card before the last one seen': () => on(world, byAdmin(frank)),
      'another card of the same revision': () => on(world, byAdmin(frankElsewhere)),
      'a chain that leaves the known one before the last card seen': async () =>
        on(world, byAdmin(await rotated(frankElsewhere, 'frank’s thief again'))),
    },
    accepts: {
      'the card seen last': () => on(world, byAdmin(frankRotated)),
      'a newer card': async () => on(world, byAdmin(await rotated(frankRotated, 'frank the third'))),
    },
  },
  room: {
    refuses: {
      'one member too many': () => ({ state: withRoster(world, { members: membersUpTo(limits.MEMBERS_MAX) }), attempt: byAdmin(newcomer) }),
    },
    accepts: {
      'the last member there is room for': () => ({
        state: withRoster(world, { members: membersUpTo(limits.MEMBERS_MAX - 1) }),
        attempt: byAdmin(newcomer),
      }),
    },
  },
})
const byJoin = enrolments((person) => join(invites.open, person))
const byApproval = enrolments((person) => ({ author: alice, ops: [ops.approve(person, invites.approve)] }))
const byAdding = enrolments((person) => ({ author: alice, ops: [ops.add(person, 'member')] }))

const CASES: Readonly<Record<string, Case>> = {
  G01: {
    refuses: {
      'a commit on an older parent': () =>
        on(world, { author: alice, ops: [ops.setRole(bob, 'reader')], payload: { seq: 3, parent: world.hashes[2] ?? null } }),
      'a parent of another history': () =>
        on(world, { author: alice, ops: [ops.setRole(bob, 'reader')], payload: { parent: solo.state.head.hash } }),
      'the right parent under the wrong number': () =>
        on(world, { author: alice, ops: [ops.setRole(bob, 'reader')], payload: { seq: world.state.head.seq + 2 } }),
      'no parent': () => on(world, { author: alice, ops: [ops.setRole(bob, 'reader')], payload: { parent: null } }),
      'a second genesis': async () => ({ ...(await genesis({ seq: 0, parent: null, epoch: 0 })), state: solo.state }),
    },
    accepts: { 'the head as parent': () => on(world, { author: alice, ops: [ops.setRole(bob, 'reader')] }) },
  },
  G02: {
    refuses: {
      'a suite that nobody raised': () => on(world, { author: alice, rekey: 'fresh', payload: { suite: 2 } }),
      'suite 0': () => on(world, { author: alice, rekey: 'fresh', payload: { suite: 0 } }),
    },
    accepts: { 'the suite of the genesis': () => on(world, { author: alice, rekey: 'fresh', payload: { suite: 1 } }) },
  },
  G03: {
    refuses: {
      'a skipped epoch': () => on(world, { author: alice, rekey: 'fresh', payload: { epoch: world.roster.epoch + 2 } }),
      'the same epoch opened again': () => on(world, { author: alice, rekey: 'fresh', payload: { epoch: world.roster.epoch } }),
      'a new epoch without a rekey': () =>
        on(world, { author: alice, ops: [ops.setRole(bob, 'reader')], payload: { epoch: world.roster.epoch + 1 } }),
    },
    accepts: {
      'the next epoch with a rekey': () => on(world, { author: alice, rekey: 'fresh' }),
      'the same epoch without one': () => on(world, { author: alice, ops: [ops.setRole(bob, 'reader')] }),
    },
  },
  G04: {
    refuses: {
      'a stranger': () => on(world, { author: mallory, ops: [ops.setRole(bob, 'reader')] }),
      'a removed member': () => on(world, { author: erin, ops: [ops.leave()] }),
      'a former member': () => on(world, { author: frankRotated, ops: [ops.leave()] }),
      'the replaced key of a member': () => on(world, { author: frank, ops: [ops.leave()] }),
      'a spent invite': () => on(world, join(invites.spent, mallory)),
      'a revoked invite': () => on(world, join(invites.revoked, mallory)),
    },
    accepts: {
      'an active member': () => on(world, { author: bob, ops: [ops.leave()] }),
      'a live invite': () => on(world, join(invites.open, mallory)),
    },
  },
  G05: {
    refuses: {
      'an invite that adds': () => on(world, { author: invites.open, ops: [ops.add(mallory, 'member')] }),
      'an invite that joins and promotes': () =>
        on(world, { author: invites.open, ops: [ops.join(mallory), ops.setRole(mallory, 'admin')], signers: [invites.open, mallory] }),
      'an invite that joins twice': () =>
        on(world, { author: invites.open, ops: [ops.join(mallory), ops.join(frankRotated)], signers: [invites.open, mallory] }),
      'an invite that leaves': () => on(world, { author: invites.open, ops: [ops.leave()] }),
      'an invite that creates': () => on(world, { author: invites.open, ops: [ops.create(mallory)] }),
      'an invite that only rekeys': () => on(owed, { author: invites.open, rekey: 'fresh' }),
    },
    accepts: { 'an invite that joins once': () => on(world, join(invites.open, mallory)) },
  },
  G06: {
    refuses: {
      'a member that joins by their own key': () => on(world, { author: bob, ops: [ops.join(mallory)], signers: [bob, mallory] }),
      'an admin that joins somebody': () => on(world, { author: alice, ops: [ops.join(mallory)], signers: [alice, mallory] }),
      'an admin that creates again': () => on(world, { author: alice, ops: [ops.create(alice)], rekey: 'fresh' }),
    },
    accepts: {
      'an invite that joins': () => on(world, join(invites.open, mallory)),
      'an admin that adds': () => on(world, { author: alice, ops: [ops.add(mallory, 'member')] }),
    },
  },
  G07: {
    refuses: {
      'leaving and inviting': async () => on(world, { author: adam, ops: [ops.leave(), await inviteOp(world.state, adam, invites.new)] }),
      'leaving and demoting': () => on(world, { author: adam, ops: [ops.setRole(bob, 'reader'), ops.leave()] }),
      'leaving twice': () => on(world, { author: adam, ops: [ops.leave(), ops.leave()] }),
      'retiring and adding': () => on(world, { author: alice, ops: [ops.retire(0), ops.add(mallory, 'member')] }),
    },
    accepts: {
      'leaving alone': () => on(world, { author: adam, ops: [ops.leave()] }),
      'retiring alone': () => on(world, { author: alice, ops: [ops.retire(0)] }),
      'two ops that may stand together': () => on(world, { author: alice, ops: [ops.setRole(bob, 'reader'), ops.add(mallory, 'member')] }),
    },
  },
  G08: {
    refuses: { 'a commit that does nothing': () => on(world, { author: alice }) },
    accepts: { 'a commit that only rekeys': () => on(world, { author: alice, rekey: 'fresh' }) },
  },
  G09: {
    refuses: {
      'promoting and removing one member': () =>
        on(world, { author: alice, ops: [ops.setRole(bob, 'admin'), ops.remove(bob)], rekey: 'fresh' }),
      'removing one member twice': () => on(world, { author: alice, ops: [ops.remove(bob), ops.remove(bob)], rekey: 'fresh' }),
      'removing and adding one member': () => on(world, { author: alice, ops: [ops.remove(bob), ops.add(bob, 'admin')], rekey: 'fresh' }),
      'adding one newcomer twice': () => on(world, { author: alice, ops: [ops.add(mallory, 'reader'), ops.add(mallory, 'admin')] }),
      'adding and approving one newcomer': () =>
        on(world, { author: alice, ops: [ops.add(mallory, 'reader'), ops.approve(mallory, invites.approve)] }),
      'making and revoking one invite': async () =>
        on(world, { author: alice, ops: [await inviteOp(world.state, alice, invites.new), ops.revoke(invites.new)], rekey: 'fresh' }),
      'making one invite twice': async () =>
        on(world, {
          author: alice,
          ops: [await inviteOp(world.state, alice, invites.new), await inviteOp(world.state, alice, invites.new)],
        }),
    },
    accepts: {
      'ops on several members': () =>
        on(world, { author: alice, ops: [ops.setRole(bob, 'admin'), ops.remove(carol), ops.add(mallory, 'reader')], rekey: 'fresh' }),
      'two approvals through one invite': () =>
        on(world, { author: alice, ops: [ops.approve(mallory, invites.approve), ops.approve(frankRotated, invites.approve)] }),
    },
  },
  G10: {
    refuses: {
      'a member that rekeys unasked': () => on(world, { author: bob, rekey: 'fresh' }),
      'a reader that settles': () => on(owed, { author: carol, rekey: 'fresh' }),
      'a depositor that settles': () => on(owed, { author: dave, rekey: 'fresh' }),
      'a member that settles and adds': () => on(owed, { author: bob, ops: [ops.add(mallory, 'member')], rekey: 'fresh' }),
      'a member that settles and leaves': () => on(owed, { author: bob, ops: [ops.leave()], rekey: 'fresh' }),
      'a member that settles and revokes what has not expired': () =>
        on(owed, { author: bob, ops: [ops.revoke(invites.open)], rekey: 'fresh' }),
      'a member that rekeys for an invite that has not expired': () =>
        on(world, { author: bob, ops: [ops.revoke(invites['expired open'])], rekey: 'fresh' }),
      'a reader that revokes an expired invite with a rekey': () =>
        on(later, { author: carol, ops: [ops.revoke(invites['expired open'])], rekey: 'fresh' }),
      'an invite that joins with a rekey': () => on(world, { ...join(invites.open, mallory), rekey: 'fresh' }),
    },
    accepts: {
      'an admin, any time': () => on(world, { author: alice, rekey: 'fresh' }),
      'a member when one is owed': () => on(owed, { author: bob, rekey: 'fresh' }),
      'a member that settles and revokes an expired invite': () =>
        on(owed, { author: bob, ops: [ops.revoke(invites['expired open'])], rekey: 'fresh' }),
      'a member that revokes an expired invite': () =>
        on(later, { author: bob, ops: [ops.revoke(invites['expired open'])], rekey: 'fresh' }),
    },
  },
  G11: {
    refuses: {
      'a link to the epoch that is opened': async () =>
        on(world, {
          author: alice,
          rekey: { ...(await freshEpoch(world.state)).rekey, link: { to: world.roster.epoch + 1, hash: anyHash() } },
        }),
      'a link to a retired epoch': async () => {
        const retired = world.fork()
        await retired.commit({ author: alice, ops: [ops.retire(0)] })
        return on(retired, { author: alice, rekey: { ...(await freshEpoch(world.state)).rekey, link: { to: 0, hash: anyHash() } } })
      },
    },
    accepts: {
      'a link to the epoch before': () => on(world, { author: alice, rekey: 'fresh' }),
      'a link over an epoch that its author cannot open': async () =>
        on(world, { author: alice, rekey: { ...(await freshEpoch(world.state)).rekey, link: { to: 0, hash: anyHash() } } }),
      'no link': async () => on(world, { author: alice, rekey: { ...(await freshEpoch(world.state)).rekey, link: null } }),
    },
  },
  G12: {
    refuses: {
      'an admin that leaves and chooses the next secret': () => on(world, { author: adam, ops: [ops.leave()], rekey: 'fresh' }),
      'retiring with a rekey': () => on(world, { author: alice, ops: [ops.retire(0)], rekey: 'fresh' }),
    },
    accepts: { 'leaving without a rekey': () => on(world, { author: adam, ops: [ops.leave()] }) },
  },
  G13: {
    refuses: {
      'a deposit key of small order': async () =>
        on(world, { author: alice, rekey: { ...(await freshEpoch(world.state)).rekey, depositKey: smallOrder } }),
      'a deposit key that is not canonical': async () =>
        on(world, {
          author: alice,
          rekey: { ...(await freshEpoch(world.state)).rekey, depositKey: asKemPublicKey(new Uint8Array(32).fill(0xff)) },
        }),
      'a genesis with a deposit key of small order': async () => ({
        state: null,
        attempt: { author: alice, ops: [ops.create(alice)], rekey: { ...(await freshEpoch(null)).rekey, depositKey: smallOrder } },
      }),
    },
    accepts: { 'a sound deposit key': () => on(world, { author: alice, rekey: 'fresh' }), 'a genesis with a sound one': () => genesis({}) },
  },
  G21: {
    refuses: { 'a member that invites': async () => on(world, { author: bob, ops: [await inviteOp(world.state, bob, invites.new)] }) },
    accepts: { 'an admin that invites': () => invite(world, {}).then((attempt) => on(world, attempt)) },
  },
  G22: {
    refuses: {
      'an invite for admins': () => invite(world, { role: 'admin' }).then((attempt) => on(world, attempt)),
      'an approve-mode invite for admins': () => invite(world, { role: 'admin', mode: 'approve' }).then((attempt) => on(world, attempt)),
    },
    accepts: { 'an invite for members': () => invite(world, { role: 'member' }).then((attempt) => on(world, attempt)) },
  },
  G23: {
    refuses: {
      'no uses': () => invite(world, { maxUses: 0 }).then((attempt) => on(world, attempt)),
      'a millisecond more than the longest life': async () =>
        on(world, {
          ...(await invite(world, { expiresAt: world.roster.logTime + 1000 + limits.INVITE_TTL_MS_MAX + 1 })),
          time: world.roster.logTime + 1000,
        }),
    },
    accepts: {
      'the most uses': () => invite(world, { maxUses: limits.INVITE_USES_MAX }).then((attempt) => on(world, attempt)),
      'one use': () => invite(world, { maxUses: 1 }).then((attempt) => on(world, attempt)),
      'the longest life': async () =>
        on(world, {
          ...(await invite(world, { expiresAt: world.roster.logTime + 1000 + limits.INVITE_TTL_MS_MAX })),
          time: world.roster.logTime + 1000,
        }),
    },
  },
  G24: {
    refuses: {
      'a KEM key of small order': () =>
        invite(world, {}, { ...invites.new, kem: { ...invites.new.kem, publicKey: smallOrder } }).then((attempt) => on(world, attempt)),
      'a signing key that is no point': () =>
        invite(
          world,
          {},
          { ...invites.new, signer: { ...invites.new.signer, publicKey: asSigningPublicKey(new Uint8Array(32).fill(2)) } },
        ).then((attempt) => on(world, attempt)),
      'the identity as signing key': () =>
        invite(
          world,
          {},
          {
            ...invites.new,
            signer: {
              ...invites.new.signer,
              publicKey: asSigningPublicKey(Uint8Array.from({ length: 32 }, (_, index) => (index === 0 ? 1 : 0))),
            },
          },
        ).then((attempt) => on(world, attempt)),
    },
    accepts: { 'sound keys': () => invite(world, {}).then((attempt) => on(world, attempt)) },
  },
  G25: {
    refuses: {
      'the KEM key of a member': () => invite(world, {}, { ...invites.new, kem: bob.kemPrivateKey }).then((attempt) => on(world, attempt)),
      'the signing key of a removed member': () =>
        invite(world, {}, { ...invites.new, signer: erin.signer }).then((attempt) => on(world, attempt)),
      'the keys of a dead invite': () => invite(world, {}, invites.revoked).then((attempt) => on(world, attempt)),
      'the KEM key of a live invite': () =>
        invite(world, {}, { ...invites.new, kem: invites.open.kem }).then((attempt) => on(world, attempt)),
    },
    accepts: { 'new keys': () => invite(world, {}).then((attempt) => on(world, attempt)) },
  },
  G26: {
    refuses: {
      'one live invite too many': async () => ({
        state: withRoster(world, { invites: invitesUpTo(world, limits.LIVE_INVITES_MAX, 'live') }),
        attempt: await invite(world, {}),
      }),
      'one invite too many in the group’s life': async () => ({
        state: withRoster(world, { invites: invitesUpTo(world, limits.INVITES_MAX, 'spent') }),
        attempt: await invite(world, {}),
      }),
    },
    accepts: {
      'the last live invite there is room for': async () => ({
        state: withRoster(world, { invites: invitesUpTo(world, limits.LIVE_INVITES_MAX - 1, 'live') }),
        attempt: await invite(world, {}),
      }),
      'the last invite there is room for': async () => ({
        state: withRoster(world, { invites: invitesUpTo(world, limits.INVITES_MAX - 1, 'spent') }),
        attempt: await invite(world, {}),
      }),
    },
  },
  G27: {
    refuses: {
      'revoking what is revoked': () => on(world, { author: alice, ops: [ops.revoke(invites.revoked)] }),
      'revoking what is spent': () => on(world, { author: alice, ops: [ops.revoke(invites.spent)] }),
      'revoking what never was': () => on(world, { author: alice, ops: [ops.revoke(invites.new)] }),
      'revoking what the removal before it has killed': () =>
        on(world, { author: adam, ops: [ops.remove(alice), ops.revoke(invites.open)], rekey: 'fresh' }),
    },
    accepts: {
      'revoking what is live': () => on(world, { author: alice, ops: [ops.revoke(invites.approve)] }),
      'revoking it before the removal that would kill it': () =>
        on(world, { author: adam, ops: [ops.revoke(invites.open), ops.remove(alice)], rekey: 'fresh' }),
    },
  },
  G28: {
    refuses: {
      'a member that revokes an invite of somebody else': () => on(world, { author: bob, ops: [ops.revoke(invites.approve)] }),
      'a member that revokes one about to expire': () =>
        on(world, { author: bob, ops: [ops.revoke(invites['expired approve'])], time: START_MS + HOUR_MS }),
    },
    accepts: {
      'an admin that revokes an invite of another admin': () => on(world, { author: adam, ops: [ops.revoke(invites.approve)] }),
      'a reader that revokes one that has expired': () => on(later, { author: carol, ops: [ops.revoke(invites['expired approve'])] }),
      'a member whose own commit says that it has expired': () =>
        on(world, { author: bob, ops: [ops.revoke(invites['expired approve'])], time: START_MS + HOUR_MS + 1 }),
    },
  },
  G29: {
    refuses: { 'a join through an approve-mode invite': () => on(world, join(invites.approve, mallory)) },
    accepts: { 'a join through an open one': () => on(world, join(invites.open, mallory)) },
  },
  G30: {
    refuses: {
      'a join after the expiry by the log’s time': () => on(later, { ...join(invites['expired open'], mallory), time: START_MS }),
      'a join after the expiry by its own time': () =>
        on(world, { ...join(invites['expired open'], mallory), time: START_MS + HOUR_MS + 1 }),
    },
    accepts: { 'a join at the last millisecond': () => on(world, { ...join(invites['expired open'], mallory), time: START_MS + HOUR_MS }) },
  },
  G31: {
    refuses: {
      'a removed member that comes back by a token': () => on(world, join(invites.open, erin)),
      'one who left, was removed then and comes back by a token': async () => {
        const out = world.fork()
        await out.commit({ author: alice, ops: [ops.remove(frank)], rekey: 'fresh' })
        return on(out, join(invites.open, frankRotated))
      },
    },
    accepts: { 'one who left by themselves': () => on(world, join(invites.open, frankRotated)) },
  },
  G32: { ...byJoin.present, accepts: { 'a newcomer': () => on(world, join(invites.open, newcomer)) } },
  G33: byJoin.keys,
  G34: byJoin.card,
  G35: byJoin.room,
  G36: {
    refuses: { 'a member that approves': () => on(world, { author: bob, ops: [ops.approve(mallory, invites.approve)] }) },
    accepts: { 'an admin that approves': () => on(world, { author: alice, ops: [ops.approve(mallory, invites.approve)] }) },
  },
  G37: {
    refuses: {
      'an approval through an open invite': () => on(world, { author: alice, ops: [ops.approve(mallory, invites.open)] }),
      'an approval through a revoked invite': () => on(world, { author: alice, ops: [ops.approve(mallory, invites.revoked)] }),
      'an approval through no invite': () => on(world, { author: alice, ops: [ops.approve(mallory, invites.new)] }),
      'one approval more than it has uses': () =>
        on(world, {
          author: alice,
          ops: [ops.approve(mallory, invites['expired approve']), ops.approve(frankRotated, invites['expired approve'])],
        }),
    },
    accepts: {
      'an approval through a live approve-mode invite': () =>
        on(world, { author: alice, ops: [ops.approve(mallory, invites['expired approve'])] }),
    },
  },
  G38: {
    refuses: {
      'an approval after the expiry': () => on(later, { author: alice, ops: [ops.approve(mallory, invites['expired approve'])] }),
    },
    accepts: {
      'an approval at the last millisecond': () =>
        on(world, { author: alice, ops: [ops.approve(mallory, invites['expired approve'])], time: START_MS + HOUR_MS }),
    },
  },
  G39: byApproval.present,
  G40: byApproval.keys,
  G41: byApproval.card,
  G42: byApproval.room,
  G43: {
    refuses: { 'a member that adds': () => on(world, { author: bob, ops: [ops.add(mallory, 'reader')] }) },
    accepts: { 'an admin that adds': () => on(world, { author: alice, ops: [ops.add(mallory, 'reader')] }) },
  },
  G44: byAdding.present,
  G45: byAdding.keys,
  G46: byAdding.card,
  G47: byAdding.room,
  G48: {
    refuses: {
      // A rekey of their own would be refused for G10 first.
      'a member that removes': () => on(world, { author: bob, ops: [ops.remove(grace)] }),
      'a reader that removes': () => on(world, { author: carol, ops: [ops.remove(grace)] }),
    },
    accepts: { 'an admin that removes': () => on(world, { author: alice, ops: [ops.remove(grace)], rekey: 'fresh' }) },
  },
  G49: {
    refuses: {
      'removing whom is removed': () => on(world, { author: alice, ops: [ops.remove(erin)], rekey: 'fresh' }),
      'removing whom never was': () => on(world, { author: alice, ops: [ops.remove(mallory)], rekey: 'fresh' }),
    },
    accepts: {
      'removing a member': () => on(world, { author: alice, ops: [ops.remove(bob)], rekey: 'fresh' }),
      'removing whom has left': () => on(world, { author: alice, ops: [ops.remove(frank)], rekey: 'fresh' }),
      'removing whom has left with others': () => on(world, { author: alice, ops: [ops.remove(bob), ops.remove(frank)], rekey: 'fresh' }),
    },
  },
  G50: {
    refuses: { 'removing oneself': () => on(world, { author: alice, ops: [ops.remove(alice)], rekey: 'fresh' }) },
    accepts: { 'being removed by another admin': () => on(world, { author: adam, ops: [ops.remove(alice)], rekey: 'fresh' }) },
  },
  G51: {
    refuses: {
      'a removal without a rekey': () => on(world, { author: alice, ops: [ops.remove(bob)] }),
      'a removal of a depositor without one': () => on(world, { author: alice, ops: [ops.remove(dave)] }),
      'a removal of one who has left without one': () => on(world, { author: alice, ops: [ops.remove(frank)] }),
    },
    accepts: { 'a removal with one': () => on(world, { author: alice, ops: [ops.remove(bob)], rekey: 'fresh' }) },
  },
  G53: {
    refuses: {
      'a member that promotes themselves': () => on(world, { author: bob, ops: [ops.setRole(bob, 'admin')] }),
      'a member that demotes': () => on(world, { author: bob, ops: [ops.setRole(alice, 'member')] }),
    },
    accepts: { 'an admin that promotes': () => on(world, { author: alice, ops: [ops.setRole(bob, 'admin')] }) },
  },
  G54: {
    refuses: {
      'the role of a removed member': () => on(world, { author: alice, ops: [ops.setRole(erin, 'reader')] }),
      'the role of a stranger': () => on(world, { author: alice, ops: [ops.setRole(mallory, 'reader')] }),
    },
    accepts: { 'the role of a member': () => on(world, { author: alice, ops: [ops.setRole(bob, 'reader')] }) },
  },
  G55: {
    refuses: { 'the role that somebody has': () => on(world, { author: alice, ops: [ops.setRole(bob, 'member')] }) },
    accepts: { 'another role': () => on(world, { author: alice, ops: [ops.setRole(bob, 'reader')] }) },
  },
  G56: {
    refuses: { 'a member that retires': () => on(world, { author: bob, ops: [ops.retire(0)] }) },
    accepts: { 'an admin that retires': () => on(world, { author: alice, ops: [ops.retire(0)] }) },
  },
  G57: {
    refuses: {
      'the current epoch': () => on(world, { author: alice, ops: [ops.retire(world.roster.epoch)] }),
      'an epoch yet to come': () => on(world, { author: alice, ops: [ops.retire(world.roster.epoch + 1)] }),
      'a retired epoch': async () => {
        const retired = world.fork()
        await retired.commit({ author: alice, ops: [ops.retire(0)] })
        return on(retired, { author: alice, ops: [ops.retire(0)] })
      },
    },
    accepts: { 'the one before the current': () => on(world, { author: alice, ops: [ops.retire(world.roster.epoch - 1)] }) },
  },
  G60: {
    refuses: {
      'revoking an open invite without a rekey': () => on(world, { author: alice, ops: [ops.revoke(invites.open)] }),
      'making a depositor of a reader without a rekey': () => on(world, { author: alice, ops: [ops.setRole(carol, 'depositor')] }),
      'demoting who has a live open invite without a rekey': () => on(world, { author: adam, ops: [ops.setRole(alice, 'member')] }),
      'revoking an open invite while a rekey is owed already': () => on(owed, { author: alice, ops: [ops.revoke(invites.open)] }),
    },
    accepts: {
      'revoking an open invite with a rekey': () => on(world, { author: alice, ops: [ops.revoke(invites.open)], rekey: 'fresh' }),
      'making a depositor with a rekey': () => on(world, { author: alice, ops: [ops.setRole(carol, 'depositor')], rekey: 'fresh' }),
      'demoting to a role that reads on': () => on(world, { author: alice, ops: [ops.setRole(bob, 'reader')] }),
      'demoting who has a live open invite with a rekey': () =>
        on(world, { author: adam, ops: [ops.setRole(alice, 'member')], rekey: 'fresh' }),
      'leaving, which makes one owed': () => on(world, { author: bob, ops: [ops.leave()] }),
    },
  },
  G61: {
    refuses: {
      'the only admin that leaves': () => on(soloWithBob, { author: alice, ops: [ops.leave()] }),
      'the only admin that steps down': () => on(soloWithBob, { author: alice, ops: [ops.setRole(alice, 'member')] }),
      'the last of all that leaves': () => on(solo, { author: alice, ops: [ops.leave()] }),
      'an admin that removes the others and steps down': () =>
        on(world, { author: alice, ops: [ops.remove(adam), ops.setRole(alice, 'member')], rekey: 'fresh' }),
    },
    accepts: {
      'one of two admins that leaves': () => on(world, { author: alice, ops: [ops.leave()] }),
      'the only admin that appoints another and steps down': () =>
        on(soloWithBob, { author: alice, ops: [ops.setRole(bob, 'admin'), ops.setRole(alice, 'member')] }),
    },
  },
  G62: {
    refuses: {
      'an admin that becomes a depositor and opens the next epoch': () =>
        on(world, { author: adam, ops: [ops.setRole(adam, 'depositor')], rekey: 'fresh' }),
    },
    accepts: {
      'an admin that becomes a reader and opens the next epoch': () =>
        on(world, { author: adam, ops: [ops.setRole(adam, 'reader')], rekey: 'fresh' }),
    },
  },
  G63: {
    refuses: { 'one epoch too many': () => ({ state: withEpochs(limits.LIVE_EPOCHS_MAX), attempt: { author: alice, rekey: 'fresh' } }) },
    accepts: {
      'the last epoch there is room for': () => ({
        state: withEpochs(limits.LIVE_EPOCHS_MAX - 1),
        attempt: { author: alice, rekey: 'fresh' },
      }),
    },
  },
  G64: {
    refuses: {
      'one segment of a member too many': () => ({ state: withSegmentsOfBob(limits.SEGMENTS_PER_MEMBER_MAX), attempt: demotion }),
      'one segment too many in the group': () => ({ state: withSegments(limits.SEGMENTS_MAX), attempt: demotion }),
      'a newcomer past the last segment': () => ({
        state: withSegments(limits.SEGMENTS_MAX),
        attempt: { author: alice, ops: [ops.add(mallory, 'reader')] },
      }),
    },
    accepts: {
      'the last segment a member has room for': () => ({
        state: withSegmentsOfBob(limits.SEGMENTS_PER_MEMBER_MAX - 1),
        attempt: demotion,
      }),
      'the last segment there is room for': () => ({ state: withSegments(limits.SEGMENTS_MAX - 1), attempt: demotion }),
      'a removal of whom there is no more room for': () => ({
        state: withSegmentsOfBob(limits.SEGMENTS_PER_MEMBER_MAX),
        attempt: { author: alice, ops: [ops.remove(bob)], rekey: 'fresh' },
      }),
      'leaving where there is no more room': () => ({
        state: withSegments(limits.SEGMENTS_MAX),
        attempt: { author: bob, ops: [ops.leave()] },
      }),
    },
  },
  G70: {
    refuses: {
      'no create': async () => ({
        state: null,
        attempt: { author: alice, ops: [ops.add(alice, 'admin')], rekey: (await freshEpoch(null)).rekey },
      }),
      'no op': () => genesis({ ops: [] }),
      'a create and an add': () => genesis({ ops: [ops.create(alice), ops.add(bob, 'admin')] }),
      'two creates': () => genesis({ ops: [ops.create(alice), ops.create(bob)] }),
      'a parent': () => genesis({ parent: solo.state.head.hash }),
      'a number past 0': () => genesis({ seq: 1 }),
      'an epoch past 0': () => genesis({ epoch: 1 }),
      'no rekey': () => genesis({ rekey: null }),
      'a link': async () => genesis({ rekey: { ...(await freshEpoch(null)).rekey, link: { to: 0, hash: anyHash() } } }),
      'a suite that nobody knows': () => genesis({ suite: 7 }),
      'a card of somebody else': () => genesis({}, bob),
    },
    accepts: { 'one create that opens epoch 0': () => genesis({}) },
  },
  G71: {
    refuses: {
      'any other roster hash': () => on(world, { author: alice, ops: [ops.setRole(bob, 'reader')], payload: { roster: anyHash() } }),
      'the roster hash of the commit before': () =>
        on(world, { author: alice, ops: [ops.setRole(bob, 'reader')], payload: { roster: new Uint8Array(32) } }),
      'any other roster hash in the genesis': () => genesis({ roster: anyHash() }),
    },
    accepts: { 'the hash that the fold gives': () => on(world, { author: alice, ops: [ops.setRole(bob, 'reader')] }) },
  },
  G72: {
    refuses: {
      'a second signature by another admin': () => on(world, { author: alice, ops: [ops.setRole(bob, 'reader')], signers: [alice, adam] }),
      'a join without the joiner’s': () => on(world, { author: invites.open, ops: [ops.join(mallory)], signers: [invites.open] }),
      'a genesis with two': async () => {
        const made = await genesis({})
        return { ...made, attempt: { ...made.attempt, signers: [alice, bob] } }
      },
    },
    accepts: {
      'one by the author': () => on(world, { author: alice, ops: [ops.setRole(bob, 'reader')] }),
      'invite and joiner in a join': () => on(world, join(invites.open, mallory)),
    },
  },
}

/** What adds one segment. */
const demotion: Attempt = { author: alice, ops: [ops.setRole(bob, 'reader')] }

function pastSegments(count: number): Roster['members'][number]['segments'] {
  return Array.from({ length: count }, (_, seq) => ({
    fromSeq: seq,
    toSeq: seq + 1,
    role: 'member' as const,
    signingKey: bob.signer.publicKey,
  }))
}

function withSegmentsOfBob(count: number): GroupState {
  const members = world.roster.members.map((member) => {
    if (!sameBytes(member.id, bob.id)) return member
    return { ...member, segments: [...pastSegments(count - member.segments.length), ...member.segments] }
  })
  return withRoster(world, { members })
}

/** So many in all: former members have most of them, nobody more than one member may. */
function withSegments(count: number): GroupState {
  let left = count - world.roster.members.reduce((sum, { segments }) => sum + segments.length, 0)
  const crowd = membersUpTo(world.roster.members.length + Math.ceil(left / limits.SEGMENTS_PER_MEMBER_MAX))
  const members = crowd.map((member, index) => {
    if (index < world.roster.members.length) return member
    const segments = pastSegments(Math.min(left, limits.SEGMENTS_PER_MEMBER_MAX))
    left -= segments.length
    return { ...member, segments }
  })
  return withRoster(world, { members })
}

function withEpochs(count: number): GroupState {
  const current = world.roster.epochs.at(-1)
  if (current === undefined) throw new RangeError('the world has an epoch')
  const epochs = Array.from({ length: count }, (_, index) => ({ ...current, epoch: index }))
  return withRoster(world, { epochs, epoch: count - 1, retiredThrough: -1 })
}

/** Rules that an earlier rule shadows in every commit; they stand for the day the earlier one changes. */
const SHADOWED: Readonly<Record<string, { by: readonly string[]; holds: () => boolean }>> = {
  G20: { by: ['G05', 'G06'], holds: () => OP_RULES.create.onlyInGenesis.holds({} as never) },
  G52: {
    by: ['G05'],
    holds: () => OP_RULES.leave.authorIsMember.holds({ commit: { author: { kind: 'invite' } } } as never),
  },
}

const RULES = [
  ...Object.values(COMMIT_RULES),
  ...Object.values(OP_RULES).flatMap((table) => Object.values(table)),
  ...Object.values(RESULT_RULES),
  ...Object.values(FOLD_RULES),
]
const codeByNumber = new Map(RULES.map(({ number, code }) => [number, code]))

describe('the rules', () => {
  test('have one number each, and each number has a case here', () => {
    const numbers = RULES.map(({ number }) => number)
    expect(new Set(numbers).size).toBe(numbers.length)
    expect([...Object.keys(CASES), ...Object.keys(SHADOWED)].toSorted()).toEqual(numbers.toSorted())
  })

  test('are there for every op of the schema', () => {
    const types = OpSchema._zod.def.options.flatMap((option) => [...option._zod.def.shape.type._zod.def.values])
    expect(types.toSorted()).toEqual(Object.keys(OP_RULES).toSorted())
  })
})

describe.each(Object.entries(CASES))('%s', (number, { refuses, accepts }) => {
  test.each(Object.entries(refuses))(`${number} refuses %s`, async (_, make) => {
    const { state, attempt } = await make()
    const error = await refusalOf(state, await forge(state, attempt))
    expect(error.data).toEqual({ rule: number })
    expect(error.code).toBe(codeByNumber.get(number))
  })

  test.each(Object.entries(accepts))(`${number} accepts %s`, async (_, make) => {
    const { state, attempt } = await make()
    const { state: after } = await applyUnchanged(state, await forge(state, attempt))
    expect(after.head.seq).toBe(state === null ? 0 : state.head.seq + 1)
  })
})

describe.each(Object.entries(SHADOWED))('%s', (number, { holds }) => {
  test(`${number} does not hold by itself either`, () => {
    expect(holds()).toBe(false)
  })
})

describe('signatures', () => {
  test('of the author must be by the author’s key', async () => {
    const error = await world.refusal({ author: alice, ops: [ops.setRole(bob, 'reader')], signers: [mallory] })
    expect(error.code).toBe('invalid_signature')
  })

  test('of the joiner must be by the key of the joiner’s card', async () => {
    const error = await world.refusal({ author: invites.open, ops: [ops.join(mallory)], signers: [invites.open, invites.open] })
    expect(error.code).toBe('invalid_signature')
  })

  test('of invite and joiner do not change places', async () => {
    const error = await world.refusal({ author: invites.open, ops: [ops.join(mallory)], signers: [mallory, invites.open] })
    expect(error.code).toBe('invalid_signature')
  })

  test('an invite without the proof of its own key is refused', async () => {
    const op = await inviteOp(world.state, alice, invites.new)
    const forged = {
      ...op,
      proof: (
        await inviteOp(world.state, alice, { ...invites.new, signer: { ...mallory.signer, publicKey: invites.new.signer.publicKey } })
      ).proof,
    }
    expect((await world.refusal({ author: alice, ops: [forged] })).code).toBe('invalid_signature')
  })

  test.each(['role', 'mode', 'expiresAt', 'maxUses'] as const)('an invite whose %s its key did not sign is refused', async (field) => {
    const op = await inviteOp(world.state, alice, invites.new)
    const changed = { ...op, role: 'reader', mode: 'approve', expiresAt: op.expiresAt - 1, maxUses: 2 } as const
    expect((await world.refusal({ author: alice, ops: [{ ...op, [field]: changed[field] }] })).code).toBe('invalid_signature')
  })

  test('the proof of an invite does not serve another creator or another group', async () => {
    const another = await inviteOp(world.state, adam, invites.new)
    expect((await world.refusal({ author: alice, ops: [another] })).code).toBe('invalid_signature')
    const elsewhere = await inviteOp(solo.state, alice, invites.new)
    expect((await world.refusal({ author: alice, ops: [elsewhere] })).code).toBe('invalid_signature')
  })

  test('a card signed by somebody else is refused, and a rotation without the old key’s word', async () => {
    const stolen = {
      cards: [
        await createCard({
          signer: { publicKey: bob.signer.publicKey, sign: (message) => mallory.signer.sign(message) },
          kemKey: mallory.kemPrivateKey.publicKey,
        }),
      ],
    }
    const unknown = await Log.found(alice)
    expect((await unknown.refusal({ author: alice, ops: [ops.add(stolen, 'member')] })).code).toBe('invalid_signature')
    const usurped = await rotated({ ...frank, signer: mallory.signer }, 'frank usurped')
    expect((await unknown.refusal({ author: alice, ops: [ops.add(usurped, 'member')] })).code).toBe('invalid_signature')
  })

  test.each([
    ['of small order', smallOrder],
    ['not canonical', new Uint8Array(32).fill(0xff)],
  ] as const)('a card with a KEM key %s is refused', async (_, kemKey) => {
    const cards = [await cardWith(mallory.signer, kemKey)]
    expect((await world.refusal({ author: alice, ops: [ops.add({ cards }, 'member')] })).code).toBe('invalid_key')
  })
})
