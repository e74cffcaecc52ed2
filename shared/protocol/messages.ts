/**
 * Every message between client and server: one zod schema each, which is also its type.
 *
 * Frames are binary WebSocket messages of CBOR. Signed structures travel inside as the bytes that were signed.
 * docs/PROTOCOL.md says what each method does, who may call it and which errors it gives.
 */
import { z } from 'zod/mini'
import { anyBytes, bytesOf, bytesUpTo, HeadSchema, uint } from '../codec.ts'
import type { BodyId, GroupId, IdentityId, InviteId, ObjectId, PageId } from '../ids.ts'
import type { KemKeyId, Signature } from '../crypto/keys.ts'
import * as limits from '../limits.ts'

/** The WebSocket subprotocol; its number is the protocol version. */
export const SUBPROTOCOL = 'claviger.v1'

const groupId = bytesOf<GroupId>(32)
const objectId = bytesOf<ObjectId>(16)
const pageId = bytesOf<PageId>(16)
const bodyId = bytesOf<BodyId>(16)
const kemKeyId = bytesOf<KemKeyId>(32)
const commitBytes = bytesUpTo(limits.COMMIT_BYTES_MAX)
const headerBytes = bytesUpTo(limits.HEADER_BYTES_MAX)
const seal = bytesUpTo(128)
const epoch = uint(0x7fffffff)
const generation = uint(limits.OBJECT_VERSION_MAX)
const cards = z.array(bytesUpTo(limits.CARD_BYTES_MAX)).check(z.minLength(1), z.maxLength(limits.CARDS_PER_CHAIN_MAX))

/** One HPKE wrap: 48 bytes under the epoch’s shared encapsulation, or 80 with its own in front (suite 1). */
const wrap = bytesUpTo(2048)
/** One for each recipient: members and live invites. */
const wraps = z.array(wrap).check(z.maxLength(limits.MEMBERS_MAX + limits.LIVE_INVITES_MAX))

// ——— Session ———

/** Server → client, first frame. */
export const Hello = z.strictObject({ type: z.literal('hello'), nonce: bytesOf(32), time: uint() })
export type Hello = z.infer<typeof Hello>

/** Client → server: a signature over (nonce, the host the client dialled, identity) by the newest card’s signing key. */
export const Authenticate = z.strictObject({
  type: z.literal('authenticate'),
  cards,
  signature: bytesOf<Signature>(64),
  admission: z.optional(z.string().check(z.maxLength(8192))),
})
export type Authenticate = z.infer<typeof Authenticate>

/** Server → client: the session is open. */
export const Welcome = z.strictObject({ type: z.literal('welcome'), identity: bytesOf<IdentityId>(32), time: uint() })
export type Welcome = z.infer<typeof Welcome>

/** Client → server. `params` is judged by the method’s own schema. */
export const Request = z.strictObject({
  type: z.literal('request'),
  id: uint(),
  method: z.string().check(z.maxLength(64)),
  params: z.unknown(),
})
export type Request = z.infer<typeof Request>

export const Reply = z.strictObject({ type: z.literal('reply'), id: uint(), result: z.unknown() })
export type Reply = z.infer<typeof Reply>

const wireError = { code: z.string(), message: z.string(), data: z.record(z.string(), z.unknown()) }
export const ErrorReply = z.strictObject({ type: z.literal('error'), id: z.nullable(uint()), ...wireError })
export type ErrorReply = z.infer<typeof ErrorReply>

// ——— Requests ———

/** A seal of one DEK, alone or in a page; `known` names a page the client said it has open. */
const dekSource = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('loose'), epoch, seal }),
  z.strictObject({ kind: z.literal('page'), pageId, epoch, entries: anyBytes, sealed: anyBytes }),
  z.strictObject({ kind: z.literal('known'), pageId }),
])
export type DekSource = z.infer<typeof dekSource>

const storedObject = z.strictObject({
  header: headerBytes,
  /** Inline ciphertext of at most 16 KiB of plaintext. */
  body: z.nullable(anyBytes),
  bodyId: z.nullable(bodyId),
  /** Null for tombstones and for DEKs reported lost. */
  dek: z.nullable(dekSource),
})
export type StoredObject = z.infer<typeof storedObject>

