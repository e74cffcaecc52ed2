/** What values look like on their way through the pool. */
import { sql } from 'kysely'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openDatabase } from '../../../server/storage/database.ts'
import type { Database } from '../../../server/storage/database.ts'
import { freshDatabase } from '../../support/postgres.ts'
import type { FreshDatabase } from '../../support/postgres.ts'

let fresh: FreshDatabase
let database: Database

beforeAll(async () => {
  fresh = await freshDatabase()
  database = openDatabase(fresh.url)
})

afterAll(async () => {
  await database.close()
  await fresh.drop()
})

async function valueOf(text: string, ...values: readonly unknown[]): Promise<unknown> {
  const { rows } = await database.pool.query<{ value: unknown }>(`select ${text} as value`, [...values])
  return rows[0]?.value
}

describe('an int8', () => {
  test('arrives as a number', async () => {
    expect(await valueOf('9007199254740991::int8')).toBe(Number.MAX_SAFE_INTEGER)
    expect(await valueOf(`array[-1, null, 2]::int8[]`)).toEqual([-1, null, 2])
    expect(await valueOf('$1::int8', 9_007_199_254_740_991)).toBe(Number.MAX_SAFE_INTEGER)
  })

  test('that a number cannot hold is an error, never a rounded value', async () => {
    await expect(valueOf('9007199254740992::int8')).rejects.toThrow(RangeError)
  })
})

describe('bytea', () => {
  test('arrives as a plain Uint8Array', async () => {
    const bytes = Uint8Array.from({ length: 256 }, (_, index) => index)
    expect(await valueOf('$1::bytea', bytes)).toStrictEqual(bytes)
  })

  test('arrives as an array of Uint8Array', async () => {
    const list = [Uint8Array.of(0, 0x22, 0x5c, 0x2c), null, new Uint8Array()]
    expect(await valueOf('$1::bytea[]', list)).toStrictEqual(list)
    expect(await valueOf(`'{}'::bytea[]`)).toStrictEqual([])
  })

  test('arrives whole from the middle of a longer buffer', async () => {
    const part = Uint8Array.of(1, 2, 3, 4, 5).subarray(1, 3)
    expect(await valueOf('$1::bytea', part)).toStrictEqual(Uint8Array.of(2, 3))
  })
})

test('Kysely queries see the same values', async () => {
  const group = new Uint8Array(32).fill(7)
  await database.kysely
    .insertInto('groups')
    .values({ group_id: group, suite: 1, head_seq: 0, head_hash: group, epoch: 0, rekey_owed: false, created_by: group })
    .execute()
  const row = await database.kysely.selectFrom('groups').selectAll().where('group_id', '=', group).executeTakeFirstOrThrow()
  expect(row).toMatchObject({ group_id: group, head_seq: 0, change_seq: 0, retired_through: -1 })
  expect((await sql<{ n: number }>`select count(*) as n from groups`.execute(database.kysely)).rows).toEqual([{ n: 1 }])
})

test('closing twice is closing once', async () => {
  const other = openDatabase(fresh.url)
  await other.kysely.selectFrom('groups').selectAll().execute()
  await Promise.all([other.close(), other.close()])
})

test('a transaction of which nothing more is heard is ended, and its locks with it', async () => {
  const other = openDatabase({ url: fresh.url, statementMsMax: 50 })
  const abandoned = await other.pool.connect()
  const ended = new Promise<void>((resolve) => abandoned.once('error', () => resolve()))
  await abandoned.query('begin')
  await ended
  abandoned.release(true)
  await other.close()
})
