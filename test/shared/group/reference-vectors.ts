/**
 * The vectors of test/vectors/group, made from fixed seeds by the second implementation in `reference.ts`.
 *
 * Each vector has negative twins: `change` replaces fields of the vector, and reading it must fail with `error`.
 * After a change of format, write what `referenceVectors()` gives to the files of the same names, and read the diff.
 */
import type { Value } from '../objects/reference.ts'
import { cbor, derive, hash, join, publicKeyOf, signature } from '../objects/reference.ts'
import type { Character, Fields } from './reference.ts'
import { consistency, epochOf, historyRoot, inclusion, inviteKeys, kemKeys, link, rosterBytes } from './reference.ts'
import type { Scene } from './reference-story.ts'
import {
  START_MS,
  alice,
  bob,
  carol,
  dave,
  joinRequest,
  longerForm,
  open,
  openSecret,
  seed,
  signedAgain,
  tellStory,
  waiting,
  withField,
} from './reference-story.ts'

export type Negative = {
  readonly name: string
  readonly change: Readonly<Record<string, Plain>>
  readonly error: string
}

/** What a JSON file holds; byte strings are hex. */
export type Plain = string | number | boolean | null | readonly Plain[] | { readonly [key: string]: Plain }

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const ZERO_BYTE = Uint8Array.of(0)
const story = tellStory()
const { group } = story

function flipped(bytes: Uint8Array, index: number): Uint8Array {
  const at = index < 0 ? bytes.length + index : index
  return bytes.map((byte, place) => (place === at ? byte ^ 1 : byte))
}

/** Where some bytes are inside others. */
const within = (bytes: Uint8Array, part: Uint8Array): number => Buffer.from(bytes).indexOf(part)

function plain(value: Value): Plain {
  if (value instanceof Uint8Array) return hex(value)
  if (Array.isArray(value)) return value.map(plain)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item)]))
}

const damaged = (field: string, bytes: Uint8Array, malformed = 'malformed'): Negative[] => [
  { name: 'a byte more', change: { [field]: hex(join(bytes, ZERO_BYTE)) }, error: malformed },
  { name: 'a byte less', change: { [field]: hex(bytes.subarray(0, -1)) }, error: malformed },
  { name: 'nothing', change: { [field]: '' }, error: malformed },
]

/** Two seeds that nobody else in the vectors has. */
const rotation = { seed: seed(0x13), kemSeed: seed(0x14) }

function cards(): Plain {
  const first = cbor({ v: 1, revision: 0, parent: null, signingKey: alice.signingKey, kemKey: alice.kem.publicKey })
  const next: Fields = {
    v: 1,
    revision: 1,
    parent: hash('card', first),
    signingKey: publicKeyOf(rotation.seed),
    kemKey: kemKeys(rotation.kemSeed).publicKey,
  }
  const signedNext = (card: Uint8Array): Uint8Array =>
    cbor({ card, signatures: [signature(rotation.seed, 'card', card), signature(alice.seed, 'card-rotation', card)] })
  const signedFirst = (card: Uint8Array): Uint8Array => cbor({ card, signatures: [signature(alice.seed, 'card', card)] })
  const bytes = alice.cards[0] ?? ZERO_BYTE
  const second = signedNext(cbor(next))
  const one = (name: string, changed: Uint8Array, error: string): Negative => ({ name, change: { cards: [hex(changed)] }, error })
  const two = (name: string, changed: Uint8Array, error: string): Negative => ({
    name,
    change: { cards: [hex(bytes), hex(changed)] },
    error,
  })
  const fields = { v: 1, revision: 0, parent: null, signingKey: alice.signingKey, kemKey: alice.kem.publicKey }
  return [
    {
      name: 'a first card',
      seeds: [{ signing: hex(alice.seed), kem: hex(alice.kemSeed) }],
      cards: [hex(bytes)],
      card: plain(fields),
      identity: hex(alice.id),
      negatives: [
        one('a bit of the signature flipped', flipped(bytes, -1), 'invalid_signature'),
        one('a bit of the KEM key flipped', flipped(bytes, within(bytes, alice.kem.publicKey) + 5), 'invalid_signature'),
        one('a byte more', join(bytes, ZERO_BYTE), 'malformed'),
        one('a byte more in what is signed', signedFirst(join(first, ZERO_BYTE)), 'malformed'),
        one('an unknown field', signedFirst(cbor(withField(fields, 'name', 'Alice'))), 'malformed'),
        one('a longer form of a number', signedFirst(longerForm(first)), 'malformed'),
        one('signed under another label', cbor({ card: first, signatures: [signature(alice.seed, 'commit', first)] }), 'invalid_signature'),
        one('a KEM key of small order', signedFirst(cbor({ ...fields, kemKey: seed(0) })), 'invalid_key'),
        one(
          'the identity as signing key',
          signedFirst(cbor({ ...fields, signingKey: Uint8Array.from([1, ...seed(0).subarray(1)]) })),
          'invalid_key',
        ),
      ],
    },
    {
      name: 'a rotation',
      seeds: [
        { signing: hex(alice.seed), kem: hex(alice.kemSeed) },
        { signing: hex(rotation.seed), kem: hex(rotation.kemSeed) },
      ],
      cards: [hex(bytes), hex(second)],
      card: plain(next),
      identity: hex(alice.id),
      negatives: [
        two('a bit of the old key’s signature flipped', flipped(second, -1), 'invalid_signature'),
        two(
          'without the old key’s signature',
          cbor({ card: cbor(next), signatures: [signature(rotation.seed, 'card', cbor(next))] }),
          'malformed',
        ),
        two(
          'signatures in another order',
          cbor({
            card: cbor(next),
            signatures: [signature(alice.seed, 'card-rotation', cbor(next)), signature(rotation.seed, 'card', cbor(next))],
          }),
          'invalid_signature',
        ),
        two('another parent', signedNext(cbor({ ...next, parent: seed(0) })), 'malformed'),
        two('a skipped revision', signedNext(cbor({ ...next, revision: 2 })), 'malformed'),
        two('an unknown field', signedNext(cbor(withField(next, 'name', 'Alice'))), 'malformed'),
      ],
    },
  ]
}

