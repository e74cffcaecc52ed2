/** The way notices take from one server process to the others. */
import type { Notice } from './notice.ts'

export interface BusListener {
  /** Another process says something. */
  noticed(notice: Notice): void
  /** Notices may have been missed: compare with the database now. */
  reconnected(): void
}

export interface Bus {
  /** Tells the other processes, soon. Never fails: what is lost is found by the sweep. */
  publish(notice: Notice): void
  /** Milliseconds since 1970 at which the bus was last known to work; null if it never did. */
  readonly aliveAt: number | null
  close(): Promise<void>
}
