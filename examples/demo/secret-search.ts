/**
 * Searches bytes for many secrets at once, each in every form it could leak in: raw, hex, base64, base64url, decimal.
 */
import { closeSync, openSync, readdirSync, readSync, statSync } from 'node:fs'
import { join } from 'node:path'

/** Needles are found by their first four bytes. */
const KEY_BYTES = 4
/** Shorter needles would be found by chance. */
const NEEDLE_BYTES_MIN = 12
const WINDOW_BYTES = 4 * 1024 * 1024

interface Needle {
  readonly label: string
  readonly bytes: Buffer
}

/** One find. */
export interface Find {
  readonly label: string
  readonly where: string
}

/** A set of secrets to look for. */
export class SecretSearch {
  readonly #needles = new Map<number, Needle[]>()
  readonly #filter = new Uint8Array(1 << 16)
  #secrets = 0
  #longest = 0

  /** How many secrets are looked for, each in all its forms. */
  get size(): number {
    return this.#secrets
  }

  /** Looks for key bytes in all forms. */
  addKey(label: string, key: Uint8Array): void {
    this.#secrets += 1
    const raw = Buffer.from(key)
    this.#add({ label, bytes: raw })
    this.#add({ label: `${label} (hex)`, bytes: Buffer.from(raw.toString('hex')) })
    this.#add({ label: `${label} (HEX)`, bytes: Buffer.from(raw.toString('hex').toUpperCase()) })
    this.#add({ label: `${label} (base64)`, bytes: Buffer.from(raw.toString('base64').slice(0, 40)) })
    this.#add({ label: `${label} (base64url)`, bytes: Buffer.from(raw.toString('base64url').slice(0, 40)) })
    this.#add({ label: `${label} (decimal)`, bytes: Buffer.from([...raw.subarray(0, 12)].join(',')) })
  }

  /** Looks for a piece of text or plaintext as it is and in hex, if it is long enough to mean something. */
  addText(label: string, text: Uint8Array): void {
    if (text.length < NEEDLE_BYTES_MIN) return
    this.#secrets += 1
    const raw = Buffer.from(text)
    this.#add({ label, bytes: raw })
    this.#add({ label: `${label} (hex)`, bytes: Buffer.from(raw.toString('hex')) })
    this.#add({ label: `${label} (base64)`, bytes: Buffer.from(raw.subarray(0, raw.length - (raw.length % 3)).toString('base64')) })
  }

  /** Every find in one piece of bytes. */
  search(bytes: Uint8Array, where: string): Find[] {
    const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    const finds: Find[] = []
    for (let at = 0; at + KEY_BYTES <= buffer.length; at += 1) {
      if (this.#filter[((buffer[at] ?? 0) << 8) | (buffer[at + 1] ?? 0)] === 0) continue
      for (const { label, bytes: needle } of this.#needles.get(buffer.readUInt32BE(at)) ?? []) {
        if (at + needle.length <= buffer.length && buffer.compare(needle, 0, needle.length, at, at + needle.length) === 0)
          finds.push({ label, where })
      }
    }
    return finds
  }

  /** Every find in every file below a directory, read in overlapping windows. */
  searchDirectory(directory: string): { finds: Find[]; bytes: number } {
    const finds: Find[] = []
    let bytes = 0
    for (const entry of readdirSync(directory, { withFileTypes: true, recursive: true })) {
      if (!entry.isFile()) continue
      const path = join(entry.parentPath, entry.name)
      bytes += this.#searchFile(path, finds)
    }
    return { finds, bytes }
  }

  #searchFile(path: string, finds: Find[]): number {
    const size = statSync(path, { throwIfNoEntry: false })?.size ?? 0
    if (size === 0) return 0
    const file = openSync(path, 'r')
    try {
      const window = Buffer.alloc(Math.min(size, WINDOW_BYTES))
      for (let offset = 0; offset < size; offset += Math.max(window.length - this.#longest, 1)) {
        const read = readSync(file, window, 0, window.length, offset)
        finds.push(...this.search(window.subarray(0, read), `${path}@${offset}`))
        if (offset + read >= size) break
      }
    } finally {
      closeSync(file)
    }
    return size
  }

  #add(needle: Needle): void {
    if (needle.bytes.length < NEEDLE_BYTES_MIN) return
    this.#filter[((needle.bytes[0] ?? 0) << 8) | (needle.bytes[1] ?? 0)] = 1
    const key = needle.bytes.readUInt32BE(0)
    const others = this.#needles.get(key)
    if (others === undefined) this.#needles.set(key, [needle])
    else others.push(needle)
    this.#longest = Math.max(this.#longest, needle.bytes.length)
  }
}
