import { describe, expect, it } from 'vitest'
import { ClavigerError } from '../../shared/errors.ts'
import { createLog } from '../../server/log.ts'
import { judgeError } from '../../server/wire-error.ts'

function logged(write: (log: ReturnType<typeof createLog>) => void): { text: string; lines: Record<string, unknown>[] } {
  let text = ''
  write(createLog('debug', { write: (line) => void (text += line) }))
  return {
    text,
    lines: text
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>),
  }
}

describe('the log', () => {
  it('is one JSON object a line, with its event', () => {
    const { lines } = logged((log) => log.info({ sessions: 3 }, 'draining'))
    expect(lines).toMatchObject([{ event: 'draining', sessions: 3, level: 30 }])
  })

  it('replaces bytes by their number', () => {
    const { text } = logged((log) => log.info({ key: new Uint8Array([222, 173]) as never }, 'careless'))
    expect(text).toContain('"key":"2 bytes"')
    expect(text).not.toContain('222')
  })

  it('keeps of an error its code, message and causes, not the values a database adds', () => {
    const failure = Object.assign(new Error('duplicate key'), {
      code: '23505',
      detail: 'Key (token)=(hunter2) already exists.',
      where: 'hunter2',
    })
    const { text, lines } = logged((log) => log.error({}, 'failed', new Error('outer', { cause: failure })))
    expect(lines[0]?.['error']).toMatchObject({ message: 'outer', cause: { code: '23505', message: 'duplicate key' } })
    expect(text).not.toContain('hunter2')
  })

  it('ends causes that go round in circles', () => {
    const error = new Error('round')
    error.cause = error
    expect(logged((log) => log.error({}, 'failed', error)).lines).toHaveLength(1)
  })
})

describe('errors for clients', () => {
  it('codes that may travel do, with their data', () => {
    expect(judgeError(new ClavigerError('stale_head', undefined, { data: { seq: 1 } })).wire).toMatchObject({
      code: 'stale_head',
      data: { seq: 1 },
    })
  })

  it('a cause never travels', () => {
    const { wire } = judgeError(new ClavigerError('server_unavailable', undefined, { cause: new Error('hunter2') }))
    expect(JSON.stringify(wire)).not.toContain('hunter2')
  })

  it('what is our own failure is also for the log', () => {
    for (const code of ['server_unavailable', 'storage_full'] as const) expect(judgeError(new ClavigerError(code)).failure).not.toBe(null)
    expect(judgeError(new ClavigerError('not_found')).failure).toBe(null)
    expect(judgeError(new ClavigerError('group_stopped')).wire.code).toBe('internal')
  })
})
