/** One message to a hundred sessions: the relay against a plain loop of `ws.send`. */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import type { AddressInfo, Socket } from 'node:net'
import { createServer } from 'node:net'
import { fileURLToPath } from 'node:url'
import type { WebSocket } from 'ws'
import { WebSocketServer } from 'ws'
import { Claviger, Identity } from '../client/node/index.ts'
import { frameOf } from '../server/frame.ts'
import { encodeCanonical } from '../shared/codec.ts'
import { randomBytes } from '../shared/crypto/public-crypto.ts'
import type { GroupId } from '../shared/ids.ts'
import { SUBPROTOCOL } from '../shared/protocol/messages.ts'
import { openRelayHost } from './fan-out-host.ts'
import { median } from './measure.ts'
import { figure, reportSection } from './section.ts'
import { withStage } from './stage.ts'

const SESSIONS = 100
const IN_FLIGHT = [1, 16] as const
const PHASE_MS = 1500
const ROUNDS = 5
const HEAD_BYTES = 200

/** Deliveries a second, by wall and by processor time of the sender. */
interface Rate {
  readonly wall: number
  readonly cpu: number
}

interface Contender {
  readonly port: number
  /** Tells all sessions of one event. */
  send(): void
}

const results = await withStage(async ({ server, database }) => {
  const { group, members } = await makeGroup(server.url)
  const event = { type: 'signed-head', group, head: randomBytes(HEAD_BYTES) } as const
  const relay = await openRelayHost({
    database,
    group,
    members: members.map(({ id, signer }) => ({ identity: id, signingKey: signer.publicKey, revision: 0 })),
  })
  const plain = await openPlain()
  const contenders = [
    { port: relay.port, send: () => relay.announce(event) },
    { port: plain.port, send: () => plain.send(encodeCanonical(event)) },
  ]
  const claim = encodeCanonical({ type: 'authenticate', cards: [Uint8Array.of(1)], signature: new Uint8Array(64) })
  const receivers = await startReceivers(
    contenders.map(({ port }) => port),
    [claim, new Uint8Array(0)],
  )
  await relay.following
  const rates = await takeTurns(contenders, receivers.control, frameOf(event).wire.length)
  receivers.stop()
  await relay.close()
  plain.close()
  return rates
})

reportSection({
  title: 'Relay to a hundred sessions',
  method: `An event of ${HEAD_BYTES} bytes to ${SESSIONS} sessions of a group of ${SESSIONS + 1}, all of whom may see it: \`Relay.announce\` through real sessions on real sockets, against the same bytes sent by a loop of \`ws.send\`. The receivers count bytes in another process. A round is over when everybody has everything; deliveries a second, medians of ${ROUNDS} phases of ${PHASE_MS} ms in turns.`,
  columns: ['in flight', 'relay', 'ws.send loop', 'relay ÷ loop', 'relay, per CPU second', 'loop, per CPU second', 'ratio'],
  rows: results.map(({ inFlight, relay, plain }) => [
    String(inFlight),
    ...[relay.wall, plain.wall, relay.wall / plain.wall, relay.cpu, plain.cpu, relay.cpu / plain.cpu].map(figure),
  ]),
  targets: results.map(({ inFlight, relay, plain }) => ({
    what: `${inFlight} in flight: against a plain loop`,
    bound: inFlight === 1 ? 1 : 5,
    good: 'at least',
    measured: relay.wall / plain.wall,
    unit: '×',
  })),
  notes: [],
})
process.exit(0)

async function makeGroup(url: string): Promise<{ group: GroupId; members: readonly Identity[] }> {
  const owner = await Claviger.connect(url, { identity: await Identity.generate(), background: false })
  const group = await owner.createGroup()
  const members: Identity[] = []
  while (members.length < SESSIONS) members.push(await Identity.generate())
  for (const { cards } of members) await group.add(cards)
  owner.close()
  return { group: group.id, members }
}

async function openPlain(): Promise<{ port: number; send: (payload: Uint8Array) => void; close: () => void }> {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: false, handleProtocols: () => SUBPROTOCOL })
  const sockets: WebSocket[] = []
  server.on('connection', (socket) => sockets.push(socket))
  await once(server, 'listening')
  const send = (payload: Uint8Array): void => {
    for (const socket of sockets) socket.send(payload)
  }
  const close = (): void => {
    for (const socket of sockets) socket.terminate()
    server.close()
  }
  return { port: (server.address() as AddressInfo).port, send, close }
}

async function startReceivers(
  ports: readonly number[],
  firstFrames: readonly Uint8Array[],
): Promise<{ control: Socket; stop: () => void }> {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const hex = firstFrames.map((frame) => Buffer.from(frame).toString('hex')).join(',')
  fork(fileURLToPath(new URL('fan-out-receivers.js', import.meta.url)), [
    String((server.address() as AddressInfo).port),
    ports.join(','),
    String(SESSIONS),
    hex,
  ])
  const [control] = (await once(server, 'connection')) as [Socket]
  control.setNoDelay(true)
  await once(control, 'data')
  return { control, stop: () => (control.destroy(), server.close()) }
}

async function takeTurns(contenders: readonly Contender[], control: Socket, frameBytes: number) {
  const measured = []
  for (const inFlight of IN_FLIGHT) {
    const rates: Rate[][] = contenders.map(() => [])
    for (let round = 0; round <= ROUNDS; round += 1) {
      for (const [index, contender] of contenders.entries()) {
        const rate = await phase(contender, { index, inFlight, control, roundBytes: frameBytes * SESSIONS * inFlight })
        if (round > 0) rates[index]?.push(rate)
      }
    }
    const [relay, plain] = rates.map((some) => ({ wall: median(some.map(({ wall }) => wall)), cpu: median(some.map(({ cpu }) => cpu)) }))
    if (relay === undefined || plain === undefined) throw new Error('there are two contenders')
    measured.push({ inFlight, relay, plain })
  }
  return measured
}

async function phase(
  contender: Contender,
  { index, inFlight, control, roundBytes }: { index: number; inFlight: number; control: Socket; roundBytes: number },
): Promise<Rate> {
  control.write(`${index} ${roundBytes}\n`)
  await once(control, 'data')
  const started = performance.now()
  const before = process.cpuUsage()
  let rounds = 0
  for (; performance.now() - started < PHASE_MS; rounds += 1) {
    const arrived = once(control, 'data')
    for (let message = 0; message < inFlight; message += 1) contender.send()
    await arrived
  }
  const { user, system } = process.cpuUsage(before)
  const deliveries = rounds * inFlight * SESSIONS
  return { wall: deliveries / ((performance.now() - started) / 1000), cpu: deliveries / ((user + system) / 1e6) }
}