const putItem = z.strictObject({
  header: headerBytes,
  /** Null in a tombstone. */
  seal: z.nullable(seal),
  body: z.nullable(bytesUpTo(limits.INLINE_BODY_BYTES_MAX + 64)),
  bodyId: z.nullable(bodyId),
})
export type PutItem = z.infer<typeof putItem>

const putResult = z.discriminatedUnion('state', [
  z.strictObject({ state: z.literal('accepted'), change: uint() }),
  z.strictObject({ state: z.literal('refused'), ...wireError }),
])
export type PutResult = z.infer<typeof putResult>

const keyPage = z.strictObject({
  lo: bytesUpTo(16),
  hi: z.nullable(bytesUpTo(16)),
  pageId,
  epoch,
  entries: anyBytes,
  sealed: anyBytes,
})
export type KeyPageRow = z.infer<typeof keyPage>

const looseDek = z.strictObject({ object: objectId, generation, epoch, seal, headerHash: bytesOf(32) })
export type LooseDekRow = z.infer<typeof looseDek>

const progress = z.strictObject({ epoch, total: uint(), done: uint() })
export type RewrapProgress = z.infer<typeof progress>

const empty = z.strictObject({})

/** Each method’s parameters and result. */
export const METHODS = {
  /** A sign of life and the server’s clock: a browser cannot send WebSocket pings. */
  'session.ping': { params: empty, result: z.strictObject({ time: uint() }) },
  'identity.read': { params: z.strictObject({ identity: bytesOf<IdentityId>(32) }), result: z.strictObject({ cards }) },
  'group.list': { params: empty, result: z.strictObject({ groups: z.array(groupId) }) },
  'group.create': {
    params: z.strictObject({ commit: commitBytes, enc: bytesUpTo(64), wraps }),
    result: z.strictObject({ group: groupId, change: uint() }),
  },

  // The log
  'log.head': { params: z.strictObject({ group: groupId }), result: z.strictObject({ head: HeadSchema, epoch, change: uint() }) },
  'log.read': {
    params: z.strictObject({ group: groupId, from: uint() }),
    result: z.strictObject({ commits: z.array(commitBytes), head: HeadSchema }),
  },
  /** The newest stored snapshot whose commit was made by an admin at `after` who still is one; or the roster exactly at `at`. */
  'log.snapshot': {
    params: z.discriminatedUnion('kind', [
      z.strictObject({ kind: z.literal('ahead'), group: groupId, after: uint() }),
      z.strictObject({ kind: z.literal('at'), group: groupId, seq: uint() }),
    ]),
    result: z.strictObject({
      snapshot: z.nullable(
        z.strictObject({
          commit: commitBytes,
          roster: anyBytes,
          /** `ahead`: the proof that the snapshot’s history extends that of `after`. */
          consistency: z.array(bytesOf(32)),
          /** `at`: the path of commit 0, whose hash is the group’s id, in the snapshot’s history. */
          genesis: z.array(bytesOf(32)),
        }),
      ),
    }),
  },
  /** The hash of commit `seq` with its RFC 9162 path in the tree over the first `size` commits. */
  'log.inclusion': {
    params: z.strictObject({ group: groupId, seq: uint(), size: uint() }),
    result: z.strictObject({ hash: bytesOf(32), path: z.array(bytesOf(32)) }),
  },
  'commit.submit': {
    params: z.strictObject({ group: groupId, commit: commitBytes, enc: bytesUpTo(64), wraps, link: z.nullable(seal) }),
    result: z.strictObject({ head: HeadSchema, change: uint() }),
  },

  // Epochs
  /** One’s own wraps of `epoch` and the links from it down to `downTo`. */
  'epoch.read': {
    params: z.strictObject({ group: groupId, epoch, recipient: kemKeyId, downTo: epoch }),
    result: z.strictObject({
      enc: anyBytes,
      wraps: z.array(wrap),
      links: z.array(z.strictObject({ epoch, to: epoch, link: seal })),
    }),
  },
  /** Others’ wraps, for the audit on a new epoch. */
  'wrap.read': {
    params: z.strictObject({ group: groupId, epoch, recipients: z.array(kemKeyId).check(z.maxLength(512)) }),
    result: z.strictObject({ enc: anyBytes, wraps: z.array(z.array(wrap)) }),
  },
  'wrap.request': { params: z.strictObject({ group: groupId, epoch, recipient: kemKeyId }), result: empty },
  'wrap.requests': { params: z.strictObject({ group: groupId }), result: z.strictObject({ epoch, recipients: z.array(kemKeyId) }) },
  'wrap.offer': { params: z.strictObject({ group: groupId, epoch, recipient: kemKeyId, wrap }), result: empty },
  'link.offer': { params: z.strictObject({ group: groupId, epoch, to: epoch, link: seal }), result: empty },

  // Invites
  /** Opens the log and the invite’s wrap to this session: a signature over (nonce, host, group, invite) by the invite key. */
  'invite.open': {
    params: z.strictObject({ group: groupId, invite: bytesOf<InviteId>(32), signature: bytesOf<Signature>(64) }),
    result: z.strictObject({ head: HeadSchema }),
  },
  'join.request': { params: z.strictObject({ group: groupId, request: bytesUpTo(16_384) }), result: empty },
  'join.requests': { params: z.strictObject({ group: groupId }), result: z.strictObject({ requests: z.array(anyBytes) }) },

  // Heads
  'head.sign': { params: z.strictObject({ group: groupId, head: bytesUpTo(1024) }), result: empty },
  'head.list': { params: z.strictObject({ group: groupId }), result: z.strictObject({ heads: z.array(bytesUpTo(1024)) }) },

  // Objects
  /** Starts the feed of a group after change `cursor`, without commits up to `seq`. */
  'feed.subscribe': {
    params: z.strictObject({ group: groupId, cursor: uint(), seq: uint() }),
    result: z.strictObject({ head: HeadSchema, change: uint() }),
  },
  'feed.unsubscribe': { params: z.strictObject({ group: groupId }), result: empty },
  'object.put': {
    params: z.strictObject({
      group: groupId,
      seq: uint(),
      epoch,
      items: z.array(putItem).check(z.minLength(1), z.maxLength(limits.BATCH_ITEMS_MAX)),
    }),
    result: z.strictObject({ results: z.array(putResult) }),
  },
  'object.get': {
    params: z.strictObject({
      group: groupId,
      objects: z.array(objectId).check(z.maxLength(limits.BATCH_ITEMS_MAX)),
      openPages: z.array(pageId).check(z.maxLength(limits.BATCH_ITEMS_MAX)),
    }),
    /** As many of the first ones as fit into an answer, at least one: the rest is to be asked for again. */
    result: z.strictObject({ seq: uint(), objects: z.array(z.nullable(storedObject)) }),
  },
  'object.headers': {
    params: z.strictObject({ group: groupId, objects: z.array(objectId).check(z.maxLength(limits.BATCH_ITEMS_MAX)) }),
    result: z.strictObject({ seq: uint(), headers: z.array(z.nullable(headerBytes)) }),
  },
  /** Superseded seals of one DEK, while their epochs are not retired. */
  'dek.fallback': {
    params: z.strictObject({ group: groupId, object: objectId, generation }),
    result: z.strictObject({ deks: z.array(dekSource) }),
  },
  /** Seals the DEK of the live generation loose again: heals `page_invalid`. */
  'dek.reseal': { params: z.strictObject({ group: groupId, seq: uint(), epoch, object: objectId, generation, seal }), result: empty },

  // Bodies
  /** Starts or resumes an upload of unknown length. */
  'body.begin': { params: z.strictObject({ group: groupId, bodyId }), result: z.strictObject({ partsPresent: z.array(uint()) }) },
  'body.write': {
    /** `last` marks the frame that completes its part; `durable` answers it once the part is stored. */
    params: z.strictObject({
      group: groupId,
      bodyId,
      part: uint(),
      offset: uint(limits.BODY_PART_BYTES),
      data: bytesUpTo(limits.BODY_FRAME_BYTES),
      last: z.boolean(),
    }),
    result: z.strictObject({ durable: z.boolean() }),
  },
  'body.complete': { params: z.strictObject({ group: groupId, bodyId, hashes: bytesUpTo(limits.HASH_LIST_BYTES_MAX) }), result: empty },
  'body.read': {
    params: z.strictObject({ group: groupId, bodyId, offset: uint(), bytes: uint(limits.BODY_FRAME_BYTES) }),
    result: z.strictObject({ data: anyBytes }),
  },
  'body.hashes': {
    params: z.strictObject({ group: groupId, bodyId, offset: uint(limits.HASH_LIST_BYTES_MAX), bytes: uint(limits.BODY_FRAME_BYTES) }),
    result: z.strictObject({ data: anyBytes }),
  },

  // Key pages
  'pages.range': {
    params: z.strictObject({ group: groupId, lo: bytesUpTo(16), pages: uint(limits.RANGE_PAGES_MAX) }),
    result: z.strictObject({
      epoch,
      pages: z.array(keyPage),
      loose: z.array(looseDek),
      /** Entries of these pages that nothing needs any more: packed (object, generation) pairs of 20 bytes. */
      dead: anyBytes,
      next: z.nullable(bytesUpTo(16)),
    }),
  },
  'pages.replace': {
    params: z.strictObject({
      group: groupId,
      epoch,
      replaced: z.array(z.strictObject({ lo: bytesUpTo(16), pageId })).check(z.minLength(1), z.maxLength(limits.RANGE_PAGES_MAX)),
      /** Packed (object, generation) pairs of 20 bytes: loose seals that the new pages take in. */
      absorbed: bytesUpTo(20 * limits.RANGE_PAGES_MAX * limits.PAGE_DEKS_MAX),
      pages: z.array(keyPage).check(z.minLength(1), z.maxLength(limits.RANGE_PAGES_MAX * 8)),
    }),
    result: progress,
  },
  'rewrap.start': { params: z.strictObject({ group: groupId, epoch }), result: z.strictObject({ ...progress.shape, leased: z.boolean() }) },
  'rewrap.status': {
    params: z.strictObject({ group: groupId }),
    result: z.strictObject({
      epoch,
      /** The oldest epoch that still seals something, and what is under epochs before the current one. */
      oldestSealed: epoch,
      oldPages: uint(),
      oldLoose: uint(),
      loose: uint(),
      pages: uint(),
      deadInPages: uint(),
      unopenable: uint(),
    }),
  },
  /** Lists a DEK that does not open, so that it does not block retiring; or one written by a since-removed author. */
  'dek.report': {
    params: z.strictObject({
      group: groupId,
      epoch,
      deks: z.array(z.strictObject({ object: objectId, generation })).check(z.maxLength(limits.BATCH_ITEMS_MAX)),
    }),
    result: empty,
  },
} as const

