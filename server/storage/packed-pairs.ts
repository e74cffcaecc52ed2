/**
 * Packed records on their way into SQL: one binary parameter instead of arrays that travel as text.
 *
 * A record starts with an object (16 bytes) and a generation (4 bytes, big endian); see `shared/objects/page.ts`.
 */
import { compareBytes } from '../../shared/bytes.ts'
import { ClavigerError } from '../../shared/errors.ts'
import { OBJECT_ID_BYTES } from '../../shared/ids.ts'
import { comparePairs } from '../../shared/objects/page.ts'

/** SQL that yields (object_id, generation, at) for each record of a bytea parameter; `at` is the record's offset. */
export function unpackPairs(parameter: string, recordBytes: number): string {
  const byte = (offset: number, factor: number): string => `get_byte(${parameter}::bytea, at + ${offset}) * ${factor}`
  const generation = [byte(16, 0x100_0000), byte(17, 0x1_0000), byte(18, 0x100), byte(19, 1)].join(' + ')
  return `select substring(${parameter}::bytea from at + 1 for 16) as object_id, ${generation} as generation, at
    from generate_series(0, octet_length(${parameter}::bytea) - ${recordBytes}, ${recordBytes}) as at`
}

/**
 * Checks records that unpackPairs will read: whole, ascending, and with generations that fit the column.
 *
 * @throws ClavigerError `malformed`.
 */
export function checkPairs(records: Uint8Array, recordBytes: number): void {
  if (records.length % recordBytes !== 0) throw new ClavigerError('malformed', `pairs must be a multiple of ${recordBytes} bytes`)
  for (let start = 0; start < records.length; start += recordBytes) {
    if (start > 0 && comparePairs(records, start - recordBytes, records, start) >= 0)
      throw new ClavigerError('malformed', 'pairs must be sorted and different')
    if ((records[start + OBJECT_ID_BYTES] ?? 0) > 0x7f) throw new ClavigerError('malformed', 'generations must be below 2^31')
  }
}

/** Splits sorted records into those whose pair is among sorted `pairs`, and the others. Both stay sorted. */
export function splitByPairs(
  records: Uint8Array,
  recordBytes: number,
  pairs: Uint8Array,
  pairBytes: number,
): { among: Uint8Array; others: Uint8Array } {
  const among = new Uint8Array(records.length)
  const others = new Uint8Array(records.length)
  let amongBytes = 0
  let otherBytes = 0
  let at = 0
  for (let start = 0; start < records.length; start += recordBytes) {
    while (at < pairs.length && comparePairs(pairs, at, records, start) < 0) at += pairBytes
    const record = records.subarray(start, start + recordBytes)
    if (at < pairs.length && comparePairs(pairs, at, records, start) === 0) {
      among.set(record, amongBytes)
      amongBytes += recordBytes
    } else {
      others.set(record, otherBytes)
      otherBytes += recordBytes
    }
  }
  return { among: among.subarray(0, amongBytes), others: others.subarray(0, otherBytes) }
}

/** Whether two bounds are equal; null is the end of the id space. */
export function isSameBound(left: Uint8Array | null, right: Uint8Array | null): boolean {
  return left === null || right === null ? left === right : compareBytes(left, right) === 0
}
