import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Groups } from '../../server/groups.ts'
import { createLog } from '../../server/log.ts'
import type { Database } from '../../server/storage/database.ts'
import { openDatabase } from '../../server/storage/database.ts'
import { listSnapshots } from '../../server/storage/snapshots.ts'
import { decodeCommit } from '../../shared/group/commit.ts'
import type { GroupState } from '../../shared/group/fold.ts'
import { foldCommit } from '../../shared/group/fold.ts'
import { SNAPSHOT_COMMITS } from '../../shared/limits.ts'
import type { Attempt } from '../support/forge.ts'
import { forge, inviteOf, inviteOp, Log, ops } from '../support/forge.ts'
import { person } from '../support/people.ts'
import type { FreshDatabase } from '../support/postgres.ts'
import { freshDatabase } from '../support/postgres.ts'

let fresh: FreshDatabase
let database: Database
beforeAll(async () => {
  fresh = await freshDatabase()
  database = openDatabase({ url: fresh.url, poolSize: 2 })
})
afterAll(async () => {
  await database.close()
  await fresh.drop()
})

/** The group after an attempt, as a server takes it in. */
async function accept(before: GroupState, groups: Groups, attempt: Attempt): Promise<GroupState> {
  const { commit, state } = foldCommit(before, decodeCommit(await forge(before, attempt)))
  await groups.accepted(before, commit, state)
  return state
}

describe('the roster', () => {
  test('is stored now and then, sooner when an admin has made the commit', async () => {
    const alice = await person('alice')
    let { state } = await Log.found(alice)
    const groups = new Groups(database, createLog('silent'))
    for (let commit = 0; commit < 2 * SNAPSHOT_COMMITS; commit += 1) state = await accept(state, groups, { author: alice, rekey: 'fresh' })
    const stored = await listSnapshots(database, state.group, { after: -1, limit: 10 })
    expect(stored.map(({ seq }) => seq)).toEqual([2 * SNAPSHOT_COMMITS - 1, SNAPSHOT_COMMITS - 1])
    expect(stored[0]?.author).toEqual(alice.id)
  })

  test('is stored also while nobody but joiners commits', async () => {
    const alice = await person('alice')
    let { state } = await Log.found(alice)
    const groups = new Groups(database, createLog('silent'))
    const invite = await inviteOf('for everybody')
    state = await accept(state, groups, { author: alice, ops: [await inviteOp(state, alice, invite, { maxUses: 1000 })] })
    for (let join = 0; join < 4 * SNAPSHOT_COMMITS; join += 1) {
      const joiner = await person(`joiner ${join}`)
      state = await accept(state, groups, { author: invite, ops: [ops.join(joiner)], signers: [invite, joiner] })
    }
    const stored = await listSnapshots(database, state.group, { after: -1, limit: 10 })
    expect(stored.map(({ author }) => author)).toEqual([invite.id])
  })
})

describe('a refresh', () => {
  test('that is asked for during a read shares the next one with all others', async () => {
    const alice = await person('alice')
    const log = await Log.found(alice)
    const groups = new Groups(database, createLog('silent'))
    let queries = 0
    const count = (): void => void (queries += 1)
    database.pool.on('acquire', count)
    await groups.refresh(log.state.group).catch(() => undefined)
    const once = queries
    const all = await Promise.allSettled(Array.from({ length: 50 }, () => groups.refresh(log.state.group)))
    database.pool.off('acquire', count)
    expect([all.length, queries]).toEqual([50, 3 * once])
  })
})
