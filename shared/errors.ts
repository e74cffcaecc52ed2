/**
 * One error class and one table of stable codes. Codes are API, sentences are not.
 *
 * `retry` says whether the same intent may succeed later, `wire` whether a server may send the code to a client,
 * and the sentence says what to do. Failing to open anything is the single code `decryption_failed`, without detail.
 */

interface ErrorRow {
  readonly retry: boolean
  readonly wire: boolean
  readonly advice: string
}

const no = { retry: false, wire: true } as const
const again = { retry: true, wire: true } as const
const local = { retry: false, wire: false } as const

export const ERRORS = {
  // Data that is not what it must be
  malformed: { ...no, advice: 'The message or structure is not well-formed; compare both sides’ versions.' },
  decryption_failed: { ...local, advice: 'The data does not open with this key. It was changed, or is meant for somebody else.' },
  invalid_key: { ...no, advice: 'The public key is not acceptable (length, canonical form or order).' },
  invalid_signature: { ...no, advice: 'The signature does not verify under the key of the named author.' },
  unsupported_version: { ...no, advice: 'Update this software: the other side speaks another version.' },
  limit_exceeded: { ...no, advice: 'Something is larger than its documented limit.' },

  // The group log
  not_authorised: { ...no, advice: 'The author’s role does not allow this.' },
  rule_violated: { ...no, advice: 'The commit breaks the numbered rule named in `data.rule`.' },
  stale_head: { ...again, advice: 'Somebody else committed first; fold the newer commits and plan again.' },
  roster_mismatch: { ...no, advice: 'The roster hash in the commit is not what the fold gives.' },
  rollback: { ...local, advice: 'The server went behind a head this client has accepted. Stop and compare with other members.' },
  fork: { ...local, advice: 'Two signed histories of this group exist. `data` holds both; compare with other members.' },
  bad_head: { ...no, advice: 'The item names a head that is not in this history; its signer is named in `data`.' },
  group_stopped: {
    ...local,
    advice: 'The group was stopped by a `fork` or `rollback`, see `cause`. Compare with other members; to start anew, forget the group.',
  },
  unverified: { ...again, advice: 'The skipped part of the log has not been checked yet; try again when it has.' },
  unknown_group: { ...no, advice: 'No such group, or no access to it.' },
  group_exists: { ...no, advice: 'A group with this id already exists.' },
  not_a_member: { ...no, advice: 'This identity is not an active member of the group.' },
  last_admin: { ...no, advice: 'Appoint another admin first: a group must not be left without one.' },
  gave_up: { ...again, advice: 'Others kept committing first; the change was not made. Try again.' },

  // Epochs
  stale_epoch: { ...again, advice: 'A newer epoch is current; catch up and seal the DEK again.' },
  rekey_owed: { ...again, advice: 'A new epoch must be opened before anything is written.' },
  wrap_invalid: { ...again, advice: 'No wrap of this epoch opens for this member; help has been asked for.' },
  wraps_incomplete: { ...no, advice: 'The wraps are not exactly those of the recipients.' },
  rekey_invalid: { ...no, advice: 'The deposit key of the epoch does not belong to its secret.' },
  epoch_unavailable: { ...again, advice: 'This epoch’s secret is not reachable by links from the current one.' },
  epoch_retired: { ...no, advice: 'The epoch is retired; its secret and seals are gone.' },

  // Invites
  invite_invalid: { ...no, advice: 'The token is not valid for this group.' },
  invite_expired: { ...no, advice: 'The invite has expired; ask for a new one.' },
  invite_spent: { ...no, advice: 'The invite has been used up or revoked; ask for a new one.' },
  already_member: { ...no, advice: 'This identity is already a member.' },

  // Objects
  not_found: { ...no, advice: 'No such object.' },
  version_conflict: { ...again, advice: 'The object has a newer version; read it and decide.' },
  object_fork: { ...local, advice: 'The version offered does not follow the one this client holds.' },
  withheld: { ...local, advice: 'The server no longer shows an object this client knows, without a signed deletion.' },
  dek_invalid: { ...again, advice: 'The DEK does not match the commitment in the signed header.' },
  page_invalid: { ...again, advice: 'The key page does not vouch for this header.' },
  page_conflict: { ...again, advice: 'The pages changed meanwhile; ask for the range again.' },
  set_rule: { ...no, advice: 'A live DEK would be lost or doubled by this replacement.' },
  not_retirable: { ...again, advice: 'Something still needs this epoch.' },
  body_incomplete: { ...again, advice: 'Not all parts of the body have arrived; resume the upload.' },
  body_invalid: { ...no, advice: 'The stored body is not the one its author signed.' },

  // Sessions and transport
  unauthenticated: { ...no, advice: 'Authenticate first.' },
  authentication_failed: { ...no, advice: 'The signature over the server’s nonce does not verify.' },
  unknown_method: { ...no, advice: 'The server does not know this method.' },
  rate_limited: { ...again, advice: 'Too many requests; slow down.' },
  clock_skew: { ...no, advice: 'The commit’s time is far from the server’s; check this machine’s clock.' },
  disconnected: { ...again, retry: true, wire: false, advice: 'The connection was lost; it is being made again.' },
  closed: { ...local, advice: 'This client was closed.' },
  timeout: { ...again, wire: false, advice: 'No answer in time.' },
  server_draining: { ...again, advice: 'The server is shutting down; connect again.' },
  server_unavailable: { ...again, advice: 'The server cannot reach its database; try again shortly.' },
  storage_full: { ...again, advice: 'The server’s storage is full; reads still work.' },
  internal: { ...again, advice: 'The server failed in an unexpected way; its log has the reason.' },

  // Operators
  config_invalid: { ...local, advice: 'The configuration cannot be used; the message names the setting.' },
  port_in_use: { ...local, advice: 'Another program listens on this port; choose another with --port.' },
  database_unreachable: { ...local, advice: 'No connection to the database; check DATABASE_URL.' },
  database_foreign: { ...local, advice: 'The data directory is used by a PostgreSQL that is not ours.' },
  database_newer: { ...local, advice: 'A newer Claviger has migrated the database; update this one.' },
  database_platform: { ...local, advice: 'The embedded PostgreSQL cannot run on this machine or as this user; set DATABASE_URL.' },
  database_version: {
    ...local,
    advice: 'The data directory belongs to another PostgreSQL major; back up with the old package and restore with the new.',
  },
  database_start_failed: { ...local, advice: 'The embedded PostgreSQL did not start; its log file has the reason.' },
  store_locked: { ...local, advice: 'Another process uses this store.' },
  store_failed: { ...local, advice: 'The store could not be written; the cause has the reason, for example a full disk.' },
  store_invalid: { ...local, advice: 'The store’s file is damaged.' },
} as const satisfies Record<string, ErrorRow>

export type ErrorCode = keyof typeof ERRORS

export interface ErrorOptions {
  readonly cause?: unknown
  /** Facts a program may act on (a head, a rule number, evidence). Never a secret. */
  readonly data?: Readonly<Record<string, unknown>>
}

/** Any failure that is not the caller’s own mistake: data, peer, network or operator. */
export class ClavigerError extends Error {
  override readonly name = 'ClavigerError'
  readonly code: ErrorCode
  readonly data: Readonly<Record<string, unknown>>

  constructor(code: ErrorCode, message?: string, options: ErrorOptions = {}) {
    super(message ?? ERRORS[code].advice, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.data = options.data ?? {}
  }

  /** Whether the same intent may succeed later. */
  get retry(): boolean {
    return ERRORS[this.code].retry
  }
}

/** Whether `value` is one of the stable codes. */
export function isErrorCode(value: unknown): value is ErrorCode {
  return typeof value === 'string' && Object.hasOwn(ERRORS, value)
}

/** Whether `error` is a {@link ClavigerError} with one of `codes`. */
export function hasCode(error: unknown, ...codes: readonly ErrorCode[]): error is ClavigerError {
  return error instanceof ClavigerError && codes.includes(error.code)
}
