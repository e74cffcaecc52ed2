/**
 * Where bodies too large for an object's row are kept: one interface, whatever the place.
 *
 * uploading → complete (every part there, length and hash list agree) → live (in the transaction of the object's write) →
 * orphan (when the object is replaced or deleted) → gone. A body is never half-visible: only live ones and orphans
 * are read. The name is random and never used again, so a reader who has the header reads that body or none.
 */
import type { BodyId, GroupId, PrincipalId } from '../../shared/ids.ts'

/** The name of a body. */
export interface BodyName {
  readonly group: GroupId
  readonly bodyId: BodyId
}

/** A span of bytes. */
export interface ByteRange {
  readonly offset: number
  readonly bytes: number
}

export interface BodyStore {
  /**
   * Starts an upload or resumes it. How long it will be is known when it ends: bodies are streamed.
   *
   * @param upload - `owner`: who may write it.
   * @returns the parts that are there.
   * @throws ClavigerError `body_invalid` if the name is in use for anything else.
   */
  begin(name: BodyName, upload: { readonly owner: PrincipalId }): Promise<readonly number[]>
  /**
   * Stores one whole part (`BODY_PART_BYTES`, the last one shorter), durably when it returns. Again replaces it.
   *
   * @throws ClavigerError `not_found` unless `owner` is uploading it, `malformed` for a part that is empty or too long.
   */
  writePart(name: BodyName, part: { readonly part: number; readonly data: Uint8Array; readonly owner: PrincipalId }): Promise<void>
  /**
   * Ends an upload: a write may name the body from now on. Again does nothing.
   *
   * @param list - `hashes`: of the chunks, 32 bytes each.
   * @throws ClavigerError `not_found`, `body_incomplete` (data: `missing` parts: absent, or short and not the last), `body_invalid` if the list has the wrong length.
   */
  complete(name: BodyName, list: { readonly hashes: Uint8Array; readonly owner: PrincipalId }): Promise<void>
  /** Ciphertext, shorter only at the end. @throws ClavigerError `not_found`. */
  read(name: BodyName, range: ByteRange): Promise<Uint8Array>
  /** A slice of the list of chunk hashes. @throws ClavigerError `not_found`. */
  readHashes(name: BodyName, range: ByteRange): Promise<Uint8Array>
  /** Deletes a bounded share of what nothing refers to any more. @returns whether there may be more. */
  collect(): Promise<boolean>
}
