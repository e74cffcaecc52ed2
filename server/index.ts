/** The server as a library. */
export { startServer } from './server.ts'
export type { RunningServer } from './server.ts'
export { DEFAULT_DIRECTORY, DEFAULT_HOST, DEFAULT_PORT, parseConfig, serverConfig } from './config.ts'
export type { AdmissionSetting, DatabaseSetting, Environment, Flags, ServerConfig } from './config.ts'
export { createLog } from './log.ts'
export type { Log, LogLevel } from './log.ts'
export type { ServerLimits } from './server-limits.ts'
