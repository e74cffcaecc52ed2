/** Log lines for people: warnings and errors as sentences, where a terminal would otherwise show JSON. */

const LEVEL_NAMES: Readonly<Record<number, string>> = { 40: 'warning', 50: 'error', 60: 'fatal' }

/** A destination for `createLog` that rewrites each JSON line for `write`. */
export function readableLines(write: (line: string) => void): { write(line: string): void } {
  return { write: (line) => write(toReadable(line)) }
}

function toReadable(line: string): string {
  const { level, event, time: _time, error, ...facts } = JSON.parse(line) as Record<string, unknown>
  const name = typeof level === 'number' ? (LEVEL_NAMES[level] ?? 'info') : 'info'
  const details = Object.entries(facts).map(([key, value]) => `${key} ${String(value)}`)
  const reason = describe(error)
  return `${name}: ${[String(event), ...details, ...(reason === null ? [] : [reason])].join(', ')}\n`
}

function describe(error: unknown): string | null {
  if (typeof error !== 'object' || error === null || !('message' in error)) return null
  const cause = 'cause' in error ? describe(error.cause) : null
  return cause === null ? String(error.message) : `${String(error.message)} (${cause})`
}
