/** The session itself. */
import type { Handlers } from './handler.ts'

export const sessionHandlers: Handlers<'session.ping'> = {
  'session.ping': async ({ services: { clock } }) => ({ time: clock.now() }),
}
