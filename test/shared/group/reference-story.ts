/**
 * One group from its genesis on, every roster written down by hand: what the fold must give, without folding.
 */
import type { Value } from '../objects/reference.ts'
import { cbor, hash, join, signature } from '../objects/reference.ts'
import type { Character, Fields, PlainRoster } from './reference.ts'
import { character, commit, epochOf, inviteKeys, link, peaks, rosterHash } from './reference.ts'

/** 32 equal bytes: seeds are not chosen with care here. */
export const seed = (byte: number): Uint8Array => new Uint8Array(32).fill(byte)

export const alice = character(seed(0x11), seed(0x12))
export const bob = character(seed(0x21), seed(0x22))
export const carol = character(seed(0x31), seed(0x32))
export const dave = character(seed(0x41), seed(0x42))
export const openSecret = seed(0x51)
export const waitingSecret = seed(0x52)
export const open = inviteKeys(openSecret)
export const waiting = inviteKeys(waitingSecret)
export const epochSecrets = [seed(0xe0), seed(0xe1), seed(0xe2), seed(0xe3)] as const
export const START_MS = 1_700_000_000_000
const EXPIRES_MS = START_MS + 86_400_000

/** One commit and the roster after it. */
export interface Scene {
  readonly name: string
  readonly payload: Fields
  readonly payloadBytes: Uint8Array
  readonly seeds: readonly Uint8Array[]
  readonly bytes: Uint8Array
  readonly hash: Uint8Array
  readonly roster: PlainRoster
}

interface Draft {
  readonly name: string
  readonly author: Character
  readonly cosigner?: Character
  readonly ops: readonly Fields[]
  /** The number of the epoch that it opens. */
  readonly opens?: number
  readonly rekeyOwed?: boolean
  readonly retiredThrough?: number
  /** Milliseconds after the start. */
  readonly at: number
  readonly members: readonly Fields[]
  readonly invites: readonly Fields[]
}

const member = (
  { id, signingKey, kem }: Character,
  role: string,
  segments: readonly (readonly [from: number, to: number | null, role: string])[],
  rest: Fields = {},
): Fields => ({
  id,
  state: 'active',
  role,
  signingKey,
  kemKey: kem.publicKey,
  cardRevision: 0,
  via: null,
  segments: segments.map(([fromSeq, toSeq, was]) => ({ fromSeq, toSeq, role: was, signingKey })),
  ...rest,
})
const invite = ({ id, signingKey, kem }: Character, rest: Fields): Fields => ({
  id,
  signingKey,
  kemKey: kem.publicKey,
  expiresAt: EXPIRES_MS,
  maxUses: 1,
  uses: 0,
  state: 'live',
  creator: alice.id,
  createdSeq: 1,
  ...rest,
})

/** The story needs the group’s id, which is the hash of its first scene. */
class Story {
  readonly scenes: Scene[] = []
  #epochs: readonly Fields[] = []

  get group(): Uint8Array {
    return this.scenes[0]?.hash ?? new Uint8Array(32)
  }

  get hashes(): Uint8Array[] {
    return this.scenes.map((scene) => scene.hash)
  }

  tell({ name, author, cosigner, ops, opens, rekeyOwed = false, retiredThrough = -1, at, members, invites }: Draft): void {
    const seq = this.scenes.length
    const parent = this.hashes.at(-1) ?? null
    const rekey = opens === undefined ? null : this.#rekey(opens, seq, parent)
    if (rekey !== null && opens !== undefined) this.#epochs = [...this.#epochs, { epoch: opens, seq, parent, ...rekey }]
    this.#epochs = this.#epochs.filter(({ epoch }) => Number(epoch) > retiredThrough)
    const epoch = Number(this.#epochs.at(-1)?.['epoch'] ?? 0)
    const roster: PlainRoster = {
      v: 1,
      suite: 1,
      seq,
      epoch,
      rekeyOwed,
      retiredThrough,
      logTime: START_MS + at,
      members,
      invites,
      epochs: this.#epochs,
      history: { size: seq, peaks: peaks(this.hashes) },
    }
    const payload = {
      v: 1,
      suite: 1,
      seq,
      parent,
      epoch,
      author: author.signingKey,
      time: START_MS + at,
      ops,
      roster: rosterHash(roster, this.hashes),
      rekey,
    }
    const seeds = cosigner === undefined ? [author.seed] : [author.seed, cosigner.seed]
    const payloadBytes = cbor(payload)
    this.scenes.push({ name, payload, payloadBytes, seeds, roster, ...commit(payloadBytes, seeds) })
  }

  #rekey(epoch: number, seq: number, parent: Uint8Array | null): Fields {
    const [secret, older] = [epochSecrets[epoch] ?? seed(0), epochSecrets[epoch - 1]]
    const { commitment, depositKey } = epochOf(secret, { group: this.group, epoch, seq, parent })
    if (older === undefined) return { commitment, depositKey, link: null }
    const bytes = link(secret, older, { group: this.group, epoch, to: epoch - 1 })
    return { commitment, depositKey, link: { to: epoch - 1, hash: hash('link-hash', bytes) } }
  }
}

function inviteOp(group: Uint8Array, keys: Character, mode: string): Fields {
  const terms = ['member', mode, EXPIRES_MS, 1]
  const proof = signature(keys.seed, 'invite-proof', cbor([group, alice.id, keys.signingKey, keys.kem.publicKey, ...terms]))
  return {
    type: 'invite',
    signingKey: keys.signingKey,
    kemKey: keys.kem.publicKey,
    role: 'member',
    mode,
    expiresAt: EXPIRES_MS,
    maxUses: 1,
    proof,
  }
}

