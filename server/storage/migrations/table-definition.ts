/** A table written once, created either whole or partitioned by hash of the column that leads its key. */

export interface TableDefinition {
  readonly name: string
  /** The column that leads every key, by which the table can be distributed. */
  readonly distributedBy: string
  /** Columns and constraints, as they stand between the parentheses. */
  readonly columns: string
  /** Storage parameters of the table or of each partition. */
  readonly parameters?: readonly string[]
  /** Columns already incompressible, kept out of line so that the heap row stays small. */
  readonly external?: readonly string[]
  /** Statements for further indexes. */
  readonly indexes?: readonly string[]
}

/** The statements that create `table`, in order; with `partitions`, distributed over that many. */
export function createTableStatements(table: TableDefinition, partitions = 0): readonly string[] {
  const create = `create table ${table.name} (${table.columns})`
  return [
    ...(partitions === 0 ? [create + withParameters(table)] : partitionedStatements(table, create, partitions)),
    // A thousand rows a key, whatever is counted: in a database of tiny groups the planner would take the first column of a
    // key for all of it, and read a large group whole for each of its rows.
    `alter table ${table.name} alter column ${table.distributedBy} set (n_distinct = -0.001)`,
    ...(table.external ?? []).map((column) => `alter table ${table.name} alter column ${column} set storage external`),
    ...(table.indexes ?? []),
  ]
}

function partitionedStatements(table: TableDefinition, create: string, partitions: number): readonly string[] {
  const parts = Array.from({ length: partitions }, (_, remainder) => partition(table, partitions, remainder))
  return [`${create} partition by hash (${table.distributedBy})`, ...parts]
}

function partition(table: TableDefinition, modulus: number, remainder: number): string {
  const values = `for values with (modulus ${modulus}, remainder ${remainder})`
  return `create table ${table.name}_${remainder} partition of ${table.name} ${values}${withParameters(table)}`
}

function withParameters(table: TableDefinition): string {
  return table.parameters === undefined ? '' : ` with (${table.parameters.join(', ')})`
}
