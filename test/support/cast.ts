/**
 * A group with people in it, for stories: alice creates it and is its admin, the others join with her tokens.
 */
import type { Claviger, Group, Role } from '../../client/node/index.ts'
import type { ClavigerOptions } from '../../client/node/index.ts'
import type { Database } from '../../server/storage/database.ts'
import { openDatabase } from '../../server/storage/database.ts'
import type { Actor, World } from './world.ts'

/** Somebody in the group, with the client of the moment. */
export interface CastMember {
  readonly actor: Actor
  readonly client: Claviger
  readonly group: Group
}

/** How somebody is in the group. */
export interface Part {
  readonly role?: Role
  readonly options?: Partial<ClavigerOptions> & { server?: number; url?: string }
}

/**
 * A new group of alice and whoever is named, all connected and in step.
 *
 * @param parts - by name; alice is always there.
 */
export async function castGroup<const Name extends string>(
  world: World,
  parts: Readonly<Record<Name, Part>>,
): Promise<Readonly<Record<Name | 'alice', CastMember>>> {
  const parted: Readonly<Record<string, Part>> = parts
  const alice = await world.person('alice')
  const aliceClient = await world.connect(alice, parted['alice']?.options)
  const group = await aliceClient.createGroup()
  const cast: Record<string, CastMember> = { alice: { actor: alice, client: aliceClient, group } }
  for (const [name, { role = 'member', options }] of Object.entries(parted)) {
    if (name === 'alice') continue
    const actor = await world.person(name)
    const client = await world.connect(actor, options)
    const own = await client.join(await group.invite({ role: role === 'admin' ? 'member' : role }))
    await group.sync()
    if (role === 'admin') await group.setRole(client.id, role)
    cast[name] = { actor, client, group: own }
  }
  for (const { group: own } of Object.values(cast)) await own.sync()
  // Every name asked for has been given its member above.
  return cast as Record<Name | 'alice', CastMember>
}

/** The world’s database, for looking and for tampering; close it before the world. */
export function databaseOf(world: World): Database {
  return openDatabase({ url: world.database.url, poolSize: 2 })
}
