/**
 * The life of a group by chance: people join, leave, are removed and come back, change roles, write, delete, rewrap, lose
 * their clients in mid-work, two or three things at a time. What must be true of it is known at each moment.
 */
import type { Claviger, Group, GroupId, GroupMember, ObjectId, PutReceipt } from '../../client/node/index.ts'
import { ClavigerError, hasCode, idKey } from '../../client/node/index.ts'
import type { ErrorCode } from '../../client/node/index.ts'
import type { HeldKeys } from '../../examples/demo/former-member.ts'
import { collectKeys } from '../../examples/demo/former-member.ts'
import type { Database } from '../../server/storage/database.ts'
import type { SeededRandom } from '../support/storage-random.ts'
import type { Actor, World } from '../support/world.ts'

/** What somebody is to the group, by the group’s own log. */
type Standing = 'admin' | 'member' | 'reader' | 'outside'

/** A person with or without a client. */
export interface Liver {
  readonly actor: Actor
  client: Claviger | null
  group: Group | null
}

/** Somebody who was put out, with all they held then, and what has been written since. */
export interface Former {
  readonly liver: Liver
  readonly held: HeldKeys
  readonly later: ObjectId[]
}

/** What may be read of an object. Null stands for a deleted one. */
interface Expected {
  readonly id: ObjectId
  /** The newest version that was acknowledged, and its content. */
  version: number
  content: string | null
  /** Writes that are on their way, or were cut off: nobody knows whether they count. */
  readonly uncertain: Set<{ readonly content: string | null }>
}

/** Refusals that are nobody’s fault: others were faster, or the world has changed. */
const FAIR: readonly ErrorCode[] = [
  'version_conflict',
  'not_found',
  'not_authorised',
  'not_a_member',
  'last_admin',
  'rule_violated',
  'gave_up',
  'closed',
  'unverified',
  'invite_spent',
  'invite_invalid',
  'unknown_group',
  'already_member',
  'stale_epoch',
  'stale_head',
  'rekey_owed',
  'disconnected',
]

export class GroupLife {
  readonly #world: World
  readonly #database: Database
  readonly #random: SeededRandom
  readonly livers: Liver[] = []
  readonly objects = new Map<string, Expected>()
  /** Contents of new objects whose receipt never came. */
  readonly maybe = new Set<string>()
  readonly formers: Former[] = []
  readonly tokens: string[] = []
  /** What was done, for a failure to be understood. */
  readonly story: string[] = []
  #writes = 0
  /** The newest roster anybody has had. */
  #known: { readonly seq: number; readonly members: readonly GroupMember[] } = { seq: -1, members: [] }
  #id: GroupId | null = null

  private constructor(world: World, database: Database, random: SeededRandom) {
    this.#world = world
    this.#database = database
    this.#random = random
  }

  /** A new group of the first of `names`. */
  static async begin(
    world: World,
    database: Database,
    { random, names }: { random: SeededRandom; names: readonly string[] },
  ): Promise<GroupLife> {
    const life = new GroupLife(world, database, random)
    for (const name of names) life.livers.push({ actor: await world.person(name), client: null, group: null })
    const [founder] = life.livers
    if (founder === undefined) throw new RangeError('somebody must found the group')
    founder.client = await world.connect(founder.actor)
    founder.group = await founder.client.createGroup()
    life.#id = founder.group.id
    return life
  }

