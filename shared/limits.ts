/** Every bound in one place, with its unit and its reason. A test stands at each bound and one past it. */

const KiB = 1024
const MiB = 1024 * KiB
const SECOND_MS = 1000
const MINUTE_MS = 60 * SECOND_MS
const DAY_MS = 24 * 60 * MINUTE_MS

// Encoding
/** Levels of nesting: the deepest structure of the protocol has 7. */
export const CBOR_DEPTH_MAX = 12

// Groups
/** Groups that one identity may create on one server: what an account may cost. */
export const GROUPS_PER_IDENTITY_MAX = 10_000
/** Members, former ones included: keeps the roster below 2 MiB. */
export const MEMBERS_MAX = 4096
/** Invites that are still live: each is a recipient of every rekey. */
export const LIVE_INVITES_MAX = 256
/** Invites ever made: dead ones stay so that their keys are never used again. */
export const INVITES_MAX = 8192
/** Epochs that are not retired: each is a link somebody may have to follow. */
export const LIVE_EPOCHS_MAX = 4096
/** Ops in one commit: one removal of a whole department. */
export const OPS_PER_COMMIT_MAX = 512
/** Bytes of one commit: 512 adds with their cards. */
export const COMMIT_BYTES_MAX = 512 * KiB
/** Segments of one member, who gets one with each role and each return: nobody uses up the group’s. */
export const SEGMENTS_PER_MEMBER_MAX = 256
/** Segments of all members together: keeps the roster below ROSTER_BYTES_MAX. */
export const SEGMENTS_MAX = 32_768
/** Bytes of an encoded roster: with all of MEMBERS_MAX, SEGMENTS_MAX, INVITES_MAX and LIVE_EPOCHS_MAX it has 7 MB. */
export const ROSTER_BYTES_MAX = 8 * MiB
/** Cards in one identity’s chain. */
export const CARDS_PER_CHAIN_MAX = 32
/** Bytes of one card: an X-Wing key is 1216. */
export const CARD_BYTES_MAX = 4 * KiB
/** Uses of one invite. */
export const INVITE_USES_MAX = 10_000
/** Lifetime of an invite. */
export const INVITE_TTL_MS_MAX = 366 * DAY_MS
/** Wraps offered for one recipient and epoch: a bad one is never replaced, only outvoted by its commitment. */
export const WRAPS_PER_RECIPIENT_MAX = 4
/** Links offered for one pair of epochs. */
export const LINKS_PER_PAIR_MAX = 4
/** How far a commit’s claimed time may be from the honest server’s clock. */
export const CLOCK_SKEW_MS_MAX = 5 * MINUTE_MS
/** Attempts to commit against others before giving up. */
export const COMMIT_ATTEMPTS_MAX = 16
/** Waiting join requests of one group. */
export const JOIN_REQUESTS_MAX = 256

// Objects
/** Versions of one object: fits a signed 32-bit column; a write a second takes 68 years. */
export const OBJECT_VERSION_MAX = 0x7fff_ffff
/** Bytes of sealed metadata: a name, a type and some app data. */
export const METADATA_BYTES_MAX = 4 * KiB
/** Bytes of one header envelope. */
export const HEADER_BYTES_MAX = 8 * KiB
/** Plaintext bytes of a body chunk. */
export const CHUNK_BYTES = 64 * KiB
/** Bytes of a body kept in the object’s own row. */
export const INLINE_BODY_BYTES_MAX = 16 * KiB
/** Bytes of a body’s list of chunk hashes: it travels in one frame. */
export const HASH_LIST_BYTES_MAX = 4 * MiB
/** Plaintext bytes of one object: as many chunks as the list has hashes. */
export const BODY_BYTES_MAX = (HASH_LIST_BYTES_MAX / 32) * CHUNK_BYTES
/** Bytes of one stored body part. */
export const BODY_PART_BYTES = MiB
/** Bytes of a body per frame, so that interactive frames go between. */
export const BODY_FRAME_BYTES = 256 * KiB
/** Items in one batch of writes. */
export const BATCH_ITEMS_MAX = 1000
/** Bytes of one batch of writes. */
export const BATCH_BYTES_MAX = 4 * MiB
/** Bytes of one answer with objects, but for the one that passes it: what does not fit is asked for again. */
export const OBJECTS_ANSWER_BYTES = 4 * MiB
/** DEKs in one key page: one cold DEK reads 13 KB; larger pages gain 10 % and double that. */
export const PAGE_DEKS_MAX = 256
/** Pages asked for or replaced at once. */
export const RANGE_PAGES_MAX = 64
/** Loose DEKs of a group past which compaction starts by itself. */
export const LOOSE_DEKS_BEFORE_COMPACTION = 2048