export type MethodName = keyof typeof METHODS
export type Params<M extends MethodName> = z.infer<(typeof METHODS)[M]['params']>
export type Result<M extends MethodName> = z.infer<(typeof METHODS)[M]['result']>

// ——— Events, server → client ———

const feedItem = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('commit'), change: uint(), commit: commitBytes }),
  z.strictObject({ kind: z.literal('header'), change: uint(), header: headerBytes }),
])
export type FeedItem = z.infer<typeof feedItem>

/** All that changed in (from, to], oldest first; overwritten versions have vanished. */
const feedEvent = z.strictObject({ type: z.literal('feed'), group: groupId, from: uint(), to: uint(), items: z.array(feedItem) })
export type FeedEvent = z.infer<typeof feedEvent>

export const Event = z.discriminatedUnion('type', [
  feedEvent,
  z.strictObject({ type: z.literal('progress'), group: groupId, progress }),
  z.strictObject({ type: z.literal('wrap-requested'), group: groupId, epoch, recipient: kemKeyId }),
  z.strictObject({ type: z.literal('join-requested'), group: groupId, request: anyBytes }),
  z.strictObject({ type: z.literal('signed-head'), group: groupId, head: bytesUpTo(1024) }),
  z.strictObject({ type: z.literal('unopenable'), group: groupId, deks: z.array(z.strictObject({ object: objectId, generation })) }),
  /** This session may no longer follow the group. */
  z.strictObject({ type: z.literal('evicted'), group: groupId, reason: z.string() }),
])
export type Event = z.infer<typeof Event>

/** What a client may receive. */
export const ServerFrame = z.union([Hello, Welcome, Reply, ErrorReply, Event])
export type ServerFrame = z.infer<typeof ServerFrame>

/** What a server may receive. */
export const ClientFrame = z.discriminatedUnion('type', [Authenticate, Request])
export type ClientFrame = z.infer<typeof ClientFrame>
