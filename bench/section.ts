/** What one benchmark reports: a table, and how it stands to the targets. */

/** A bound, and what was measured. Ratios are of one run. */
export interface Target {
  readonly what: string
  readonly bound: number
  /** Which side of the bound is good. */
  readonly good: 'at most' | 'at least'
  readonly measured: number
  /** Behind both numbers: `ms`, `×`, `%`. */
  readonly unit: string
}

export interface Section {
  readonly title: string
  /** What was done, so that it can be done again. */
  readonly method: string
  readonly columns: readonly string[]
  readonly rows: readonly (readonly string[])[]
  readonly targets: readonly Target[]
  /** What a reader might otherwise take the numbers for. */
  readonly notes: readonly string[]
}

/** Hands the result to the process that started this one, or shows it. */
export function reportSection(section: Section): void {
  if (process.send === undefined) console.log(renderForTerminal(section))
  else process.send(section)
}

/** `met`, or by how much the bound is missed. */
export function verdict({ bound, good, measured }: Target): string {
  const isMet = good === 'at most' ? measured <= bound : measured >= bound
  if (isMet) return 'met'
  const factor = good === 'at most' ? measured / bound : bound / measured
  return `missed by ${((factor - 1) * 100).toFixed(0)} %${factor < TIE ? ' (a tie)' : ''}`
}

/** Differences below this factor are noise on a shared machine. */
const TIE = 1.5

/** A number with as many digits as it deserves. */
export function figure(value: number): string {
  if (value >= 100_000) return `${Math.round(value / 1000)} k`
  if (value >= 10_000) return `${(value / 1000).toFixed(1)} k`
  if (value >= 100) return String(Math.round(value))
  return value >= 10 ? value.toFixed(1) : value.toFixed(2)
}

/** Text in aligned columns. */
export function renderForTerminal(section: Section): string {
  const targets = section.targets.map((target) => [`  ${target.what}`, boundText(target), measuredText(target), verdict(target)])
  const parts = [section.title, alignRows([section.columns, ...section.rows].map((row) => ['', ...row]))]
  if (targets.length > 0) parts.push(alignRows([['  target', 'bound', 'measured', ''], ...targets]))
  return `${parts.join('\n')}\n`
}

/** The same in Markdown. */
export function renderForMarkdown(section: Section): string {
  const targets = section.targets.map((target) => [target.what, boundText(target), measuredText(target), verdict(target)])
  const parts = [`## ${section.title}`, section.method, markdownTable([section.columns, ...section.rows])]
  if (targets.length > 0) parts.push(markdownTable([['target', 'bound', 'measured', ''], ...targets]))
  parts.push(...section.notes)
  return parts.join('\n\n')
}

function boundText({ good, bound, unit }: Target): string {
  return `${good === 'at most' ? '≤' : '≥'} ${bound} ${unit}`.trim()
}

function measuredText({ measured, unit }: Target): string {
  return `${figure(measured)} ${unit}`.trim()
}

function alignRows(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? '').length)))
  return rows
    .map((row) =>
      row
        .map((cell, column) => (column <= 1 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

function markdownTable(rows: readonly (readonly string[])[]): string {
  const [head = [], ...body] = rows
  const rule = head.map((_, column) => (column === 0 ? '---' : '---:'))
  return [head, rule, ...body].map((row) => `| ${row.join(' | ')} |`).join('\n')
}
