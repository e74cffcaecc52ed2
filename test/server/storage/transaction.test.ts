/** Transactions: all or nothing, one repetition after a collision, and failures in our own words. */
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Database } from '../../../server/storage/database.ts'
import { openDatabase } from '../../../server/storage/database.ts'
import { readPosition } from '../../../server/storage/groups.ts'
import { withStorageErrors } from '../../../server/storage/storage-error.ts'
import { transact } from '../../../server/storage/transaction.ts'
import type { FreshDatabase } from '../../support/postgres.ts'
import { freshDatabase } from '../../support/postgres.ts'
import { TcpProxy } from '../../support/tcp-proxy.ts'
import { newGroupId } from '../../support/storage-group.ts'

let fresh: FreshDatabase
let database: Database

beforeAll(async () => {
  fresh = await freshDatabase()
  database = openDatabase(fresh.url)
  await database.pool.query('create table counters (name text primary key, value int not null)')
})

afterAll(async () => {
  await database.close()
  await fresh.drop()
})

const valueOf = async (name: string): Promise<number | undefined> =>
  (await database.pool.query<{ value: number }>('select value from counters where name = $1', [name])).rows[0]?.value

test('nothing of a transaction that throws is kept, and its error passes unchanged', async () => {
  const cause = new RangeError('of the caller')
  const failed = transact(database, async (connection) => {
    await connection.query(`insert into counters values ('rolled back', 1)`)
    throw cause
  })
  await expect(failed).rejects.toBe(cause)
  expect(await valueOf('rolled back')).toBeUndefined()
})

test('a server that never answers is given up, and its connection with it', async () => {
  const url = new URL(fresh.url)
  const proxy = await TcpProxy.start({ path: `${decodeURIComponent(url.hostname)}/.s.PGSQL.5432` })
  url.host = `127.0.0.1:${proxy.port}`
  const remote = openDatabase({ url: url.href, statementMsMax: 100, poolSize: 1 })
  const stuck = transact(remote, async (connection) => {
    proxy.freeze()
    await connection.query('select 1')
  })
  await expect(stuck).rejects.toMatchObject({ code: 'server_unavailable' })
  proxy.thaw()
  expect((await remote.pool.query('select 1 as one')).rows).toEqual([{ one: 1 }])
  await remote.close()
  await proxy.close()
})

test('a deadlock is repeated once and then both are done', async () => {
  await database.pool.query(`insert into counters values ('a', 0), ('b', 0)`)
  let runs = 0
  const add = (first: string, second: string) =>
    transact(database, async (connection) => {
      runs += 1
      await connection.query('update counters set value = value + 1 where name = $1', [first])
      await delay(100)
      await connection.query('update counters set value = value + 1 where name = $1', [second])
    })
  await Promise.all([add('a', 'b'), add('b', 'a')])
  expect([await valueOf('a'), await valueOf('b'), runs]).toEqual([2, 2, 3])
})

test('a connection that is killed in a transaction is server_unavailable, and the next one is fine', async () => {
  const killed = transact(database, async (connection) => {
    const { rows } = await connection.query<{ pid: number }>('select pg_backend_pid() as pid')
    await database.pool.query('select pg_terminate_backend($1)', [rows[0]?.pid])
    await delay(50)
    await connection.query('select 1')
  })
  await expect(killed).rejects.toMatchObject({ code: 'server_unavailable', retry: true })
  expect(await transact(database, async (connection) => (await connection.query('select 1 as one')).rows)).toEqual([{ one: 1 }])
})

test('a database that is not there is server_unavailable', async () => {
  const nowhere = openDatabase('postgres://nobody@127.0.0.1:1/nothing')
  await expect(readPosition(nowhere, newGroupId())).rejects.toMatchObject({ code: 'server_unavailable' })
  await nowhere.close()
})

test('a full disk is storage_full', async () => {
  const full = withStorageErrors(() => database.pool.query(`do $$ begin raise exception 'no space' using errcode = '53100'; end $$`))
  await expect(full).rejects.toMatchObject({ code: 'storage_full' })
})

test('a fault of our own is not hidden behind a code', async () => {
  await expect(withStorageErrors(() => database.pool.query('select nonsense'))).rejects.toMatchObject({ code: '42703' })
})
