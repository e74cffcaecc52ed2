/**
 * The cipher suites a group can have: ids and sizes only, so that the server can check lengths.
 */

/** RFC 9180 §7.1: DHKEM(X25519, HKDF-SHA256). */
export const KEM_DHKEM_X25519 = 0x0020

/**
 * Suites by the id that stands in the signed genesis. A new suite is a new row.
 *
 * `kem` is the HPKE KEM id (its code is in `kem.ts`); `nEnc`, `nPk` are bytes (RFC 9180 §7.1);
 * `wrapBytes` is an epoch secret and its tag; `sharedEnc` says that one encapsulated key serves all recipients of an epoch.
 */
export const SUITES = {
  1: { kem: KEM_DHKEM_X25519, nEnc: 32, nPk: 32, wrapBytes: 48, sharedEnc: true },
} as const

/** A suite this version knows. */
export type SuiteId = keyof typeof SUITES
/** Id of a KEM this version knows. */
export type KemId = (typeof SUITES)[SuiteId]['kem']

/** Whether a number names a suite this version knows. */
export function isSuiteId(value: unknown): value is SuiteId {
  return typeof value === 'number' && Object.hasOwn(SUITES, value)
}
