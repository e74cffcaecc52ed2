import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { ProcessIdentity } from '../../platform/node/process-identity.ts'
import { identifyProcess, isRunning } from '../../platform/node/process-identity.ts'
import { lockDirectory } from '../../platform/node/process-lock.ts'

let directory: string

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'claviger-lock-'))
})

afterEach(() => rm(directory, { recursive: true }))

/** A process that has run and ended. */
async function endedProcess(): Promise<ProcessIdentity> {
  const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'])
  const identity = await identifyProcess(child.pid ?? 0)
  child.kill('SIGKILL')
  await once(child, 'exit')
  return identity
}

function leaveLock(number: number, owner: ProcessIdentity): Promise<void> {
  return writeFile(join(directory, `lock.${number}`), JSON.stringify({ released: false, owner }))
}

async function acquired(): Promise<() => Promise<void>> {
  const lock = await lockDirectory(directory)
  if (lock.state !== 'acquired') throw new Error(`held by ${lock.pid}`)
  return lock.release
}

describe('a lock', () => {
  test('is held by one owner until it is released', async () => {
    const release = await acquired()
    expect(await lockDirectory(directory)).toEqual({ state: 'held', pid: process.pid })
    await release()
    await (
      await acquired()
    )()
  })

  test('leaves one file behind, whoever had it', async () => {
    for (let count = 0; count < 5; count += 1) await (await acquired())()
    expect(await readdir(directory)).toEqual(['lock.5'])
  })

  test('of a dead process is taken over', async () => {
    await leaveLock(3, await endedProcess())
    await acquired()
    expect(await readdir(directory)).toEqual(['lock.4'])
  })

  test('of a dead process whose number was given out again is taken over', async () => {
    const current = await identifyProcess(process.pid)
    await leaveLock(1, { ...current, started: '1' })
    await acquired()
  })

  test('from before the machine was started again is taken over', async () => {
    const current = await identifyProcess(process.pid)
    await leaveLock(1, { ...current, boot: 'another' })
    await acquired()
  })

  test('of a live process is respected where start times are unknown', async () => {
    await leaveLock(1, { pid: process.pid, started: null, boot: null })
    expect(await lockDirectory(directory)).toEqual({ state: 'held', pid: process.pid })
  })

  test('that a power cut left empty belongs to nobody', async () => {
    await writeFile(join(directory, 'lock.1'), '')
    await acquired()
  })

  test('of a dead process goes to exactly one of many who want it', async () => {
    const dead = await endedProcess()
    for (let round = 1; round <= 20; round += 1) {
      await leaveLock(round * 1000, dead)
      const locks = await Promise.all(Array.from({ length: 8 }, () => lockDirectory(directory)))
      const owners = locks.filter((lock) => lock.state === 'acquired')
      expect(owners).toHaveLength(1)
    }
  })

  test('that comes and goes is never held twice', async () => {
    let holders = 0
    const contend = async (): Promise<void> => {
      for (let count = 0; count < 25;) {
        const lock = await lockDirectory(directory)
        if (lock.state === 'held') continue
        holders += 1
        expect(holders).toBe(1)
        await new Promise((resolve) => setImmediate(resolve))
        holders -= 1
        await lock.release()
        count += 1
      }
    }
    await Promise.all([contend(), contend(), contend()])
  })
})

describe('a process', () => {
  test('runs until it ends', async () => {
    expect(await isRunning(await identifyProcess(process.pid))).toBe(true)
    expect(await isRunning(await endedProcess())).toBe(false)
  })

  test('that has ended but was not waited for does not run', async () => {
    // The shell starts a child and becomes a program that never waits for it.
    const parent = spawn('sh', ['-c', 'sleep 0.2 & echo $!; exec sleep 60'], { stdio: ['ignore', 'pipe', 'ignore'] })
    const [line] = (await once(parent.stdout, 'data')) as [Buffer]
    const child = await identifyProcess(Number(line.toString()))
    await new Promise((resolve) => setTimeout(resolve, 500))
    expect(await isRunning(child)).toBe(false)
    parent.kill('SIGKILL')
    await once(parent, 'exit')
  })
})
