/** An object as the app sees it: name and version at once, the body when asked for. */
import type { IdentityId, ObjectId } from '../shared/ids.ts'
import { collect } from './object-reader.ts'
import type { ReadObject } from './object-reader.ts'

export class GroupObject {
  readonly id: ObjectId
  readonly version: number
  readonly author: IdentityId
  readonly name: string | null
  /** A media type, if the author gave one. */
  readonly type: string | null
  /** The app’s own data, if the author gave some. */
  readonly custom: Uint8Array | null
  /** Plaintext bytes of the body. */
  readonly length: number
  readonly #read: ReadObject['read']

  constructor(read: ReadObject) {
    this.id = read.id
    this.version = read.version
    this.author = read.author
    this.name = read.metadata.name ?? null
    this.type = read.metadata.type ?? null
    this.custom = read.metadata.custom ?? null
    this.length = read.length
    this.#read = read.read
  }

  /** The body, each chunk checked before it is released; any byte range `[start, end)`. */
  stream(start?: number, end?: number): AsyncIterable<Uint8Array> {
    return this.#read(start, end)
  }

  /** The whole body. */
  bytes(): Promise<Uint8Array> {
    return collect(this.#read())
  }

  /** The whole body as UTF-8. @throws TypeError if it is not. */
  async text(): Promise<string> {
    return new TextDecoder('utf-8', { fatal: true }).decode(await this.bytes())
  }
}