function commits(): Plain {
  return story.scenes.map((scene) => ({
    name: scene.name,
    signers: scene.seeds.map(hex),
    payload: plain(scene.payload),
    payloadBytes: hex(scene.payloadBytes),
    commit: hex(scene.bytes),
    hash: hex(scene.hash),
    roster: hex(rosterBytes(scene.roster)),
    rosterHash: plain(scene.payload['roster'] ?? null),
    rekeyOwed: scene.roster.rekeyOwed,
    negatives: commitTwins(scene),
  }))
}

function commitTwins(scene: Scene): Negative[] {
  const { bytes, payload, payloadBytes } = scene
  const twin = (name: string, commit: Uint8Array, error: string): Negative => ({ name, change: { commit: hex(commit) }, error })
  const isGenesis = scene.roster.seq === 0
  const isJoin = scene.seeds.length === 2
  const miscount = isJoin
    ? { name: 'one signature less', seeds: scene.seeds.slice(0, 1) }
    : { name: 'one signature more', seeds: [...scene.seeds, carol.seed] }
  const again = (fields: Fields): Uint8Array => signedAgain(scene, cbor(fields))
  const roster = payload['roster'] instanceof Uint8Array ? payload['roster'] : ZERO_BYTE
  return [
    ...damaged('commit', bytes).filter(({ name }) => name !== 'nothing'),
    twin('a bit of the last signature flipped', flipped(bytes, -1), 'invalid_signature'),
    twin('a bit of the roster’s hash flipped', flipped(bytes, within(bytes, roster) + 31), 'roster_mismatch G71'),
    twin('another roster hash, signed', again({ ...payload, roster: seed(0) }), 'roster_mismatch G71'),
    twin(
      'another commit number, signed',
      again({ ...payload, seq: Number(payload['seq']) + 1 }),
      isGenesis ? 'rule_violated G70' : 'stale_head G01',
    ),
    twin('a byte more in what is signed', signedAgain(scene, join(payloadBytes, ZERO_BYTE)), 'malformed'),
    twin('a longer form of a number, signed', signedAgain(scene, longerForm(payloadBytes)), 'malformed'),
    twin('an unknown field, signed', again(withField(payload, 'note', null)), 'malformed'),
    twin('another version, signed', again({ ...payload, v: 2 }), 'malformed'),
    twin('another suite, signed', again({ ...payload, suite: 2 }), isGenesis ? 'rule_violated G70' : 'rule_violated G02'),
    twin('signed by carol', signedAgain({ ...scene, seeds: scene.seeds.map(() => carol.seed) }, payloadBytes), 'invalid_signature'),
    twin(miscount.name, signedAgain({ ...scene, seeds: miscount.seeds }, payloadBytes), 'invalid_signature G72'),
  ]
}

