/** The embedded PostgreSQL, as the server uses it. */
export { startEmbeddedPostgres } from './launcher.ts'
export type { EmbeddedPostgres, EmbeddedPostgresOptions } from './launcher.ts'
export type { LauncherLog } from './settle.ts'
