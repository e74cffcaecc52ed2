/** Tells what happens: chapters, facts and progress bars on a terminal, plain lines elsewhere. */

const BAR_CELLS = 30
const REDRAW_MS = 80

/** A bar under way. */
export interface ProgressBar {
  update(done: number, total: number): void
  end(): void
}

export class Story {
  readonly #out: NodeJS.WriteStream
  readonly #started = Date.now()

  constructor(out: NodeJS.WriteStream) {
    this.#out = out
  }

  /** A step of the story. */
  chapter(title: string): void {
    this.#line(`\n${this.#bold(`▸ ${title}`)}  ${this.#dim(`${((Date.now() - this.#started) / 1000).toFixed(1)} s`)}`)
  }

  /** Something that has been seen to be so. */
  fact(text: string): void {
    this.#line(`  ${this.#out.isTTY ? '\u001b[32m✓\u001b[0m' : '✓'} ${text}`)
  }

  /** Something that is not as it should be. */
  failure(text: string): void {
    this.#line(`  ${this.#out.isTTY ? '\u001b[31m✗\u001b[0m' : '✗'} ${text}`)
  }

  /** A remark. */
  note(text: string): void {
    this.#line(`    ${this.#dim(text)}`)
  }

  /** A bar that redraws itself; without a terminal only its end is told. */
  progress(label: string): ProgressBar {
    let [last, drawn] = [{ done: 0, total: 0 }, 0]
    const draw = (): void => {
      if (this.#out.isTTY) this.#out.write(`\r\u001b[2K  ${barText(label, last)}`)
      drawn = Date.now()
    }
    return {
      update: (done, total) => {
        last = { done, total }
        if (Date.now() - drawn > REDRAW_MS || done === total) draw()
      },
      end: () => {
        if (this.#out.isTTY) this.#out.write('\r\u001b[2K')
        this.fact(barText(label, last))
      },
    }
  }

  /** Columns in line, the first one to the left. */
  table(rows: readonly (readonly string[])[]): void {
    const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
    for (const row of rows) {
      const cells = row.map((cell, column) => (column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
      this.#line(`    ${cells.join('   ')}`)
    }
  }

  #line(text: string): void {
    this.#out.write(`${text}\n`)
  }

  #bold(text: string): string {
    return this.#out.isTTY ? `\u001b[1m${text}\u001b[0m` : text
  }

  #dim(text: string): string {
    return this.#out.isTTY ? `\u001b[2m${text}\u001b[0m` : text
  }
}

function barText(label: string, { done, total }: { done: number; total: number }): string {
  const share = total === 0 ? 1 : Math.min(done / total, 1)
  const filled = Math.round(share * BAR_CELLS)
  return `${label} ${'█'.repeat(filled)}${'░'.repeat(BAR_CELLS - filled)} ${formatCount(done)} of ${formatCount(total)}`
}

/** 12345 → 12 345. */
export function formatCount(value: number): string {
  return String(Math.round(value)).replace(/\B(?=(\d{3})+(?!\d))/g, ' ')
}

/** Bytes for people. */
export function formatBytes(bytes: number): string {
  if (bytes < 10_000) return `${formatCount(bytes)} B`
  if (bytes < 10_000_000) return `${formatCount(bytes / 1000)} kB`
  return `${formatCount(bytes / 1_000_000)} MB`
}
