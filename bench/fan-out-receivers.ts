/**
 * A hundred receivers that cost next to nothing: raw sockets that count bytes, for both contenders alike.
 *
 * `fan-out-receivers.js <control port> <port>,<port>… <sockets for each> <first frame in hex, or nothing>,…`. Over the control
 * connection comes `<port index> <bytes>` at the start of each phase; one byte goes back whenever that many have arrived.
 */
import { once } from 'node:events'
import { connect } from 'node:net'
import { SUBPROTOCOL } from '../shared/protocol/messages.ts'

const [controlPort = '0', ports = '', count = '0', firstFrames = ''] = process.argv.slice(2)
const control = connect(Number(controlPort), '127.0.0.1')
await once(control, 'connect')
control.setNoDelay(true)

/** Which server is counted, and what makes a round. */
let phase = { server: -1, roundBytes: 0, arrived: 0 }

for (const [index, port] of ports.split(',').entries()) {
  const first = Buffer.from(firstFrames.split(',')[index] ?? '', 'hex')
  for (let socket = 0; socket < Number(count); socket += 1) await open(index, Number(port), first)
}
control.on('data', (line: Buffer) => {
  const [server = -1, roundBytes = 0] = line.toString().trim().split(' ').map(Number)
  phase = { server, roundBytes, arrived: 0 }
  control.write('s')
})
control.on('close', () => process.exit(0))
control.write('r')

async function open(server: number, port: number, first: Buffer): Promise<void> {
  const socket = connect(port, '127.0.0.1')
  await once(socket, 'connect')
  socket.write(upgradeRequest(port))
  await once(socket, 'data')
  socket.on('data', (bytes: Buffer) => arrived(server, bytes.length))
  if (first.length > 0) socket.write(masked(first))
}

function arrived(server: number, bytes: number): void {
  if (phase.server !== server) return
  phase.arrived += bytes
  while (phase.arrived >= phase.roundBytes) {
    phase.arrived -= phase.roundBytes
    control.write('d')
  }
}

function upgradeRequest(port: number): string {
  const key = Buffer.alloc(16, port).toString('base64')
  return `GET / HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: ${key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: ${SUBPROTOCOL}\r\n\r\n`
}

/** One binary message with a mask of zeros. */
function masked(payload: Buffer): Buffer {
  const header =
    payload.length < 126 ? Buffer.of(0x82, 0x80 | payload.length) : Buffer.of(0x82, 0x80 | 126, payload.length >> 8, payload.length & 0xff)
  return Buffer.concat([header, Buffer.alloc(4), payload])
}
