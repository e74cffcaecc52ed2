/** Compares what happened with what was told, and counts what differs. */
import type { Story } from './story.ts'

export class Checks {
  readonly #story: Story
  #failures = 0

  constructor(story: Story) {
    this.#story = story
  }

  get failures(): number {
    return this.#failures
  }

  /** @returns `actual`, whatever it is. */
  equal<T>(actual: T, expected: T, what: string): T {
    this.#tell(actual === expected, `${String(actual)} ${what}`, String(expected))
    return actual
  }

  /** @returns `actual`, whatever it is. */
  atLeast(actual: number, least: number, what: string): number {
    this.#tell(actual >= least, `${actual} ${what}`, `at least ${least}`)
    return actual
  }

  #tell(holds: boolean, fact: string, expected: string): void {
    if (holds) return this.#story.fact(fact)
    this.#failures += 1
    this.#story.failure(`${fact}, but it should be ${expected}`)
  }
}