// Sessions
/** Bytes of one inbound frame. */
export const FRAME_BYTES_MAX = 5 * MiB
/** CBOR items of one inbound frame: twice the largest request. Millions of empty maps cost seconds and a gigabyte. */
export const FRAME_ITEMS_MAX = 20_000
/** Bytes of one frame a client takes: 1000 inline bodies with their headers and cold key pages. */
export const SERVER_FRAME_BYTES_MAX = 64 * MiB
/** Bytes of one inbound frame before authentication. */
export const FRAME_BYTES_UNAUTHENTICATED_MAX = 64 * KiB
/** Requests a connection may have in flight before its socket is paused. */
export const REQUESTS_IN_FLIGHT_MAX = 32
/** Bytes of requests a connection may have in flight before its socket is paused. */
export const REQUEST_BYTES_IN_FLIGHT_MAX = 4 * MiB
/** Buffered bytes past which a session is lagging. */
export const LAGGING_BYTES = MiB
/** Buffered bytes below which a lagging session reads on. */
export const LAGGING_RESUME_BYTES = 256 * KiB
/** Buffered bytes past which a session is closed. */
export const BUFFERED_BYTES_MAX = 8 * MiB
/** Buffered bytes of all sessions of a process together; past it the largest is closed. */
export const PROCESS_BUFFERED_BYTES_MAX = 256 * MiB
/** Sessions of one process: an idle one costs up to 20 KB. */
export const SESSIONS_PER_PROCESS_MAX = 50_000
/** Time that requests in flight get when a server shuts down. */
export const DRAIN_MS_MAX = 10 * SECOND_MS
/** Time a session may stay lagging. */
export const LAGGING_MS_MAX = 60 * SECOND_MS
/** Time to authenticate in. */
export const HANDSHAKE_MS_MAX = 10 * SECOND_MS
/** Silence after which a peer is asked for a sign of life, and after twice which it is closed. */
export const HEARTBEAT_MS = 20 * SECOND_MS
/** Groups one session may follow. */
export const SUBSCRIPTIONS_PER_SESSION_MAX = 1024
/** Requests a second and burst of one connection (token bucket). */
export const REQUESTS_PER_SECOND = 2000
export const REQUESTS_BURST = 4000
/** Units of work a second and burst of one identity, whatever its sessions (token bucket): one object of a batch is one. */
export const UNITS_PER_SECOND = 20_000
export const UNITS_BURST = 200_000
/** New connections a second and burst of one address (token bucket). */
export const CONNECTIONS_PER_SECOND = 50
export const CONNECTIONS_BURST = 500
/** Failed authentications a minute of one address. */
export const AUTHENTICATION_FAILURES_PER_MINUTE = 30
/** Answer to a request. */
export const REQUEST_MS_MAX = 30 * SECOND_MS
/** Commits in one page of the log. */
export const LOG_PAGE_COMMITS = 512
/** Bytes of commits in one page of the log. */
export const LOG_PAGE_BYTES = 2 * MiB
/** Changed headers in one page. */
export const CHANGES_PAGE_ITEMS = 2000
/** Bytes of changed headers in one page. */
export const CHANGES_PAGE_BYTES = 2 * MiB
/** Writes combined into one transaction of a group. */
export const COMBINED_WRITES_MAX = 256
/** Bytes combined into one transaction of a group. */
export const COMBINED_BYTES_MAX = MiB
/** Time between two signed heads of one principal. */
export const SIGNED_HEAD_MS = 10 * MINUTE_MS
/** A process compares its groups with the database this often, because notices may be lost. */
export const SWEEP_MS = 5 * SECOND_MS
/** A lease on a rewrap range; it avoids double work only. */
export const REWRAP_LEASE_MS = 30 * SECOND_MS
/** Without a live bus for this long a process sees too late what others do. */
export const BUS_SILENCE_MS_MAX = 10 * SECOND_MS
/** Replaced seals of an unchanged epoch are kept this long. */
export const SUPERSEDED_MS = DAY_MS
/** Bodies nothing refers to are kept this long, longer than the longest read. */
export const ORPHAN_MS = 15 * MINUTE_MS
/** Unfinished uploads are kept this long. */
export const UPLOAD_MS = DAY_MS
/** Commits between two stored snapshots of a roster. */
export const SNAPSHOT_COMMITS = 64
/** Missed commits past which a client asks for a snapshot ahead. */
export const SNAPSHOT_JUMP_COMMITS = 128

// Client stores
/** Characters of a key in a client’s store. */
export const STORE_KEY_CHARACTERS_MAX = 512
/** Bytes of keys and values in one batch of a client’s store: a roster with everything that changes with it, several times over. */
export const STORE_BATCH_BYTES_MAX = 64 * MiB