function histories(): Plain {
  const hashes = story.hashes
  const roots = [...hashes.keys(), hashes.length].map((size) => hex(historyRoot(hashes.slice(0, size))))
  const included = hashes.map((_, index) => ({ index, path: inclusion(index, hashes).map(hex) }))
  const consistent = hashes.map((_, index) => ({ size: index + 1, path: consistency(index + 1, hashes).map(hex) }))
  return [{ name: 'the commits of the story', commits: hashes.map(hex), roots, inclusion: included, consistency: consistent }]
}

function wraps(): Plain {
  const secret = seed(0xe7)
  const where = { group, epoch: 7, seq: 41, parent: story.hashes[3] ?? seed(0) }
  const { commitment, depositKey, enc, wrapFor } = epochOf(secret, where)
  const wrap = wrapFor(bob.kem.publicKey)
  const other = epochOf(seed(0xe8), where)
  const bind = (name: string, change: Record<string, Plain>): Negative => ({ name, change, error: 'wrap_invalid' })
  const vector = {
    secret: hex(secret),
    group: hex(group),
    epoch: 7,
    seq: 41,
    parent: hex(where.parent),
    recipient: hex(bob.kemSeed),
    recipientKey: hex(bob.kem.publicKey),
    commitment: hex(commitment),
    depositKey: hex(depositKey),
    enc: hex(enc),
  }
  const negatives = [
    bind('a bit of the wrap flipped', { wrap: hex(flipped(wrap, 0)) }),
    bind('a bit of the tag flipped', { wrap: hex(flipped(wrap, -1)) }),
    bind('a bit of the encapsulation flipped', { enc: hex(flipped(enc, 0)) }),
    bind('a byte more', { wrap: hex(join(wrap, ZERO_BYTE)) }),
    bind('a byte less', { wrap: hex(wrap.subarray(0, -1)) }),
    bind('nothing', { wrap: '' }),
    bind('of another group', { group: hex(seed(1)) }),
    bind('of another epoch', { epoch: 8 }),
    bind('of another commit', { seq: 42 }),
    bind('of another parent', { parent: hex(seed(1)) }),
    bind('of the genesis', { parent: null }),
    bind('of another commitment', { commitment: hex(other.commitment) }),
    bind('for somebody else', { recipient: hex(carol.kemSeed) }),
    bind('of another secret, well made', { enc: hex(other.enc), wrap: hex(other.wrapFor(bob.kem.publicKey)) }),
  ]
  return [
    { name: 'a wrap with the shared encapsulation', ...vector, wrap: hex(wrap), negatives },
    {
      name: 'a healed wrap',
      ...vector,
      enc: hex(seed(0)),
      wrap: hex(join(enc, wrap)),
      negatives: [
        bind('a bit of its encapsulation flipped', { wrap: hex(join(flipped(enc, 0), wrap)) }),
        bind('a byte less', { wrap: hex(join(enc, wrap).subarray(0, -1)) }),
      ],
    },
  ]
}

function links(): Plain {
  const [newer, older] = [seed(0xe7), seed(0xe6)]
  const bytes = link(newer, older, { group, epoch: 7, to: 6 })
  const twin = (name: string, change: Record<string, Plain>): Negative => ({ name, change, error: 'decryption_failed' })
  return [
    {
      name: 'a link to the epoch before',
      newer: hex(newer),
      older: hex(older),
      group: hex(group),
      epoch: 7,
      to: 6,
      link: hex(bytes),
      hash: hex(hash('link-hash', bytes)),
      negatives: [
        twin('a bit flipped', { link: hex(flipped(bytes, 0)) }),
        twin('a bit of the tag flipped', { link: hex(flipped(bytes, -1)) }),
        ...damaged('link', bytes, 'decryption_failed'),
        twin('of another group', { group: hex(seed(1)) }),
        twin('from another epoch', { epoch: 8 }),
        twin('to another epoch', { to: 5 }),
        twin('under another secret', { newer: hex(older) }),
      ],
    },
  ]
}

