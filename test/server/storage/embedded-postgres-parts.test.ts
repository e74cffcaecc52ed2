/** The launcher’s judgements that need no running server. */
import { cp, mkdir, mkdtemp, readFile, readlink, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { isMusl, linkLibraries, programEnvironment } from '../../../server/storage/embedded-postgres/binaries.ts'
import { createCredentials, readCredentials } from '../../../server/storage/embedded-postgres/credentials.ts'
import { asStartFailure, obstacleOf, startFailure } from '../../../server/storage/embedded-postgres/failure.ts'
import { readPostmaster } from '../../../server/storage/embedded-postgres/postmaster.ts'
import { processStatus } from '../../../server/storage/embedded-postgres/process-status.ts'

let root: string

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'claviger-parts-'))
})

afterAll(() => rm(root, { recursive: true, force: true }))

describe('a start that fails', () => {
  test.each([
    ['FATAL:  could not write lock file "postmaster.pid": No space left on device', 'storage_full'],
    [
      'FATAL:  could not extend file "base/1/2691": wrote only 4096 of 8192 bytes at block 9\nHINT:  Check free disk space.',
      'storage_full',
    ],
    ['initdb: error: cannot be run as root', 'database_platform'],
    ['"root" execution of the PostgreSQL server is not permitted.', 'database_platform'],
    ['postgres: error while loading shared libraries: libicui18n.so.60: cannot open shared object file', 'database_platform'],
    [
      'FATAL:  database files are incompatible with server\nDETAIL:  The data directory was initialized by PostgreSQL version 17',
      'database_version',
    ],
    ['FATAL:  could not create any TCP/IP sockets', 'database_start_failed'],
    ['initdb: error: could not access directory "/root/data": Permission denied', 'database_start_failed'],
    ['something nobody has seen', 'database_start_failed'],
  ])('with “%s” is %s', (output, code) => {
    expect(startFailure(output)).toMatchObject({ code, data: { output } })
  })

  test('for lack of room in our own files is told the same way', () => {
    const error = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC', syscall: 'write' })
    expect(asStartFailure(error)).toMatchObject({ code: 'storage_full', cause: error })
    expect(asStartFailure(new RangeError('a mistake'))).toBeInstanceOf(RangeError)
  })

  test('is tried again only for what passes', () => {
    expect(obstacleOf(startFailure('FATAL:  could not create any TCP/IP sockets'))).toBe('port')
    expect(obstacleOf(startFailure('FATAL:  pre-existing shared memory block (key 1, ID 2) is still in use'))).toBe('passing')
    expect(obstacleOf(startFailure('FATAL:  lock file "postmaster.pid" already exists'))).toBe('passing')
    expect(obstacleOf(startFailure('FATAL:  configuration file contains errors'))).toBe('lasting')
  })
})

describe('the binaries', () => {
  test('are refused on musl, told by Node’s own interpreter', async () => {
    await writeFile(join(root, 'node'), `\x7fELF${'\0'.repeat(500)}/lib/ld-musl-x86_64.so.1\0`)
    expect(await isMusl(join(root, 'node'))).toBe(process.platform === 'linux')
    expect(await isMusl(process.execPath)).toBe(false)
  })

  test('get the library links their package could not bring, once', async () => {
    const native = join(root, 'package', 'native')
    await mkdir(join(native, 'lib'), { recursive: true })
    await writeFile(join(native, 'lib', 'libpq.so.5.18'), 'library')
    const links = [
      { source: 'native/lib/libpq.so.5.18', target: 'native/lib/libpq.so.5' },
      { source: 'a', target: '../escape' },
    ]
    await writeFile(join(native, 'pg-symlinks.json'), JSON.stringify(links))
    const binaries = { root: native, version: '18.4', linkDirectory: null }
    await Promise.all([linkLibraries(binaries, join(root, 'links')), linkLibraries(binaries, join(root, 'links'))])
    expect(await readlink(join(native, 'lib', 'libpq.so.5'))).toBe('libpq.so.5.18')
    expect(await readFile(join(native, 'lib', 'libpq.so.5'), 'utf8')).toBe('library')
    expect(await linkLibraries(binaries, join(root, 'links'))).toEqual(binaries)
    await cp(native, join(root, 'copy', 'native'), { recursive: true, verbatimSymlinks: true })
    expect(await readlink(join(root, 'copy', 'native', 'lib', 'libpq.so.5'))).toBe('libpq.so.5.18')
  })

  test('run without our settings and secrets in their environment', () => {
    process.env['DATABASE_URL'] = 'postgres://alice:open-sesame@db/notes'
    process.env['PGPASSWORD'] = 'open-sesame'
    const environment = programEnvironment({ root, version: '18.4', linkDirectory: null })
    delete process.env['DATABASE_URL']
    delete process.env['PGPASSWORD']
    expect(JSON.stringify(environment)).not.toContain('open-sesame')
    expect(environment).toMatchObject({ LC_ALL: 'C', PATH: process.env['PATH'] })
  })
})

describe('pg.json', () => {
  test('is read back as written and refused when it holds anything else', async () => {
    const path = join(root, 'pg.json')
    expect(await readCredentials(path)).toBe(null)
    const credentials = await createCredentials(path)
    expect(await readCredentials(path)).toEqual(credentials)
    for (const text of ['', '[]', JSON.stringify({ ...credentials, password: 'short' }), JSON.stringify({ ...credentials, more: 1 })]) {
      await writeFile(path, text)
      await expect(readCredentials(path)).rejects.toMatchObject({ code: 'database_start_failed' })
    }
  })
})

describe('postmaster.pid', () => {
  test('is read as PostgreSQL writes it, whole or half', async () => {
    expect(await readPostmaster(root)).toBe(null)
    await writeFile(join(root, 'postmaster.pid'), '')
    expect(await readPostmaster(root)).toBe(null)
    await writeFile(join(root, 'postmaster.pid'), '4711\n/data\n1700000000\n5432\n.\n')
    expect(await readPostmaster(root)).toEqual({ pid: 4711, port: 5432, socketDirectory: '.', address: '', status: '' })
    await writeFile(join(root, 'postmaster.pid'), '4711\n/data\n1700000000\n6543\n\n127.0.0.1\n  1 0\nready   \n')
    expect(await readPostmaster(root)).toEqual({ pid: 4711, port: 6543, socketDirectory: '', address: '127.0.0.1', status: 'ready' })
  })
})

test('a process tells its name and when it began, and one that is gone tells nothing', async () => {
  const first = await processStatus(process.pid)
  expect(first?.name).not.toBe('')
  expect(first?.startedAt).toMatch(/\d/)
  expect(await processStatus(process.pid)).toEqual(first)
  expect(await processStatus(999_999_999)).toBe(null)
})