/** Dave’s request, made when the second commit was the head. */
export function joinRequest(
  group: Uint8Array,
  at: Fields,
): { readonly statement: Uint8Array; readonly bytes: Uint8Array; readonly hash: Uint8Array } {
  const statement = cbor({ v: 1, group, invite: waiting.id, cards: dave.cards, at })
  const bytes = cbor({
    statement,
    signatures: [signature(waiting.seed, 'join-request', statement), signature(dave.seed, 'join-request', statement)],
  })
  return { statement, bytes, hash: hash('join-request', bytes) }
}

/** The whole story, told anew each time. */
export function tellStory(): Story {
  const story = new Story()
  const founder = member(alice, 'admin', [[0, null, 'admin']])
  story.tell({
    name: 'alice creates the group',
    author: alice,
    at: 0,
    ops: [{ type: 'create', cards: alice.cards }],
    opens: 0,
    members: [founder],
    invites: [],
  })

  const reader = member(carol, 'reader', [[1, null, 'reader']])
  const [openLive, waitingLive] = [invite(open, { role: 'member', mode: 'open' }), invite(waiting, { role: 'member', mode: 'approve' })]
  const group = story.group
  story.tell({
    name: 'alice adds carol and makes two invites',
    author: alice,
    at: 1000,
    ops: [{ type: 'add', role: 'reader', cards: carol.cards }, inviteOp(group, open, 'open'), inviteOp(group, waiting, 'approve')],
    members: [founder, reader],
    invites: [openLive, waitingLive],
  })

  const viaOpen = { via: open.id }
  const joined = member(bob, 'member', [[2, null, 'member']], viaOpen)
  const openSpent = { ...openLive, uses: 1, state: 'spent' }
  story.tell({
    name: 'bob joins through the open invite',
    author: open,
    cosigner: bob,
    at: 2000,
    ops: [{ type: 'join', cards: bob.cards }],
    rekeyOwed: true,
    members: [founder, reader, joined],
    invites: [openSpent, waitingLive],
  })
  story.tell({
    name: 'bob settles the rekey',
    author: bob,
    at: 3000,
    ops: [],
    opens: 1,
    members: [founder, reader, joined],
    invites: [openSpent, waitingLive],
  })

  const writer = member(carol, 'member', [
    [1, 4, 'reader'],
    [4, null, 'member'],
  ])
  const approved = member(dave, 'member', [[4, null, 'member']], { via: waiting.id })
  const waitingSpent = { ...waitingLive, uses: 1, state: 'spent' }
  const request = joinRequest(group, { seq: 1, hash: story.hashes[1] ?? seed(0) })
  story.tell({
    name: 'alice makes carol a member and approves dave',
    author: alice,
    at: 4000,
    ops: [
      { type: 'set-role', member: carol.id, role: 'member' },
      { type: 'approve', invite: waiting.id, request: request.hash, cards: dave.cards },
    ],
    members: [founder, writer, joined, approved],
    invites: [openSpent, waitingSpent],
  })

  const removed = member(
    carol,
    'member',
    [
      [1, 4, 'reader'],
      [4, 5, 'member'],
    ],
    { state: 'removed' },
  )
  const promoted = member(
    bob,
    'admin',
    [
      [2, 5, 'member'],
      [5, null, 'admin'],
    ],
    viaOpen,
  )
  const spent = [openSpent, waitingSpent]
  story.tell({
    name: 'alice removes carol and makes bob an admin',
    author: alice,
    at: 5000,
    ops: [
      { type: 'remove', member: carol.id },
      { type: 'set-role', member: bob.id, role: 'admin' },
    ],
    opens: 2,
    members: [founder, removed, promoted, approved],
    invites: spent,
  })

  const gone = member(
    bob,
    'admin',
    [
      [2, 5, 'member'],
      [5, 6, 'admin'],
    ],
    { ...viaOpen, state: 'left' },
  )
  const last = [founder, removed, gone, approved]
  story.tell({ name: 'bob leaves', author: bob, at: 6000, ops: [{ type: 'leave' }], rekeyOwed: true, members: last, invites: spent })
  story.tell({ name: 'dave settles the rekey', author: dave, at: 7000, ops: [], opens: 3, members: last, invites: spent })
  story.tell({
    name: 'alice retires two epochs',
    author: alice,
    at: 8000,
    ops: [{ type: 'retire-epoch', through: 1 }],
    retiredThrough: 1,
    members: last,
    invites: spent,
  })
  return story
}

/** The same payload with something else in it, signed again by whoever signed it. */
export function signedAgain(scene: Scene, payload: Uint8Array): Uint8Array {
  return commit(payload, scene.seeds).bytes
}

/** The first key of the map, `v`, with its 1 in two bytes instead of one: no longer canonical (RFC 8949 §4.2.1). */
export function longerForm(map: Uint8Array): Uint8Array {
  const text = Buffer.from(map).toString('hex')
  const at = text.indexOf('617601') / 2
  return join(map.subarray(0, at + 2), Uint8Array.of(0x18, 1), map.subarray(at + 3))
}

/** A value with one more field. */
export const withField = (fields: Fields, name: string, value: Value): Fields => ({ ...fields, [name]: value })
