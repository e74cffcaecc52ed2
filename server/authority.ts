/**
 * Which authority (host and port) a client may say it dialled.
 *
 * Signatures are bound to it. Where the operator names the public hosts only they count; a server that listens on this
 * machine alone takes its own names, so that a page which resolves its own name to 127.0.0.1 gets nowhere; otherwise
 * whatever the client says must do.
 */
import type { ServerConfig } from './config.ts'
import { isAuthority } from './config.ts'

/** Whether connections to `authority` are taken. */
export function isOurAuthority({ publicHosts, host }: Pick<ServerConfig, 'publicHosts' | 'host'>, authority: string): boolean {
  if (!isAuthority(authority)) return false
  if (publicHosts.length > 0) return publicHosts.includes(authority.toLowerCase())
  return !isLoopback(host) || isLoopback(withoutPort(authority))
}

/** Whether a host name or address is this machine itself. */
export function isLoopback(host: string): boolean {
  return /^(localhost|.*\.localhost|127(\.\d{1,3}){3}|\[?::1\]?)$/i.test(host)
}

/** The authority under which a listening address is dialled. */
export function dialledAuthority(host: string, port: number): string {
  if (host === '0.0.0.0' || host === '') return `127.0.0.1:${port}`
  if (host === '::') return `[::1]:${port}`
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

function withoutPort(authority: string): string {
  return authority.replace(/:\d+$/, '')
}
