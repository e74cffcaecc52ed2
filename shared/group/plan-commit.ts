/**
 * Planning a commit: what would it do, and what has to be signed. Nothing here touches the network.
 *
 * The same rules judge the plan that will judge the commit, so what is refused is refused before anything is sent.
 */
import type { Signature } from '../crypto/keys.ts'
import { asSignature } from '../crypto/keys.ts'
import type { Signer } from '../crypto/signature.ts'
import type { SuiteId } from '../crypto/suites.ts'
import type { Commit, CommitPayload, Op, Rekey } from './commit.ts'
import { assembleCommit, encodePayload } from './commit.ts'
import type { GroupState, Transition } from './fold.ts'
import { transition } from './fold.ts'
import { rosterHash } from './roster.ts'

/** What an author wants. */
export interface CommitIntent {
  /** Milliseconds since 1970. */
  readonly time: number
  readonly ops: readonly Op[]
  readonly rekey: Rekey | null
}

/** A payload that satisfies every rule, and what it does. */
export interface CommitPlan {
  readonly payload: CommitPayload
  readonly transition: Transition
}

const NO_ROSTER = new Uint8Array(32)

/**
 * The payload for an intent on top of `state`, or the genesis if there is none.
 *
 * @throws ClavigerError with the number of the rule that the intent breaks.
 */
export function planCommit(
  state: GroupState | null,
  author: Pick<Signer, 'publicKey'>,
  intent: CommitIntent,
  suite: SuiteId = 1,
): CommitPlan {
  const draft: CommitPayload = {
    v: 1,
    suite: state?.roster.suite ?? suite,
    seq: state === null ? 0 : state.head.seq + 1,
    parent: state?.head.hash ?? null,
    epoch: (state?.roster.epoch ?? -1) + (intent.rekey === null ? 0 : 1),
    author: author.publicKey,
    time: intent.time,
    ops: [...intent.ops],
    roster: NO_ROSTER,
    rekey: intent.rekey,
  }
  const planned = transition(state, draft)
  return { payload: { ...draft, roster: rosterHash(planned.roster) }, transition: planned }
}

/** Signs a planned payload with every key it needs, in order: author, then the joiner in a `join`. */
export async function signCommit(payload: CommitPayload, signers: readonly Signer[]): Promise<Commit> {
  const { payloadBytes, message } = encodePayload(payload)
  const signatures: Signature[] = []
  for (const signer of signers) signatures.push(asSignature(await signer.sign(message)))
  return assembleCommit(payloadBytes, signatures)
}
