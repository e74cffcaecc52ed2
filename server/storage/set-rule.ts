/**
 * The set rule: with R = entries of the replaced pages and of the absorbed loose seals, N = entries of the new pages, what
 * is in only one of them must be dead. So no live DEK is lost and none is doubled, without reading the rest of the range.
 *
 * Dead means: the object has a later generation or is deleted. Liveness only falls, so what is found dead stays so, and
 * what a write is just killing is found alive: the safe side. An object that does not exist is not dead.
 * Two exceptions for page entries: what is listed as unopenable may be dropped, and what has a loose seal that stays.
 */
import type { PoolClient } from 'pg'
import { equalBytes } from '../../shared/bytes.ts'
import { ClavigerError } from '../../shared/errors.ts'
import type { GroupId } from '../../shared/ids.ts'
import { ENTRY_BYTES, PAIR_BYTES } from '../../shared/objects/page.ts'
import { entriesOnlyInOne } from '../../shared/objects/page-range.ts'
import { splitByPairs, unpackPairs } from './packed-pairs.ts'
import { first, statement } from './statement.ts'

/** Both sides of a replacement. */
export interface SetRuleInput {
  readonly group: GroupId
  /** Entries of the replaced pages, in order. */
  readonly old: Uint8Array
  /** Pairs of loose seals that were absorbed just now. */
  readonly absorbed: Uint8Array
  /** Pairs that were to be absorbed and were not there. */
  readonly missing: Uint8Array
  /** Entries of the new pages, in order. */
  readonly entries: Uint8Array
}

interface Found {
  readonly found: boolean
}

/** Scalar subqueries by primary key: whatever the statistics say, only the rows that are asked for are read. */
const DEAD = `coalesce((select o.generation > x.generation or not o.live from objects o where o.group_id = $1 and o.object_id = x.object_id), false)`
const HAS_OTHER_HEADER = `coalesce((select o.live and o.generation = x.generation and o.header_hash <> substring($2::bytea from x.at + 21 for 32)
  from objects o where o.group_id = $1 and o.object_id = x.object_id), false)`

const ANY_ALIVE = statement<Found>(
  'set_rule_alive',
  `select exists (select from (${unpackPairs('$2', ENTRY_BYTES)}) x where not ${DEAD}) as found`,
)
const ANY_PAIR_ALIVE = statement<Found>(
  'set_rule_pair_alive',
  `select exists (select from (${unpackPairs('$2', PAIR_BYTES)}) x where not ${DEAD}) as found`,
)
const ANY_NEEDED = statement<Found>(
  'set_rule_needed',
  `select exists (select from (${unpackPairs('$2', ENTRY_BYTES)}) x where not ${DEAD}
     and not exists (select from unopenable_deks u where u.group_id = $1 and u.object_id = x.object_id and u.generation = x.generation)
     and not exists (select from loose_deks l where l.group_id = $1 and l.object_id = x.object_id and l.generation = x.generation)) as found`,
)
const ANY_OTHER_HEADER = statement<Found>(
  'set_rule_other_header',
  `select exists (select from (${unpackPairs('$2', ENTRY_BYTES)}) x where ${HAS_OTHER_HEADER}) as found`,
)

/** @throws ClavigerError `set_rule`; `page_conflict` if what changed meanwhile explains it. */
export async function checkSetRule(connection: PoolClient, input: SetRuleInput): Promise<void> {
  const { group, old, absorbed, missing, entries } = input
  if (absorbed.length === 0 && missing.length === 0 && equalBytes(old, entries)) return
  const { onlyInOld, onlyInNew } = entriesOnlyInOne([old], [entries])
  const added = splitByPairs(onlyInNew, ENTRY_BYTES, absorbed, PAIR_BYTES)
  const dropped = splitByPairs(onlyInOld, ENTRY_BYTES, absorbed, PAIR_BYTES).others
  const lost = splitByPairs(absorbed, PAIR_BYTES, entries, ENTRY_BYTES).others
  await refuseIf(connection, ANY_PAIR_ALIVE, group, lost)
  await refuseIf(connection, ANY_OTHER_HEADER, group, added.among)
  await refuseAdded(connection, group, added.others, missing)
  await refuseIf(connection, ANY_NEEDED, group, dropped)
}

/** An entry from nowhere: its loose seal is gone because its object changed (dead), was absorbed or listed by others (conflict), or never was. */
async function refuseAdded(connection: PoolClient, group: GroupId, added: Uint8Array, missing: Uint8Array): Promise<void> {
  const { among, others } = splitByPairs(added, ENTRY_BYTES, missing, PAIR_BYTES)
  await refuseIf(connection, ANY_ALIVE, group, others)
  if (await anyFound(connection, ANY_ALIVE, group, among)) throw new ClavigerError('page_conflict')
}

async function refuseIf(connection: PoolClient, query: typeof ANY_ALIVE, group: GroupId, records: Uint8Array): Promise<void> {
  if (await anyFound(connection, query, group, records)) throw new ClavigerError('set_rule')
}

async function anyFound(connection: PoolClient, query: typeof ANY_ALIVE, group: GroupId, records: Uint8Array): Promise<boolean> {
  return records.length > 0 && (await first(connection, query, [group, records]))?.found === true
}
