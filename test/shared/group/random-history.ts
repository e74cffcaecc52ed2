/**
 * Random histories: people who try things, most of them allowed, some not.
 */
import fc from 'fast-check'
import type { Role } from '../../../shared/group/commit.ts'
import type { Fold } from '../../../shared/group/fold.ts'
import type { InviteKeys } from '../../../shared/group/invite.ts'
import type { Roster } from '../../../shared/group/roster.ts'
import { sameBytes } from '../../../shared/group/roster.ts'
import { ClavigerError } from '../../../shared/errors.ts'
import type { Attempt } from '../../support/forge.ts'
import { Log, inviteOf, inviteOp, ops } from '../../support/forge.ts'
import type { Person } from '../../support/people.ts'
import { person } from '../../support/people.ts'

const NAMES = ['alice', 'bob', 'carol', 'dave', 'erin', 'frank', 'grace', 'heidi'] as const
const INVITES = 6

/** Everybody who may occur in a random history. */
export interface Cast {
  readonly people: readonly Person[]
  readonly invites: readonly InviteKeys[]
}

export async function castOfHistories(): Promise<Cast> {
  const invites = await Promise.all(Array.from({ length: INVITES }, (_, index) => inviteOf(`random ${index}`)))
  return { people: await Promise.all(NAMES.map(person)), invites }
}

const KINDS = ['add', 'remove', 'leave', 'role', 'invite', 'revoke', 'join', 'join', 'approve', 'retire', 'rekey', 'several'] as const

/** One thing somebody tries; numbers choose among the cast. */
export interface Step {
  readonly kind: (typeof KINDS)[number]
  /** 0: nothing is chosen to make sense. */
  readonly sense: number
  readonly actor: number
  readonly target: number
  readonly other: number
  readonly role: Role
  readonly mode: 'open' | 'approve'
  readonly rekey: boolean
  readonly laterMs: number
}

const index = fc.nat(NAMES.length * INVITES)

export const stepArbitrary: fc.Arbitrary<Step> = fc.record({
  kind: fc.constantFrom(...KINDS),
  sense: fc.nat(7),
  actor: index,
  target: index,
  other: index,
  role: fc.constantFrom('admin', 'member', 'reader', 'depositor'),
  mode: fc.constantFrom('open', 'approve'),
  rekey: fc.boolean(),
  laterMs: fc.nat(40_000_000),
})

export const stepsArbitrary = (length: number): fc.Arbitrary<Step[]> =>
  fc.array(stepArbitrary, { minLength: Math.ceil(length / 2), maxLength: length })

/** A commit that was accepted, and the roster before it. */
export interface Accepted {
  readonly before: Roster
  readonly fold: Fold
  readonly attempt: Attempt
}

/** Lets everybody try their steps; what is refused leaves no trace. */
export async function playHistory(cast: Cast, steps: readonly Step[]): Promise<{ log: Log; accepted: readonly Accepted[] }> {
  const [founder] = cast.people
  if (founder === undefined) throw new Error('a cast has people')
  const log = await Log.found(founder)
  const accepted: Accepted[] = []
  for (const step of steps) {
    const before = log.roster
    const attempt = await attemptOf(log, cast, step)
    try {
      accepted.push({ before, attempt, fold: await log.commit(attempt) })
    } catch (error) {
      if (!(error instanceof ClavigerError)) throw error
    }
  }
  return { log, accepted }
}

/** Mostly something that makes sense now; sometimes anything. */
async function attemptOf(log: Log, cast: Cast, step: Step): Promise<Attempt> {
  const { members, invites, rekeyOwed } = log.roster
  const sensible = step.sense > 0
  const isIn = ({ id }: Person): boolean => members.some((member) => member.state === 'active' && sameBytes(member.id, id))
  const isAdmin = ({ id }: Person): boolean =>
    members.some((member) => member.state === 'active' && member.role === 'admin' && sameBytes(member.id, id))
  const isLive = ({ id }: InviteKeys, mode: string): boolean =>
    invites.some((invite) => invite.state === 'live' && invite.mode === mode && sameBytes(invite.id, id))
  const among = <T>(choices: readonly T[], suits: (choice: T) => boolean, at: number): T => {
    const suitable = choices.filter(suits)
    return pick(sensible && suitable.length > 0 ? suitable : choices, at)
  }
  const author = among(cast.people, step.kind === 'leave' || (step.kind === 'rekey' && rekeyOwed) ? isIn : isAdmin, step.actor)
  const hasLeft = ({ id }: Person): boolean => members.some((member) => member.state === 'left' && sameBytes(member.id, id))
  const insider = among(cast.people, (one) => isIn(one) && one !== author, step.target)
  const outsider = among(cast.people, (one) => !isIn(one), step.other)
  const invite = (mode: string): InviteKeys => among(cast.invites, (one) => isLive(one, mode), step.target)
  const unused = among(cast.invites, ({ id }) => !invites.some((known) => sameBytes(known.id, id)), step.target)
  const common = { author, time: log.roster.logTime + step.laterMs, rekey: step.rekey ? ('fresh' as const) : null }
  switch (step.kind) {
    case 'add':
      return { ...common, ops: [ops.add(outsider, step.role)] }
    case 'remove':
      return { ...common, ops: [ops.remove(step.rekey ? insider : among(cast.people, hasLeft, step.target))], rekey: 'fresh' }
    case 'leave':
      return { ...common, ops: [ops.leave()], rekey: null }
    case 'role':
      return { ...common, ops: [ops.setRole(insider, step.role)] }
    case 'invite':
      return {
        ...common,
        ops: [
          await inviteOp(log.state, author, unused, {
            role: step.role === 'admin' ? 'member' : step.role,
            mode: step.mode,
            maxUses: 1 + (step.other % 3),
          }),
        ],
      }
    case 'revoke':
      return { ...common, ops: [ops.revoke(invite(step.mode))] }
    case 'join':
      return { ...common, author: invite('open'), ops: [ops.join(outsider)], signers: [invite('open'), outsider], rekey: null }
    case 'approve':
      return { ...common, ops: [ops.approve(outsider, invite('approve'))] }
    case 'retire':
      return { ...common, ops: [ops.retire(Math.max(0, log.roster.epoch - 1 - (step.other % 3)))], rekey: null }
    case 'rekey':
      return { ...common, rekey: 'fresh' }
    case 'several':
      return { ...common, ops: [ops.setRole(insider, step.role), ops.add(outsider, 'member')], rekey: 'fresh' }
  }
}

function pick<T>(choices: readonly T[], at: number): T {
  const choice = choices[at % choices.length]
  if (choice === undefined) throw new RangeError('nothing to choose from')
  return choice
}
