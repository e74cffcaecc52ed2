/** Milliseconds between the steps of the demo, into its report. */
export class Timing {
  readonly #report: Record<string, unknown>
  readonly #started = performance.now()
  #last = this.#started

  constructor(report: Record<string, unknown>) {
    this.#report = report
  }

  lap(name: string): void {
    const now = performance.now()
    this.#report[name] = Math.round(now - this.#last)
    this.#last = now
  }

  total(): void {
    this.#report['totalMs'] = Math.round(performance.now() - this.#started)
  }
}
