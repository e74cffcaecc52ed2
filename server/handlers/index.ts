/** Every method of the protocol, and how a request finds its handler. */
import { ClavigerError, hasCode } from '../../shared/errors.ts'
import { isBytes } from '../../shared/bytes.ts'
import { asGroupId } from '../../shared/ids.ts'
import type { MethodName, Params, Request, Result } from '../../shared/protocol/messages.ts'
import { METHODS } from '../../shared/protocol/messages.ts'
import type { Peer } from '../peer.ts'
import type { Services } from '../services.ts'
import { bodyHandlers } from './bodies.ts'
import { epochHandlers } from './epoch.ts'
import { groupHandlers } from './group.ts'
import type { Handler, Handlers } from './handler.ts'
import { headHandlers } from './heads.ts'
import { identityHandlers } from './identity.ts'
import { inviteHandlers } from './invite.ts'
import { logHandlers } from './log.ts'
import { objectHandlers } from './objects.ts'
import { pageHandlers } from './pages.ts'
import { sessionHandlers } from './session.ts'

const HANDLERS = {
  ...sessionHandlers,
  ...identityHandlers,
  ...groupHandlers,
  ...logHandlers,
  ...epochHandlers,
  ...inviteHandlers,
  ...headHandlers,
  ...objectHandlers,
  ...bodyHandlers,
  ...pageHandlers,
} satisfies Handlers<MethodName>

/** Runs one request: method, parameters, handler. @throws ClavigerError for the client. */
export async function callMethod(
  services: Services,
  peer: Peer,
  { method, params }: Pick<Request, 'method' | 'params'>,
): Promise<Result<MethodName>> {
  const started = performance.now()
  const name = isMethod(method) ? method : null
  try {
    if (name === null) throw new ClavigerError('unknown_method')
    const result = await run(services, peer, name, params)
    services.metrics.requests.inc({ method: name, result: 'ok' })
    return result
  } catch (error) {
    services.metrics.requests.inc({ method: name ?? 'unknown', result: error instanceof ClavigerError ? error.code : 'internal' })
    if (hasCode(error, 'not_a_member')) noteFormerMember(services, peer, { method, params }, error)
    throw error
  } finally {
    if (name !== null) services.metrics.requestSeconds.observe({ method: name }, (performance.now() - started) / 1000)
  }
}

function isMethod(name: string): name is MethodName {
  return Object.hasOwn(METHODS, name)
}

function run<M extends MethodName>(services: Services, peer: Peer, method: M, params: unknown): Promise<Result<M>> {
  const parsed = METHODS[method].params.safeParse(params)
  if (!parsed.success) {
    const field = parsed.error.issues[0]?.path.join('.') ?? ''
    throw new ClavigerError('malformed', `the parameters of ${method} are not well-formed`, { data: { field } })
  }
  // The table is complete by type; only the correlation of name and parameters is lost on the way.
  const handlers: Handlers<MethodName> = HANDLERS
  const handler = handlers[method] as Handler<M>
  return handler({ services, peer }, parsed.data as Params<M>)
}

/** Accesses by removed members are what an operator asks about after an incident. */
function noteFormerMember(
  { audit }: Services,
  peer: Peer,
  { method, params }: Pick<Request, 'method' | 'params'>,
  error: ClavigerError,
): void {
  const group: unknown = typeof params === 'object' && params !== null && 'group' in params ? params.group : null
  if (isBytes(group, 32)) audit.refused(asGroupId(group), peer, method, error)
}
