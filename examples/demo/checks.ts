/** Compares what happened with what was told, and counts what differs. */
import type { Story } from './story.ts'
import { formatCount } from './story.ts'

export class Checks {
  readonly #story: Story
  #failures = 0

  constructor(story: Story) {
    this.#story = story
  }

  get failures(): number {
    return this.#failures
  }

  /** Something counted, and what it should be. @returns `actual`, whatever it is. */
  count(actual: number, expected: number, what: string): number {
    this.#tell(actual === expected, `${formatCount(actual)} ${what}`, formatCount(expected))
    return actual
  }

  /** Something counted, and the least it should be. @returns `actual`, whatever it is. */
  atLeast(actual: number, least: number, what: string): number {
    this.#tell(actual >= least, `${formatCount(actual)} ${what}`, `at least ${formatCount(least)}`)
    return actual
  }

  /** Something that is so or not. */
  holds(isSo: boolean, what: string): void {
    this.#tell(isSo, what, 'so')
  }

  #tell(isSo: boolean, fact: string, expected: string): void {
    if (isSo) return this.#story.fact(fact)
    this.#failures += 1
    this.#story.failure(`${fact}: it should be ${expected}`)
  }
}
