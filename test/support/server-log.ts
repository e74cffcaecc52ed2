/** What the server has of a group’s log, for tests that count commits and ask who made them. */
import type { Commit } from '../../shared/group/commit.ts'
import { decodeCommit } from '../../shared/group/commit.ts'
import type { GroupId } from '../../shared/ids.ts'
import type { Signer } from '../../shared/crypto/signature.ts'
import { sameBytes } from '../../shared/group/roster.ts'
import type { World } from './world.ts'

/** Every commit after `seq`, oldest first. */
export async function commitsAfter(world: World, group: GroupId, seq = -1): Promise<Commit[]> {
  const rows = await world.sql<{ bytes: Uint8Array }>('select bytes from commits where group_id = $1 and seq > $2 order by seq', [
    group,
    seq,
  ])
  return rows.map(({ bytes }) => decodeCommit(Uint8Array.from(bytes)))
}

/** Those that open an epoch. */
export async function rekeysAfter(world: World, group: GroupId, seq = -1): Promise<Commit[]> {
  return (await commitsAfter(world, group, seq)).filter(({ payload }) => payload.rekey !== null)
}

/** Whether a commit is signed by this key. */
export function isBy({ payload }: Commit, { publicKey }: Pick<Signer, 'publicKey'>): boolean {
  return sameBytes(payload.author, publicKey)
}
