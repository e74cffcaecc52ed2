/** Key pages this client has open: reading many objects of one page opens it once. */
import { idKey } from '../shared/ids.ts'
import type { PageId } from '../shared/ids.ts'
import type { OpenedPage } from '../shared/objects/page-seal.ts'
import { wipe } from '../shared/bytes.ts'

/** A page is about 21 KB. */
const OPEN_PAGES_MAX = 256

/** A page with the epoch it is sealed under. */
export interface CachedPage extends OpenedPage {
  readonly epoch: number
}

/** The most recently used open pages. */
export class OpenPages {
  readonly #pages = new Map<string, CachedPage>()

  /** A page is being used again. */
  touch(id: PageId): void {
    const key = idKey(id)
    const page = this.#pages.get(key)
    if (page === undefined) return
    this.#pages.delete(key)
    this.#pages.set(key, page)
  }

  add(page: CachedPage): void {
    this.#pages.set(idKey(page.pageId), page)
    for (const key of this.#pages.keys()) {
      if (this.#pages.size <= OPEN_PAGES_MAX) return
      // Not wiped: a read under way may still be using it.
      this.#pages.delete(key)
    }
  }

  /** The open pages: the server does not send them again. */
  all(): CachedPage[] {
    return [...this.#pages.values()]
  }

  /** Drops pages of retired epochs. */
  dropThrough(epoch: number): void {
    for (const [key, page] of this.#pages) {
      if (page.epoch > epoch) continue
      wipe(page.deks)
      this.#pages.delete(key)
    }
  }
}