  /** An active admin who is online. */
  admin(): Group {
    const admin = this.livers.find((liver) => this.#standing(liver) === 'admin' && liver.group !== null)
    if (admin === undefined || admin.group === null) throw new Error('an admin must be online')
    return admin.group
  }

  /** Does one to three random things at once. */
  async step(): Promise<void> {
    await this.#admitOnline()
    const inside = this.livers.filter((liver) => this.#standing(liver) !== 'outside').length
    if (inside < 3 && this.#random.chance(0.5)) await this.#come()
    const count = this.#random.chance(0.4) ? this.#random.between(2, 3) : 1
    await Promise.all(Array.from({ length: count }, () => this.#act()))
  }

  /** Everybody who is in comes online and catches up. @returns them. */
  async gather(): Promise<Liver[]> {
    await this.#admitOnline()
    for (const liver of this.livers) if (this.#standing(liver) !== 'outside' && liver.group === null) await this.#connect(liver)
    const inside = this.livers.filter((liver) => this.#standing(liver) !== 'outside')
    for (const { group } of inside) await group?.sync()
    return inside
  }

  // ——— Who ———

  /** By the roster of whoever is furthest. */
  #standing({ actor }: Liver): Standing {
    for (const { group } of this.livers)
      if (group !== null && group.head.seq > this.#known.seq) this.#known = { seq: group.head.seq, members: group.members() }
    const member = this.#known.members.find(({ id }) => idKey(id) === idKey(actor.identity.id))
    if (member?.state !== 'active' || member.role === 'depositor') return 'outside'
    return member.role
  }

  #pick(...standings: readonly Standing[]): (Liver & { readonly group: Group; readonly client: Claviger }) | null {
    const able = this.livers.filter((liver) => liver.group !== null && liver.client !== null && standings.includes(this.#standing(liver)))
    const picked = this.#random.pick(able)
    return picked === undefined ? null : (picked as Liver & { group: Group; client: Claviger })
  }

  /** The roster of the moment is that of an admin: one has to be online and in step. */
  async #admitOnline(): Promise<void> {
    const admins = this.livers.filter((liver) => this.#standing(liver) === 'admin')
    if (!admins.some(({ group }) => group !== null)) {
      const admin = this.#random.pick(admins) ?? admins[0]
      if (admin !== undefined) await this.#connect(admin)
    }
    await this.admin().sync()
  }

  async #connect(liver: Liver): Promise<void> {
    const client = await this.#world.connect(liver.actor)
    const group = await client.group(this.#groupId())
    await group.sync()
    Object.assign(liver, { client, group })
  }

  #groupId(): GroupId {
    if (this.#id === null) throw new Error('the group has been founded')
    return this.#id
  }

  #disconnect(liver: Liver): void {
    liver.client?.close()
    liver.client = null
    liver.group = null
  }

  // ——— What ———

  async #act(): Promise<void> {
    const roll = this.#random.below(100)
    if (roll < 30) return this.#put()
    if (roll < 45) return this.#update()
    if (roll < 52) return this.#delete()
    if (roll < 60) return this.#putMany()
    if (roll < 68) return this.#come()
    if (roll < 73) return this.#remove()
    if (roll < 76) return this.#leave()
    if (roll < 82) return this.#setRole()
    if (roll < 85) return this.#tell('rekeys', this.#pick('admin'), ({ group }) => group.rekey())
    if (roll < 88) return this.#tell('rewraps', this.#pick('admin'), async ({ group }) => void (await group.rewrap()))
    if (roll < 91) return this.#tell('compacts', this.#pick('admin'), async ({ group }) => void (await group.compact()))
    if (roll < 95) return this.#restart()
    return this.#crash()
  }

  /** Runs what somebody does, and takes fair refusals for what they are. */
  async #tell<Who extends Liver>(what: string, who: Who | null, action: (who: Who) => Promise<void>): Promise<void> {
    if (who === null) return
    this.story.push(`${who.actor.name} ${what}`)
    try {
      await action(who)
    } catch (error) {
      if (!(error instanceof ClavigerError) || !hasCode(error, ...FAIR)) throw error
      this.story.push(`  … ${error.code}`)
    }
  }

  #nextContent(): string {
    this.#writes += 1
    return `content ${this.#writes}`
  }

  #written({ id, version }: PutReceipt, content: string | null): void {
    this.story.push(`  ${idKey(id).slice(0, 8)} version ${version}: ${content ?? 'deleted'}`)
    const known = this.objects.get(idKey(id))
    if (known === undefined) this.objects.set(idKey(id), { id, version, content, uncertain: new Set() })
    else if (known.version < version) Object.assign(known, { version, content })
    if (content !== null) for (const { later } of this.formers) later.push(id)
  }

  #target(): Expected | undefined {
    return this.#random.pick([...this.objects.values()].filter(({ content }) => content !== null))
  }

  #put(): Promise<void> {
    return this.#tell('writes', this.#pick('admin', 'member'), async ({ group }) => {
      const content = this.#nextContent()
      await this.#resolve(content, null, () => group.put(content, { name: content }))
    })
  }

  #putMany(): Promise<void> {
    return this.#tell('writes many', this.#pick('admin', 'member'), async ({ group }) => {
      const contents = Array.from({ length: this.#random.between(2, 40) }, () => this.#nextContent())
      for (const content of contents) this.maybe.add(content)
      const receipts = await group.putMany(contents.map((body) => ({ body, name: body })))
      for (const [index, receipt] of receipts.entries()) this.#written(receipt, contents[index] ?? '')
    })
  }

  #update(): Promise<void> {
    const target = this.#target()
    if (target === undefined) return Promise.resolve()
    return this.#tell('writes anew', this.#pick('admin', 'member'), async ({ group }) => {
      const content = this.#nextContent()
      await this.#resolve(content, target, () => group.put(content, { id: target.id, name: content }))
    })
  }

  #delete(): Promise<void> {
    const target = this.#target()
    if (target === undefined) return Promise.resolve()
    return this.#tell('deletes', this.#pick('admin', 'member'), async ({ group }) => {
      await this.#resolve(null, target, () => group.delete(target.id))
    })
  }

  /** Writes, and remembers what is known afterwards: that it counts, that it does not, or neither. */
  async #resolve(content: string | null, target: Expected | null, write: () => Promise<PutReceipt>): Promise<void> {
    if (target === null && content !== null) this.maybe.add(content)
    const attempt = { content }
    target?.uncertain.add(attempt)
    try {
      this.#written(await write(), content)
      target?.uncertain.delete(attempt)
    } catch (error) {
      if (hasCode(error, 'version_conflict', 'not_found', 'not_authorised', 'not_a_member')) target?.uncertain.delete(attempt)
      throw error
    }
  }

  async #come(): Promise<void> {
    const guest = this.#random.pick(this.livers.filter((liver) => this.#standing(liver) === 'outside'))
    if (guest === undefined) return
    await this.#tell(`lets ${guest.actor.name} in`, this.#pick('admin'), async ({ group }) => {
      const wasRemoved = group.members().some(({ id, state }) => state === 'removed' && idKey(id) === idKey(guest.actor.identity.id))
      if (wasRemoved) await group.add(guest.actor.identity.cards, 'member')
      this.#disconnect(guest)
      const client = await this.#world.connect(guest.actor)
      const own = wasRemoved ? await client.group(group.id) : await client.join(await this.#token(group))
      await own.sync()
      Object.assign(guest, { client, group: own })
    })
  }

  async #token(group: Group): Promise<string> {
    const token = await group.invite({ role: this.#random.chance(0.2) ? 'reader' : 'member' })
    this.tokens.push(token)
    return token
  }

  async #remove(): Promise<void> {
    const victim = this.#random.pick(this.livers.filter((liver) => this.#standing(liver) !== 'outside'))
    const admin = this.#pick('admin')
    if (victim === undefined || admin === null || victim.actor === admin.actor) return
    await this.#tell(`removes ${victim.actor.name}`, admin, async ({ group }) => {
      const former = await this.#former(victim)
      const receipt = await group.remove(victim.actor.identity.id)
      this.formers.push(former)
      this.#disconnect(victim)
      if (this.#random.chance(0.5)) await receipt.finished
      else receipt.finished.catch(() => undefined)
    })
  }

  #leave(): Promise<void> {
    return this.#tell('leaves', this.#pick('member', 'reader'), async (who) => {
      const { group } = who
      const former = await this.#former(who)
      await group.leave()
      this.formers.push(former)
      this.#disconnect(who)
    })
  }

  /** All that somebody holds, before they go. */
  async #former(liver: Liver): Promise<Former> {
    const held = await collectKeys(liver.actor.store, this.#groupId(), { tokens: [], database: this.#database.pool })
    return { liver, held, later: [] }
  }

  async #setRole(): Promise<void> {
    const other = this.#random.pick(this.livers.filter((liver) => this.#standing(liver) !== 'outside'))
    if (other === undefined) return
    const role = this.#random.pick(['admin', 'member', 'reader'] as const) ?? 'member'
    await this.#tell(`makes ${other.actor.name} ${role}`, this.#pick('admin'), ({ group }) => group.setRole(other.actor.identity.id, role))
  }

  async #restart(): Promise<void> {
    const who = this.#pick('admin', 'member', 'reader')
    await this.#tell('starts again', who, async (liver) => {
      this.#disconnect(liver)
      if (this.#random.chance(0.6)) await this.#connect(liver)
    })
  }

  /** Loses a client while it is writing: nobody knows whether the write counted. */
  async #crash(): Promise<void> {
    const who = this.#pick('admin', 'member')
    const target = this.#target()
    await this.#tell('loses the client in mid-write', who, async (liver) => {
      const content = this.#nextContent()
      const writing = this.#resolve(content, target ?? null, () => liver.group.put(content, target === undefined ? {} : { id: target.id }))
      // It is awaited below; until then nobody else may be blamed for its failure.
      writing.catch(() => undefined)
      const steps = this.#random.below(4)
      for (let step = 0; step < steps; step += 1) await new Promise((resolve) => setImmediate(resolve))
      this.#disconnect(liver)
      await writing
    })
  }
}
