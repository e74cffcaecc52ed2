/** What ten thousand idle sessions cost the server process. */
import { fork } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { figure, reportSection } from './section.ts'
import { withStage } from './stage.ts'

const SESSIONS = 10_000
/** Time to settle after the last handshake. */
const SETTLE_MS = 3000
/** The CPU an idle crowd needs is measured over this time; a heartbeat is every 20 s. */
const WATCH_MS = 40_000

const { before, signedIn, following, cpuPercent, signInSeconds } = await withStage(async ({ server }) => {
  const clients = fork(fileURLToPath(new URL('idle-clients.js', import.meta.url)), [server.url, String(SESSIONS)])
  await said(clients, 'ready')
  const empty = await server.stats()
  const started = performance.now()
  clients.send('sign in')
  await said(clients, 'signed in')
  const seconds = (performance.now() - started) / 1000
  await delay(SETTLE_MS)
  const open = await server.stats()
  clients.send('follow')
  await said(clients, 'following')
  await delay(SETTLE_MS)
  const subscribed = await server.stats()
  await delay(WATCH_MS)
  const watched = await server.stats()
  clients.disconnect()
  await once(clients, 'exit')
  return {
    before: empty,
    signedIn: open,
    following: subscribed,
    cpuPercent: (100 * (watched.cpuMs - subscribed.cpuMs)) / WATCH_MS,
    signInSeconds: seconds,
  }
})

const each = (bytes: number, from: number): number => (bytes - from) / SESSIONS / 1024
reportSection({
  title: 'Idle sessions',
  method: `${SESSIONS} authenticated WebSocket sessions of one identity from one process on the same machine; resident memory of the server process after a garbage collection, less what it was with no session.`,
  columns: ['sessions', 'resident, MiB', 'KiB a session', 'heap, KiB a session'],
  rows: [
    ['none', figure(before.residentBytes / 1024 ** 2), '', ''],
    [
      `${SESSIONS} signed in`,
      figure(signedIn.residentBytes / 1024 ** 2),
      figure(each(signedIn.residentBytes, before.residentBytes)),
      figure(each(signedIn.heapBytes, before.heapBytes)),
    ],
    [
      `${SESSIONS} following a group`,
      figure(following.residentBytes / 1024 ** 2),
      figure(each(following.residentBytes, before.residentBytes)),
      figure(each(following.heapBytes, before.heapBytes)),
    ],
  ],
  targets: [
    {
      what: `${SESSIONS} idle sessions`,
      bound: 20,
      good: 'at most',
      measured: each(signedIn.residentBytes, before.residentBytes),
      unit: 'KiB each',
    },
    {
      what: `${SESSIONS} idle sessions that follow a group`,
      bound: 20,
      good: 'at most',
      measured: each(following.residentBytes, before.residentBytes),
      unit: 'KiB each',
    },
  ],
  notes: [`Signing in took ${signInSeconds.toFixed(1)} s; following costs ${cpuPercent.toFixed(1)} % of one core while nothing happens.`],
})
process.exit(0)

async function said(child: ChildProcess, what: string): Promise<void> {
  const ended = once(child, 'exit').then(([code]) => {
    throw new Error(`the clients ended with ${String(code)}`)
  })
  const [message] = (await Promise.race([once(child, 'message'), ended])) as [unknown]
  ended.catch(() => undefined)
  if (message !== what) throw new Error(`expected ${what}, got ${String(message)}`)
}
