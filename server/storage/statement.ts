/**
 * Named statements: prepared once per connection, then only bound and executed.
 *
 * Always parameterised: no value ever becomes part of a statement's text.
 */
import type { Pool, PoolClient, QueryResultRow } from 'pg'

/** The pool (one statement is one transaction) or the connection of a transaction. */
export type Connection = Pool | PoolClient

/** What a parameter may be. Arrays travel as one parameter and are spread by `unnest`. */
export type Value = string | number | boolean | null | Date | Uint8Array | readonly Value[]

/** A statement and the type of its rows. */
export interface Statement<Row extends QueryResultRow> {
  readonly name: string
  readonly text: string
  /** Never set: it only carries the type. */
  readonly row?: Row
}

/** Declares a statement. @param name - unique in the program, at most 63 bytes. */
export function statement<Row extends QueryResultRow = Record<never, never>>(name: string, text: string): Statement<Row> {
  return { name: `claviger_${name}`, text }
}

/** Every row. */
export async function all<Row extends QueryResultRow>(
  connection: Connection,
  { name, text }: Statement<Row>,
  values: readonly Value[],
): Promise<Row[]> {
  return (await connection.query<Row>({ name, text, values: [...values] })).rows
}

/** The first row, or null. */
export async function first<Row extends QueryResultRow>(
  connection: Connection,
  query: Statement<Row>,
  values: readonly Value[],
): Promise<Row | null> {
  return (await all(connection, query, values))[0] ?? null
}

/** How many rows a statement wrote. */
export async function execute(
  connection: Connection,
  { name, text }: Statement<QueryResultRow>,
  values: readonly Value[],
): Promise<number> {
  return (await connection.query({ name, text, values: [...values] })).rowCount ?? 0
}

/**
 * SQL for rows `x` (group_id, object_id, n) from $1 and a bytea[] parameter: what large statements join with.
 *
 * The group is a column of `x` and not a constant on purpose. The planner knows only the average group; told a constant it
 * may take the group to be tiny, read all of it for each row that is asked for, and be quadratic in a large one (measured
 * with 30 000 tiny groups and one of 20 000 objects: 1000 replacements 11.7 s instead of 0.1 s).
 */
export function askedRows(objects: string): string {
  return `x as materialized (select $1::bytea as group_id, u.* from unnest(${objects}::bytea[]) with ordinality as u(object_id, n))`
}

/** Repeats a statement that writes at most `rowsMax` rows until nothing is left for it. @returns how many rows it wrote. */
export async function executeInBatches(
  pool: Pool,
  query: Statement<QueryResultRow>,
  values: readonly Value[],
  rowsMax: number,
): Promise<number> {
  let written = 0
  for (;;) {
    const rows = await execute(pool, query, values)
    written += rows
    if (rows < rowsMax) return written
  }
}
