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
