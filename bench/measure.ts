/** Timing: processor time of this process, medians, and measurements in fresh processes. */
import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'

/** Milliseconds of processor and of wall time. Processor time counts the engine’s own threads too. */
export interface Cost {
  readonly cpuMs: number
  readonly wallMs: number
}

/** Runs `work` once. */
export async function costOf<T>(work: () => T | Promise<T>): Promise<Cost & { readonly value: T }> {
  const started = performance.now()
  const before = process.cpuUsage()
  const value = await work()
  const { user, system } = process.cpuUsage(before)
  return { value, cpuMs: (user + system) / 1000, wallMs: performance.now() - started }
}

/** The middle of some numbers: noise of a shared machine only ever adds. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((left, right) => left - right)
  const middle = sorted.length / 2
  const [low, high] = [sorted[Math.ceil(middle) - 1], sorted[Math.floor(middle)]]
  if (low === undefined || high === undefined) throw new RangeError('values must not be empty')
  return (low + high) / 2
}

/** Waits for the one message that a script of this folder sends, run in a fresh process. */
export function inFreshProcess<T>(script: string, args: readonly string[] = []): Promise<T> {
  return runFile<T>(fileURLToPath(new URL(script, import.meta.url)), args)
}

/** As {@link inFreshProcess}, for a script in the source folder, next to the packages that only it needs. */
export function peerInFreshProcess<T>(script: string, args: readonly string[] = []): Promise<T> {
  return runFile<T>(fileURLToPath(new URL(`../../bench/peers/${script}`, import.meta.url)), args)
}

function runFile<T>(path: string, args: readonly string[]): Promise<T> {
  return new Promise((resolve, reject) => {
    const child = fork(path, [...args], { serialization: 'advanced' })
    let message: { readonly value: T } | null = null
    child.on('message', (received) => {
      // Our own scripts: each sends what its caller expects.
      message = received as { readonly value: T }
    })
    child.on('error', reject)
    child.on('exit', (code) => {
      if (code === 0 && message !== null) resolve(message.value)
      else reject(new Error(`${path} ${args.join(' ')} ended with ${code} ${message === null ? 'without a result' : ''}`))
    })
  })
}

/** Sends the result of a measuring process. */
export function answer(value: unknown): void {
  if (process.send === undefined) console.log(value)
  else process.send({ value })
}
