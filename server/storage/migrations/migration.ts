/** One step forward of the schema. A step that has been released is never edited: a correction is the next step. */
export interface Migration {
  /** From 1, without gaps. */
  readonly version: number
  readonly name: string
  /** Run in order, in one transaction together with the note that they ran. */
  readonly statements: readonly string[]
}
