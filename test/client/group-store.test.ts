/** What a client keeps of a group’s log: a roster now and then, the commits since, and nothing that does not lead to its head. */
import { beforeEach, describe, expect, test } from 'vitest'
import { GroupStore } from '../../client/group-store.ts'
import { MemoryStore } from '../../client/memory-store.ts'
import { useNodePublicCrypto } from '../../platform/node/index.ts'
import { useNodeSecretCrypto } from '../../platform/node/secret.ts'
import type { Fold } from '../../shared/group/fold.ts'
import { SNAPSHOT_COMMITS } from '../../shared/limits.ts'
import { Log, ops, withFlippedBit } from '../support/forge.ts'
import { people } from '../support/people.ts'

useNodePublicCrypto()
useNodeSecretCrypto()

const { alice, bob } = await people('alice', 'bob')

/** A founded group that a store has just taken over, and the way each commit of it is kept. */
interface Kept {
  readonly memory: MemoryStore
  readonly store: GroupStore
  readonly log: Log
}

let kept: Kept

beforeEach(async () => {
  const memory = new MemoryStore()
  const log = await Log.found(alice)
  const store = new GroupStore(memory, log.state.group)
  await store.saveState(log.state, null)
  kept = { memory, store, log }
})

/** Commits `count` times and keeps them all at once. */
async function advance({ log, store }: Kept, count: number): Promise<void> {
  const before = log.state.head
  const folds: Fold[] = []
  while (folds.length < count) folds.push(await log.commit({ author: alice, rekey: 'fresh' }))
  await store.saveCommits({ before, commits: folds.map(({ commit }) => commit), state: log.state })
}

async function keysOf({ memory, store }: Kept, part: string): Promise<string[]> {
  return [...(await memory.getAll(`g/${Buffer.from(store.group).toString('hex')}/${part}`)).keys()]
}

/** Another run of the same client. */
function reopened({ memory, store }: Kept): GroupStore {
  return new GroupStore(memory, store.group)
}

describe('a state that was kept', () => {
  test('is read back after every commit, whatever was folded and whatever was written whole', async () => {
    for (let commits = 0; commits < SNAPSHOT_COMMITS + 3; commits += 1) {
      await advance(kept, 1)
      expect(await reopened(kept).loadState()).toEqual(kept.log.state)
    }
  })

  test('costs a commit, not a roster', async () => {
    const before = await kept.memory.getAll('g/')
    await advance(kept, 1)
    const written = [...(await kept.memory.getAll('g/'))].filter(([key]) => !before.has(key))
    expect(written.map(([key]) => key.split('/')[2])).toEqual(['commit', 'head'])
    expect(written[0]?.[1]).toEqual(kept.log.commits[1])
  })

  test('is a new roster past the bound, and the commits before it are gone', async () => {
    for (let commits = 0; commits < SNAPSHOT_COMMITS; commits += 1) await advance(kept, 1)
    expect(await keysOf(kept, 'commit/')).toHaveLength(SNAPSHOT_COMMITS)
    await advance(kept, 1)
    expect(await keysOf(kept, 'commit/')).toEqual([])
    expect(await reopened(kept).loadState()).toEqual(kept.log.state)
  })

  test('is one roster at the end of a long way', async () => {
    await advance(kept, 3)
    await advance(kept, SNAPSHOT_COMMITS)
    expect(await keysOf(kept, 'commit/')).toEqual([])
    expect(await keysOf(kept, 'head/')).toHaveLength(SNAPSHOT_COMMITS + 4)
    expect(await reopened(kept).loadState()).toEqual(kept.log.state)
  })

  test('is one roster after a commit that is long to fold', async () => {
    const before = kept.log.state.head
    const crowd = await Promise.all(Array.from({ length: 40 }, (_, index) => people(`guest ${index}`)))
    const adds = crowd.flatMap((of) => Object.values(of).map((guest) => ops.add(guest, 'reader')))
    const { commit, state } = await kept.log.commit({ author: alice, ops: adds })
    await kept.store.saveCommits({ before, commits: [commit], state })
    expect(await keysOf(kept, 'commit/')).toEqual([])
    expect(await reopened(kept).loadState()).toEqual(state)
  })

  test('is one roster after a jump, and what was skipped is verified page by page', async () => {
    await advance(kept, 2)
    const verified = kept.log.state
    await kept.log.commit({ author: alice, ops: [ops.add(bob, 'admin')] })
    await kept.store.saveState(kept.log.state, verified)
    expect(await keysOf(kept, 'commit/')).toEqual([])
    await advance(kept, 1)
    expect(await reopened(kept).loadState()).toEqual(kept.log.state)
    expect(await reopened(kept).loadVerified()).toEqual(verified)
    await kept.store.saveVerified(null, [kept.log.state.head])
    expect(await reopened(kept).loadVerified()).toBeNull()
    expect(await reopened(kept).loadState()).toEqual(kept.log.state)
  })

  test('is written whole if the commits do not follow what is kept', async () => {
    await kept.log.commit({ author: alice, rekey: 'fresh' })
    await advance(kept, 1)
    expect(await keysOf(kept, 'commit/')).toEqual([])
    expect(await reopened(kept).loadState()).toEqual(kept.log.state)
  })

  test('is nothing of a group that was erased', async () => {
    await advance(kept, 2)
    await kept.store.erase()
    expect(await reopened(kept).loadState()).toBeNull()
    expect([...(await kept.memory.getAll('g')).keys()]).toEqual([])
    expect(await GroupStore.list(kept.memory)).toEqual([])
  })
})

describe('a store that was damaged', () => {
  /** Changes entries of the group’s log; null deletes. */
  async function damage(part: string, change: (value: Uint8Array, index: number) => Uint8Array | null): Promise<void> {
    const keys = await keysOf(kept, part)
    const entries = await kept.memory.getAll('g/')
    await kept.memory.write(new Map(keys.map((key, index) => [key, change(entries.get(key) ?? new Uint8Array(), index)])))
  }

  test.each([
    ['without a commit in the middle', 'commit/', (value: Uint8Array, index: number) => (index === 1 ? null : value)],
    ['without the last commit', 'commit/', (value: Uint8Array, index: number) => (index === 2 ? null : value)],
    ['without any commit', 'commit/', () => null],
    ['with a bit flipped in a commit', 'commit/', (value: Uint8Array) => withFlippedBit(value, 8 * value.length - 1)],
    ['without its roster', 'state', () => null],
  ])('is refused %s', async (_, part, change) => {
    await advance(kept, 3)
    await damage(part, change)
    await expect(reopened(kept).loadState()).rejects.toMatchObject({ code: 'store_invalid' })
  })

  test('is refused with the commits of another branch', async () => {
    const branch = kept.log.fork()
    await advance(kept, 2)
    await branch.commit({ author: alice, ops: [ops.add(bob, 'member')] })
    await branch.commit({ author: alice, rekey: 'fresh' })
    await damage('commit/', (_, index) => branch.commits[index + 1] ?? null)
    await expect(reopened(kept).loadState()).rejects.toMatchObject({ code: 'store_invalid' })
  })

  test('is refused with the roster of another commit', async () => {
    await advance(kept, 1)
    const { log, memory, store } = kept
    const elsewhere = new MemoryStore()
    await new GroupStore(elsewhere, store.group).saveState(log.state, null)
    const [key = ''] = await keysOf(kept, 'state')
    await memory.write(new Map([[key, await elsewhere.get(key)]]))
    await expect(reopened(kept).loadState()).rejects.toMatchObject({ code: 'store_invalid' })
  })
})
