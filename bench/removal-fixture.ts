/** Makes the group that the removal benchmark starts from: `removal-fixture.js <members> <file>`. */
import type { Op } from '../shared/group/commit.ts'
import { recipients } from '../shared/group/roster.ts'
import { answer } from './measure.ts'
import type { SavedState } from './crowd.ts'
import { commitTo, makeCrowd, saveState, useNodeCrypto, writeFixture } from './crowd.ts'

/** A removal as it reaches one member. */
export interface SentRemoval {
  readonly commit: Uint8Array
  readonly enc: Uint8Array
  readonly wrap: Uint8Array
}

export interface RemovalFixture {
  readonly state: SavedState
  readonly adminSeed: Uint8Array
  readonly secret: Uint8Array
  /** Who is removed. */
  readonly removed: Uint8Array
  /** Who receives the removals. */
  readonly receiverSeed: Uint8Array
  /** Two in a row, the first on top of `state`. */
  readonly sent: readonly SentRemoval[]
  /** KEM keys of those who stay. */
  readonly kemKeys: readonly Uint8Array[]
}

const [members = '10', path = ''] = process.argv.slice(2)
useNodeCrypto()
const { crowd, admin, people } = await makeCrowd(Number(members))
const [receiver, removed, nextRemoved] = people
if (receiver === undefined || removed === undefined || nextRemoved === undefined) throw new RangeError('a group has at least four members')

const sent: SentRemoval[] = []
const kemKeys: Uint8Array[] = []
let current = crowd
for (const { id } of [removed, nextRemoved]) {
  const ops: Op[] = [{ type: 'remove', member: id }]
  const { crowd: next, sealed } = await commitTo(current, { ops, rekey: true })
  const stay = recipients(next.state.roster)
  const place = stay.findIndex(({ kemKey }) => Buffer.compare(kemKey, receiver.kem.publicKey) === 0)
  const wrap = sealed.params.wraps[place]
  if (wrap === undefined) throw new Error('the receiver has no wrap')
  if (kemKeys.length === 0) kemKeys.push(...stay.map(({ kemKey }) => kemKey))
  sent.push({ commit: sealed.commit.bytes, enc: sealed.params.enc, wrap })
  current = next
}
const fixture: RemovalFixture = {
  state: saveState(crowd.state),
  adminSeed: admin.seed,
  secret: crowd.secret,
  removed: removed.id,
  receiverSeed: receiver.seed,
  sent,
  kemKeys,
}
await writeFixture(path, fixture)
answer(path)
