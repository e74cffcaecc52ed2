/** The example of the README, word for word. */
import { Claviger, FileStore, Identity } from '../client/node/index.ts'

/** Two people, one group, nobody online when bob joins. Needs a server: `npm start`. */
export async function quickStart(server: string, directory: string): Promise<string> {
  const aliceStore = await FileStore.open(`${directory}/alice`)
  const alice = await Claviger.connect(server, { identity: await Identity.open(aliceStore), store: aliceStore })
  const group = await alice.createGroup({ name: 'Design' })
  const { id } = await group.put('# The plan', { name: 'plan.md', type: 'text/markdown' })
  const token = await group.invite({ role: 'member', expiresIn: '7d' })
  alice.close() // whoever holds the token can join while alice is away

  const bobStore = await FileStore.open(`${directory}/bob`)
  const bob = await Claviger.connect(server, { identity: await Identity.open(bobStore), store: bobStore })
  const same = await bob.join(token)
  const plan = await same.get(id)
  const text = `${plan.name}, version ${plan.version}: ${await plan.text()}`

  const again = await Claviger.connect(server, { identity: alice.identity, store: aliceStore })
  const receipt = await (await again.group(group.id)).remove(bob.id) // one commit, one new epoch
  await receipt.finished // every DEK rewrapped, the old epoch destroyed; bodies untouched

  again.close()
  bob.close()
  await Promise.all([aliceStore.close(), bobStore.close()])
  return text
}
