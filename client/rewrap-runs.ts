/** Which pages of a range a job has to replace. */
import type { Pair } from '../shared/objects/page.ts'
import { decodePairs } from '../shared/objects/page.ts'
import { areWithin } from '../shared/objects/page-range.ts'
import { OBJECT_ID_BYTES } from '../shared/ids.ts'
import type { KeyPageRow, LooseDekRow, Result } from '../shared/protocol/messages.ts'

/** Pages in a row that all need work, with the loose DEKs of their span. */
export interface PageRun {
  readonly pages: KeyPageRow[]
  readonly loose: LooseDekRow[]
}

/** The runs of a range that need work: old pages, pages with loose DEKs in their span, and when compacting those with dead ones. */
export function runsOf(range: Result<'pages.range'>, { epoch, isCompaction }: { epoch: number; isCompaction: boolean }): PageRun[] {
  const runs: PageRun[] = []
  const dead = isCompaction ? decodePairs(range.dead) : []
  let isOpen = false
  for (const page of range.pages) {
    const loose = range.loose.filter(({ object }) => isWithin(object, page))
    const isOld = page.epoch < epoch && page.entries.length > 0
    const needsWork = isOld || loose.length > 0 || hasDead(page, dead)
    if (needsWork && !isOpen) runs.push({ pages: [], loose: [] })
    isOpen = needsWork
    const run = runs.at(-1)
    if (!needsWork || run === undefined) continue
    run.pages.push(page)
    run.loose.push(...loose)
  }
  return runs
}

/** Whether an object lies in the span of a page. */
export function isWithin(object: Uint8Array, { lo, hi }: KeyPageRow): boolean {
  return areWithin(object, { lo, hi }, OBJECT_ID_BYTES)
}

function hasDead(page: KeyPageRow, dead: readonly Pair[]): boolean {
  return dead.some(({ object }) => isWithin(object, page))
}
