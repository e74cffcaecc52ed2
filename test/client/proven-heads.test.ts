/** Earlier heads of a log that a client began in the middle: learned together, believed only if the accepted history proves them. */
import { describe, expect, test } from 'vitest'
import { ProvenHeads } from '../../client/proven-heads.ts'
import { useNodePublicCrypto } from '../../platform/node/index.ts'
import { useNodeSecretCrypto } from '../../platform/node/secret.ts'
import { ClavigerError } from '../../shared/errors.ts'
import type { Role } from '../../shared/group/commit.ts'
import { inclusionPath } from '../../shared/group/history.ts'
import type { CommitHash } from '../../shared/ids.ts'
import type { MethodName, Params, Result } from '../../shared/protocol/messages.ts'
import { Log, ops } from '../support/forge.ts'
import { people } from '../support/people.ts'

useNodePublicCrypto()
useNodeSecretCrypto()

const { alice, bob } = await people('alice', 'bob')

const COMMITS = 200
const log = await Log.found(alice)
await log.commit({ author: alice, ops: [ops.add(bob, 'member')] })
const early = log.fork()
while (log.hashes.length < COMMITS) await log.commit({ author: alice, ops: [toggle(log)] })
/** What mallory would rather have had in it. */
const other = early.fork()
while (other.hashes.length < COMMITS) await other.commit({ author: alice, ops: [toggle(other, 'admin')] })

function toggle(of: Log, role: Role = 'reader') {
  return ops.setRole(bob, of.roster.members[1]?.role === role ? 'member' : role)
}

/** A server that answers from a log, and how often it was asked for what. */
class Server {
  readonly asked: Partial<Record<MethodName, number>> = {}
  readonly #shown: Log
  readonly #pageCommits: number

  constructor(shown: Log, pageCommits = 64) {
    this.#shown = shown
    this.#pageCommits = pageCommits
  }

  async request<M extends MethodName>(method: M, params: Params<M>): Promise<Result<M>> {
    this.asked[method] = (this.asked[method] ?? 0) + 1
    return this.#answer(method, params) as Result<M>
  }

  #answer(method: MethodName, params: unknown): unknown {
    const { hashes, commits, state } = this.#shown
    if (method === 'log.read') {
      const { from } = params as Params<'log.read'>
      return { commits: commits.slice(from, from + this.#pageCommits), head: state.head }
    }
    if (method !== 'log.inclusion') throw new ClavigerError('not_found')
    const { seq, size } = params as Params<'log.inclusion'>
    return { hash: hashes[seq], path: inclusionPath(hashes.slice(0, size), seq) }
  }
}

/** A client that has accepted the head of the honest log, and no more. */
function newcomer(server: Server): ProvenHeads {
  // Of a connection it uses requests alone.
  const connection = server as unknown as ConstructorParameters<typeof ProvenHeads>[0]['connection']
  const { state } = log
  return new ProvenHeads({ connection, group: state.group }, () => state, new Map<number, CommitHash>([[state.head.seq, state.head.hash]]))
}

const few = [3, 50, 120, 50]
const many = Array.from({ length: 80 }, (_, index) => 2 * index + 5)

describe('a client that began in the middle of a log', () => {
  test('proves each of a few heads once', async () => {
    const server = new Server(log)
    const heads = newcomer(server)
    await heads.learn(few)
    for (const seq of few) expect(heads.get(seq)).toEqual(log.hashes[seq])
    expect(server.asked).toEqual({ 'log.inclusion': 3 })
    for (const seq of few) expect(await heads.prove(seq)).toEqual(log.hashes[seq])
    expect(server.asked).toEqual({ 'log.inclusion': 3 })
  })

  test('reads a part of the log once instead of many proofs, and knows all of it', async () => {
    const server = new Server(log)
    const heads = newcomer(server)
    await heads.learn(many)
    for (let seq = 5; seq <= 164; seq += 1) expect(heads.get(seq)).toEqual(log.hashes[seq])
    expect(heads.get(4)).toBeUndefined()
    expect(server.asked).toEqual({ 'log.inclusion': 1, 'log.read': 3 })
  })

  test('asks for nothing it knows, and for nothing that is yet to come', async () => {
    const server = new Server(log)
    const heads = newcomer(server)
    await heads.learn([COMMITS - 1, COMMITS, 10_000])
    expect(await heads.prove(COMMITS)).toBeNull()
    expect(server.asked).toEqual({})
  })
})

describe('a client that is shown another log', () => {
  test.each([
    ['by proofs', few],
    ['by commits', many],
  ])('learns nothing from it %s', async (_, seqs) => {
    const heads = newcomer(new Server(other))
    await heads.learn(seqs)
    for (const seq of seqs) {
      expect(heads.get(seq)).toBeUndefined()
      expect(await heads.prove(seq)).toBeNull()
    }
  })

  test('learns what holds of one that was changed in the middle', async () => {
    const server = new Server(log)
    const honest = server.request.bind(server)
    server.request = async (method, params) => {
      const result = await honest(method, params)
      if (method !== 'log.read') return result
      const { commits, head } = result as Result<'log.read'>
      const { from } = params as Params<'log.read'>
      // Commit 60 is of the other branch.
      return { commits: commits.map((bytes, index) => (from + index === 60 ? (other.commits[60] ?? bytes) : bytes)), head } as typeof result
    }
    const heads = newcomer(server)
    await heads.learn(many)
    expect(heads.get(61)).toEqual(log.hashes[61])
    expect(heads.get(60)).toBeUndefined()
    expect(heads.get(59)).toBeUndefined()
  })

  test('ends with a log that ends early, or says nothing', async () => {
    const server = new Server(log, 0)
    const heads = newcomer(server)
    await heads.learn(many)
    expect(heads.get(5)).toBeUndefined()
    expect(await heads.prove(5)).toEqual(log.hashes[5])
  })

  test('is told what is wrong when it needs a head, not before', async () => {
    const server = new Server(log)
    server.request = () => Promise.reject(new ClavigerError('disconnected'))
    const heads = newcomer(server)
    await heads.learn(many)
    await heads.learn(few)
    await expect(heads.prove(5)).rejects.toMatchObject({ code: 'disconnected' })
  })
})
