/**
 * One body of 1 GiB up and down again, with a bound on the memory of client and server: `npm run build && node scripts/big-body.js [MiB]`.
 *
 * Not a test: it takes a minute and 1.5 GiB of disk. Ends with 1 if a byte differs or a process grew past its bound.
 */
import { createCipheriv, createHash, randomBytes } from 'node:crypto'
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Claviger, Identity } from '../dist/client/node/index.js'
import { startServer } from '../dist/server/index.js'

const MIB = 1024 * 1024
/** How far the peak of a process may be above what it was before the body. */
const GROWTH_MIB_MAX = 200

const [argument = '1024'] = process.argv.slice(2)
if (argument === 'serve') await serve(process.argv[3])
else process.exitCode = await main(Number(argument))

async function serve(directory) {
  const server = await startServer({ port: 0, database: { kind: 'embedded', directory }, logLevel: 'warn' })
  process.send(server.url)
  process.on('message', () => process.send(residentMib()))
  process.on('disconnect', () => void server.close().finally(() => process.exit(0)))
}

async function main(mebibytes) {
  const directory = await mkdtemp(join(tmpdir(), 'claviger-big-body-'))
  const child = fork(fileURLToPath(import.meta.url), ['serve', directory])
  try {
    const [url] = await once(child, 'message')
    return await roundTrip(url, mebibytes, () => ask(child))
  } finally {
    child.disconnect()
    await once(child, 'exit')
    await rm(directory, { recursive: true, force: true })
  }
}

async function roundTrip(url, mebibytes, serverMib) {
  const claviger = await Claviger.connect(url, { identity: await Identity.generate() })
  const group = await claviger.createGroup()
  const before = { client: residentMib(), server: await serverMib() }
  const peaks = { ...before }
  const look = async () => {
    peaks.client = Math.max(peaks.client, residentMib())
    peaks.server = Math.max(peaks.server, await serverMib())
  }
  const watch = setInterval(() => void look(), 100)
  const sent = createHash('sha256')
  let id = null
  const putSeconds = await seconds(async () => ({ id } = await group.put(pieces(mebibytes, sent))))
  const received = createHash('sha256')
  const getSeconds = await seconds(async () => {
    for await (const piece of (await group.get(id)).stream()) received.update(piece)
  })
  clearInterval(watch)
  claviger.close()
  const isSame = sent.digest('hex') === received.digest('hex')
  const isBounded = peaks.client - before.client <= GROWTH_MIB_MAX && peaks.server - before.server <= GROWTH_MIB_MAX
  console.log(
    `${mebibytes} MiB: put ${(mebibytes / putSeconds).toFixed(0)} MiB/s, get ${(mebibytes / getSeconds).toFixed(0)} MiB/s, ${isSame ? 'same bytes' : 'OTHER BYTES'}`,
  )
  for (const name of ['client', 'server'])
    console.log(`${name}: ${before[name].toFixed(0)} MiB before, at most ${peaks[name].toFixed(0)} MiB (bound ${GROWTH_MIB_MAX} MiB more)`)
  return isSame && isBounded ? 0 : 1
}

/** Bytes that do not repeat, made as they are asked for. */
async function* pieces(mebibytes, hash) {
  const stream = createCipheriv('aes-256-ctr', randomBytes(32), randomBytes(16))
  const zeros = Buffer.alloc(MIB)
  for (let index = 0; index < mebibytes; index += 1) {
    const piece = new Uint8Array(stream.update(zeros))
    hash.update(piece)
    yield piece
  }
}

async function seconds(work) {
  const started = performance.now()
  await work()
  return (performance.now() - started) / 1000
}

async function ask(child) {
  const answer = once(child, 'message')
  child.send('memory')
  const [mib] = await answer
  return mib
}

function residentMib() {
  return process.memoryUsage.rss() / MIB
}
