/**
 * The same removal with ts-mls (RFC 9420) and its default crypto provider (WebCrypto).
 *
 * `ts-mls.js make <members> <file>` builds the group and stores its creator’s state; `ts-mls.js remove <file>` loads it
 * in a fresh process and measures one commit that removes a member. Cold: one member has added all the others.
 */
import { readFile, writeFile } from 'node:fs/promises'
import {
  createCommit,
  createGroup,
  decodeGroupState,
  defaultAuthenticationService,
  defaultCapabilities,
  defaultKeyPackageEqualityConfig,
  defaultKeyRetentionConfig,
  defaultLifetime,
  defaultLifetimeConfig,
  defaultPaddingConfig,
  encodeGroupState,
  encodeMlsMessage,
  generateKeyPackage,
  getCiphersuiteFromName,
  getCiphersuiteImpl,
} from 'ts-mls'

const CLIENT_CONFIG = {
  keyRetentionConfig: defaultKeyRetentionConfig,
  lifetimeConfig: defaultLifetimeConfig,
  keyPackageEqualityConfig: defaultKeyPackageEqualityConfig,
  paddingConfig: defaultPaddingConfig,
  authService: defaultAuthenticationService,
}

const cipherSuite = await getCiphersuiteImpl(getCiphersuiteFromName('MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519'))
const [task, ...args] = process.argv.slice(2)
const value = task === 'make' ? await make(Number(args[0]), args[1] ?? '') : await remove(args[0] ?? '')
process.send?.({ value })

async function make(members, path) {
  const creator = await keyPackage('member 0')
  const group = await createGroup(new TextEncoder().encode('bench'), creator.publicPackage, creator.privatePackage, [], cipherSuite)
  const extraProposals = []
  for (let index = 1; index < members; index += 1) {
    const { publicPackage } = await keyPackage(`member ${index}`)
    extraProposals.push({ proposalType: 'add', add: { keyPackage: publicPackage } })
  }
  const { newState } = await createCommit({ state: group, cipherSuite }, { extraProposals })
  await writeFile(path, encodeGroupState(newState))
  return path
}

function keyPackage(name) {
  const credential = { credentialType: 'basic', identity: new TextEncoder().encode(name) }
  return generateKeyPackage(credential, defaultCapabilities(), defaultLifetime, [], cipherSuite)
}

async function remove(path) {
  const state = { ...decodeGroupState(new Uint8Array(await readFile(path)), 0)?.[0], clientConfig: CLIENT_CONFIG }
  const started = performance.now()
  const before = process.cpuUsage()
  const { commit } = await createCommit({ state, cipherSuite }, { extraProposals: [{ proposalType: 'remove', remove: { removed: 2 } }] })
  const { user, system } = process.cpuUsage(before)
  return { cpuMs: (user + system) / 1000, wallMs: performance.now() - started, bytes: encodeMlsMessage(commit).length }
}