function tokens(): Plain {
  const fields = { v: 1, server: 'wss://claviger.example', group, at: { seq: 1, hash: story.hashes[1] ?? seed(0) }, secret: openSecret }
  const text = (value: Uint8Array): string => `clv1.${Buffer.from(value).toString('base64url')}`
  const bytes = cbor(fields)
  const keys = inviteKeys(openSecret)
  const twin = (name: string, token: string): Negative => ({ name, change: { token }, error: 'invite_invalid' })
  return [
    {
      name: 'a token',
      fields: plain(fields),
      token: text(bytes),
      id: hex(keys.id),
      signingKey: hex(keys.signingKey),
      kemKey: hex(keys.kem.publicKey),
      kemSeed: hex(derive(openSecret, 'invite-kem', 1)),
      negatives: [
        twin('a byte more', text(join(bytes, ZERO_BYTE))),
        twin('a byte less', text(bytes.subarray(0, -1))),
        twin('an unknown field', text(cbor(withField(fields, 'role', 'admin')))),
        twin('a longer form of a number', text(longerForm(bytes))),
        twin('another version', `clv2.${text(bytes).slice(5)}`),
        twin('another version inside', text(cbor({ ...fields, v: 2 }))),
        twin('padding', `${text(bytes)}=`),
        twin('a secret of 31 bytes', text(cbor({ ...fields, secret: openSecret.subarray(1) }))),
      ],
    },
  ]
}

/** The log as alice sees it after the second commit. */
const seenHead = { seq: 1, hash: story.hashes[1] ?? seed(0) }

function heads(): Plain {
  const fields = { v: 1, group, member: carol.id, at: seenHead, time: START_MS + 1500 }
  const statement = cbor(fields)
  const signed = (value: Uint8Array, by: Character = carol, label = 'signed-head'): Uint8Array =>
    cbor({ statement: value, signature: signature(by.seed, label, value) })
  const bytes = signed(statement)
  const twin = (name: string, changed: Uint8Array, error: string): Negative => ({ name, change: { head: hex(changed) }, error })
  return [
    {
      name: 'a signed head',
      signer: hex(carol.seed),
      statement: plain(fields),
      head: hex(bytes),
      negatives: [
        ...damaged('head', bytes),
        twin(
          'a bit of the signature flipped',
          flipped(bytes, within(bytes, signature(carol.seed, 'signed-head', statement)) + 3),
          'invalid_signature',
        ),
        twin('a bit of the head’s hash flipped', flipped(bytes, within(bytes, seenHead.hash)), 'invalid_signature'),
        twin('signed by alice', signed(statement, alice), 'invalid_signature'),
        twin('signed under another label', signed(statement, carol, 'commit'), 'invalid_signature'),
        twin('of another group', signed(cbor({ ...fields, group: seed(1) })), 'not_a_member'),
        twin('of a stranger', signed(cbor({ ...fields, member: dave.id }), dave), 'not_a_member'),
        twin('an unknown field', signed(cbor(withField(fields, 'note', null))), 'malformed'),
        twin('a longer form of a number', signed(longerForm(statement)), 'malformed'),
      ],
    },
  ]
}

function requests(): Plain {
  const { statement, bytes, hash: requestHash } = joinRequest(group, seenHead)
  const fields = { v: 1, group, invite: waiting.id, cards: dave.cards, at: seenHead }
  const signed = (value: Uint8Array, invite: Character = waiting, joiner: Character = dave): Uint8Array =>
    cbor({ statement: value, signatures: [signature(invite.seed, 'join-request', value), signature(joiner.seed, 'join-request', value)] })
  const twin = (name: string, changed: Uint8Array, error: string): Negative => ({ name, change: { request: hex(changed) }, error })
  return [
    {
      name: 'a join request',
      invite: hex(waiting.seed),
      joiner: hex(dave.seed),
      statement: plain(fields),
      request: hex(bytes),
      hash: hex(requestHash),
      identity: hex(dave.id),
      negatives: [
        ...damaged('request', bytes),
        twin(
          'a bit of the joiner’s signature flipped',
          flipped(bytes, within(bytes, signature(dave.seed, 'join-request', statement))),
          'invalid_signature',
        ),
        twin('signed by somebody else’s invite', signed(statement, open), 'invalid_signature'),
        twin('signed by somebody else', signed(statement, waiting, carol), 'invalid_signature'),
        twin('of another group', signed(cbor({ ...fields, group: seed(1) })), 'invite_invalid'),
        twin('through an open invite', signed(cbor({ ...fields, invite: open.id }), open), 'invite_invalid'),
        twin('an unknown field', signed(cbor(withField(fields, 'role', 'admin'))), 'malformed'),
        twin('a longer form of a number', signed(longerForm(statement)), 'malformed'),
      ],
    },
  ]
}

/** Every file of test/vectors/group by its name. */
export function referenceVectors(): Readonly<Record<string, { readonly source: string; readonly vectors: Plain }>> {
  const source = 'test/shared/group/reference.ts, a second implementation that shares no code with shared/'
  const files = { cards, commits, histories, wraps, links, tokens, heads, requests }
  return Object.fromEntries(Object.entries(files).map(([name, make]) => [`${name}.json`, { source, vectors: make() }]))
}
