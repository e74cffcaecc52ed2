/**
 * docs/PROTOCOL.md and the code say the same: nothing of the wire contract is missing from the text, and the text names nothing
 * that the code does not have.
 */
import { readFile } from 'node:fs/promises'
import { describe, expect, test } from 'vitest'
import { HeadSchema } from '../../shared/codec.ts'
import { LABELS } from '../../shared/crypto/labels.ts'
import { SUITES } from '../../shared/crypto/suites.ts'
import { ERRORS } from '../../shared/errors.ts'
import { OpSchema } from '../../shared/group/commit.ts'
import { COMMIT_RULES, FOLD_RULES, OP_RULES, RESULT_RULES } from '../../shared/group/rules.ts'
import * as limits from '../../shared/limits.ts'
import { CLOSE_CODES } from '../../shared/protocol/close-codes.ts'
import { ClientFrame, Event, Hello, METHODS, SUBPROTOCOL, Welcome } from '../../shared/protocol/messages.ts'

const text = await read('docs/PROTOCOL.md')

describe('docs/PROTOCOL.md', () => {
  test('has every method with every field, at any depth, of its parameters and result, and no other', () => {
    const sections = new Map(parts(section('15 Methods'), /^#### `([a-z.]+)`$/gmu))
    expect([...sections.keys()].toSorted()).toEqual(Object.keys(METHODS).toSorted())
    for (const [name, { params, result }] of Object.entries(METHODS)) {
      const wanted = [...fieldsOf(params), ...fieldsOf(result)]
      const missing = wanted.filter((field) => !codeIn(sections.get(name) ?? '').has(field))
      expect(missing, `fields missing from ${name}`).toEqual([])
    }
  })

  test('says of each method who may call it, as the test of access has it', async () => {
    const source = await read('test/server/access.test.ts')
    const holders = listIn(/const keyHolders[^=]*= \[([^\]]+)\]/u.exec(source)?.[1])
    const told = new Map(
      parts(section('15 Methods'), /^#### `([a-z.]+)`$/gmu).map(([name, body]) => [name, /^Access: (\w+)/mu.exec(body)?.[1] ?? '']),
    )
    const wanted = [...source.matchAll(/^  '([a-z.]+)': (?:\[([^\]]+)\]|keyHolders),$/gmu)]
    expect(wanted.length).toBeGreaterThan(20)
    for (const [, method = '', who] of wanted)
      expect(WHO_BY_ACCESS.get(told.get(method) ?? ''), method).toEqual(who === undefined ? holders : listIn(who))
  })

  test('names no method that is none', () => {
    const named = [...codeIn(text)].filter((code) => /^[a-z]+\.[a-z]+$/u.test(code) && !code.startsWith('example.'))
    const isKnown = (code: string): boolean => Object.hasOwn(METHODS, code) || FIELDS_OF_FIELDS.has(code)
    expect(named.filter((code) => !isKnown(code))).toEqual([])
  })

  test('has every event with its fields, and no other', () => {
    const rows = tableRows(section('16 Events'))
    const events = variants(Event, 'type')
    expect(rows.map(([name]) => bare(name)).toSorted()).toEqual([...events.keys()].toSorted())
    for (const [name = '', fields = ''] of rows) {
      const wanted = [...(events.get(bare(name)) ?? [])].filter((field) => field !== 'type')
      expect(
        wanted.filter((field) => !codeIn(fields).has(field)),
        `fields missing from ${name}`,
      ).toEqual([])
    }
  })

  test('has every frame and the subprotocol', () => {
    const frames = [
      ...variants(ClientFrame, 'type').keys(),
      ...variants(Hello, 'type').keys(),
      ...variants(Welcome, 'type').keys(),
      'reply',
      'error',
    ]
    const named = tableRows(section('4 Session')).map(([name]) => bare(name))
    expect(frames.filter((frame) => !named.includes(frame))).toEqual([])
    expect(codeIn(text)).toContain(SUBPROTOCOL)
  })

  test('has every close code with its number and whether to connect again', () => {
    const rows = tableRows(section('4 Session')).filter(([, code]) => /^4\d\d\d$/u.test(code ?? ''))
    const told = rows.map(([reason, code, reconnect]) => [bare(reason), Number(code), reconnect === 'yes'])
    expect(told).toEqual(Object.entries(CLOSE_CODES).map(([reason, { code, reconnect }]) => [reason, code, reconnect]))
  })

  test('has every error code with its flags, and names no other', () => {
    const told = tableRows(section('17 Errors')).map(([code, retry, wire]) => [bare(code), retry === 'yes', wire === 'yes'])
    expect(told).toEqual(Object.entries(ERRORS).map(([code, { retry, wire }]) => [code, retry, wire]))
    const named = [...codeIn(text)].filter((code) => /^[a-z]+(_[a-z]+)+$/u.test(code))
    expect(named.filter((code) => !Object.hasOwn(ERRORS, code))).toEqual([])
  })

  test('has every label once, and no other', () => {
    const told = tableRows(section('3 Cryptography')).flatMap(([labels = '', use]) =>
      use === undefined || /^\d/u.test(labels) ? [] : [...codeIn(labels)],
    )
    expect(told.toSorted()).toEqual(Object.values(LABELS).toSorted())
    const used = [...text.matchAll(/\blabelled\('([a-z-]+)'\)|\bH\(([a-z-]+),|\bderive\([A-Za-z_]+, ([a-z-]+),/gu)].map(
      ([, a, b, c]) => a ?? b ?? c ?? '',
    )
    expect(used.filter((label) => !told.includes(label))).toEqual([])
  })

  test('has every rule of the log with its number and code, and no other', () => {
    const rules = [COMMIT_RULES, ...Object.values(OP_RULES), RESULT_RULES, FOLD_RULES].flatMap((table) =>
      Object.values<{ number: string; code: string }>(table),
    )
    const rows = tableRows(section('8 Rules of the log')).filter(([number]) => /^G\d\d$/u.test(number ?? ''))
    expect(rows.map(([number]) => number).toSorted()).toEqual(rules.map(({ number }) => number).toSorted())
    for (const { number, code } of rules) {
      const row = rows.find(([name]) => name === number)?.join(' ') ?? ''
      if (code !== 'rule_violated') expect(codeIn(row), number).toContain(code)
    }
    expect(numbersIn(text, /\bG\d\d\b/gu)).toEqual(rules.map(({ number }) => number).toSorted())
  })

  test('says of each op rule which op it is about', () => {
    const opByNumber = new Map(
      Object.entries(OP_RULES).flatMap(([op, table]) =>
        Object.values<{ number: string }>(table).map(({ number }) => [number, op] as const),
      ),
    )
    const rows = tableRows(section('8 Rules of the log')).filter(([number = '']) => opByNumber.has(number))
    expect(rows.filter(([number = '', op]) => bare(op) !== opByNumber.get(number))).toEqual([])
  })

  test('has every rule of object headers, and no other', async () => {
    const source = (await read('shared/objects/header.ts')) + (await read('shared/objects/header-rules.ts'))
    const rules = numbersIn(source, /(?<=^  )O\d+(?=_[a-zA-Z]+: )/gmu)
    const rows = tableRows(section('12 Objects'))
      .map(([number]) => number ?? '')
      .filter((number) => /^O\d+$/u.test(number))
    expect(rows.toSorted()).toEqual(rules)
    expect(numbersIn(text, /\bO\d+\b/gu)).toEqual(rules)
  })

  test('has every op with its fields, and no other', () => {
    const ops = variants(OpSchema, 'type')
    const rows = tableRows(section('6 The group log')).filter(([name]) => ops.has(bare(name)))
    expect(rows.map(([name]) => bare(name)).toSorted()).toEqual([...ops.keys()].toSorted())
    for (const [name = '', fields = ''] of rows) {
      const wanted = [...(ops.get(bare(name)) ?? [])].filter((field) => field !== 'type')
      expect(
        wanted.filter((field) => !codeIn(fields).has(field)),
        `fields missing from ${name}`,
      ).toEqual([])
    }
  })

  test('has the value of every limit it names', () => {
    const told = tableRows(section('18 Limits')).map(([name, value]) => [bare(name), Number(value)])
    const values = new Map<string, unknown>(Object.entries(limits))
    expect(told).toEqual(told.map(([name]) => [name, values.get(String(name))]))
  })

  test('has a row for each suite', () => {
    const rows = tableRows(section('3 Cryptography')).filter(([id]) => /^\d+$/u.test(id ?? ''))
    expect(rows.map(([id]) => id)).toEqual(Object.keys(SUITES))
  })

  test('links only to sections and files that are there', async () => {
    const headings = [...text.matchAll(/^#+ (.+)$/gmu)].map(([, title = '']) =>
      title
        .toLowerCase()
        .replaceAll(/[^\w\s-]/gu, '')
        .replaceAll(' ', '-'),
    )
    const targets = [...text.matchAll(/\]\(([^)]+)\)/gu)].map(([, target = '']) => target)
    for (const target of targets) {
      if (target.startsWith('#')) expect(headings).toContain(target.slice(1))
      else await expect(read(`docs/${target}`), target).resolves.not.toBe('')
    }
  })
})

/** Roles, and guests, behind each word of section 15. */
const WHO_BY_ACCESS: ReadonlyMap<string, readonly string[]> = new Map([
  ['log', ['admin', 'member', 'reader', 'depositor', 'guest']],
  ['members', ['admin', 'member', 'reader', 'depositor']],
  ['keys', ['admin', 'member', 'reader', 'guest']],
  ['holders', ['admin', 'member', 'reader']],
  ['writers', ['admin', 'member']],
  ['admins', ['admin']],
])

function listIn(source = ''): string[] {
  return [...source.matchAll(/'(\w+)'/gu)].map(([, name = '']) => name)
}

/** Code in the text that looks like a method and is a field of a field. */
const FIELDS_OF_FIELDS = new Set([
  'history.size',
  'at.seq',
  'at.hash',
  'params.epoch',
  'params.seq',
  'data.rule',
  'data.header',
  'rekey.commitment',
])

function read(path: string): Promise<string> {
  return readFile(new URL(`../../${path}`, import.meta.url), 'utf8')
}

/** The text under `## title`, up to the next heading of that level. */
function section(title: string): string {
  const found = parts(text, /^## (.+)$/gmu).find(([name]) => name === title)
  if (found === undefined) throw new Error(`docs/PROTOCOL.md has no section “${title}”`)
  return found[1]
}

/** The text cut at each match of `heading`, by what its first group caught. */
function parts(source: string, heading: RegExp): [string, string][] {
  const starts = [...source.matchAll(heading)]
  return starts.map((start, index) => [start[1] ?? '', source.slice(start.index, starts[index + 1]?.index ?? source.length)])
}

/** Cells of every row of every table but the head and the line under it. */
function tableRows(source: string): string[][] {
  const lines = source.split('\n')
  const isRow = (line: string | undefined): boolean => line?.startsWith('|') === true
  return lines
    .filter((line, index) => isRow(line) && !line.startsWith('|---') && lines[index + 1]?.startsWith('|---') !== true)
    .map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    )
}

/** What stands between backticks, also each identifier inside a longer piece of code. */
function codeIn(source: string): Set<string> {
  const pieces = [...source.matchAll(/`([^`\n]+)`/gu)].map(([, code = '']) => code)
  return new Set(pieces.map((code) => code.replaceAll(/^'|'$/gu, '')))
}

function bare(cell = ''): string {
  return cell.replaceAll('`', '')
}

function numbersIn(source: string, pattern: RegExp): string[] {
  return [...new Set([...source.matchAll(pattern)].map(([number]) => number))].toSorted()
}

/** The names of all fields of a schema, at any depth; those of a head are told once for all. */
function fieldsOf(schema: unknown): string[] {
  if (schema === undefined || schema === HeadSchema) return []
  const own = shapeOf(schema)
  if (own !== null) return Object.entries(own).flatMap(([name, field]) => [name, ...fieldsOf(field)])
  const { options, innerType, element } = definitionOf(schema)
  return [...(Array.isArray(options) ? options : []), innerType, element].flatMap(fieldsOf)
}

/** The fields of each variant of a union, or of a single schema, by the literal that stands in `discriminator`. */
function variants(schema: unknown, discriminator: string): Map<string, ReadonlySet<string>> {
  const { options } = definitionOf(schema)
  const schemas: readonly unknown[] = Array.isArray(options) ? options : [schema]
  const found = schemas.map((one) => [literalOf(shapeOf(one)?.[discriminator]), new Set(fieldsOf(one))] as const)
  if (found.some(([name]) => name === '')) throw new Error(`a variant has no literal in ${discriminator}`)
  return new Map(found)
}

/** How zod keeps a schema: fields in `shape`, variants in `options`, what is inside in `innerType` or `element`. */
function definitionOf(schema: unknown): Readonly<Record<string, unknown>> {
  if (typeof schema !== 'object' || schema === null || !('def' in schema)) return {}
  return typeof schema.def === 'object' && schema.def !== null ? { ...schema.def } : {}
}

function shapeOf(schema: unknown): Readonly<Record<string, unknown>> | null {
  const { shape } = definitionOf(schema)
  return typeof shape === 'object' && shape !== null ? { ...shape } : null
}

function literalOf(schema: unknown): string {
  const { values } = definitionOf(schema)
  return Array.isArray(values) ? String(values[0]) : ''
}
