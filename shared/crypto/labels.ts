/**
 * Every label that separates one use of a key or a hash from another.
 *
 * A signature, hash or derivation made for one purpose never verifies for another,
 * because its input starts with a label that no other purpose has. New uses get a new row.
 */
import { utf8ToBytes } from '@noble/hashes/utils.js'

/** The one table of labels. Values are part of the protocol: changing one changes bytes. */
export const LABELS = {
  card: 'card',
  cardRotation: 'card-rotation',
  identityId: 'identity-id',
  identitySeed: 'identity-seed',
  inviteId: 'invite-id',
  kemKeyId: 'kem-key-id',
  commit: 'commit',
  commitHash: 'commit-hash',
  roster: 'roster',
  rosterEntry: 'roster-entry',
  historyLeaf: 'history-leaf',
  historyNode: 'history-node',
  inviteProof: 'invite-proof',
  inviteSigning: 'invite-signing',
  inviteKem: 'invite-kem',
  joinRequest: 'join-request',
  signedHead: 'signed-head',
  header: 'header',
  headerBatch: 'header-batch',
  headerBatchLeaf: 'header-batch-leaf',
  headerBatchNode: 'header-batch-node',
  bodyHash: 'body-hash',
  chunkList: 'chunk-list',
  authenticate: 'authenticate',
  authenticateInvite: 'authenticate-invite',
  epochCommitment: 'epoch-commitment',
  deposit: 'deposit',
  dek: 'dek',
  page: 'page',
  link: 'link',
  linkHash: 'link-hash',
  message: 'message',
  wrap: 'wrap',
  dekCommitment: 'dek-commitment',
  body: 'body',
  record: 'record',
  objectMetadata: 'object-metadata',
  store: 'store',
  safetyNumber: 'safety-number',
} as const

/** One of the labels in {@link LABELS}. */
export type Label = (typeof LABELS)[keyof typeof LABELS]

const prefixByLabel = new Map<Label, Uint8Array>()

/**
 * The bytes that start everything made under a label: `"claviger/1 " ‖ label ‖ 0x00`.
 *
 * No label contains a zero byte, so no labelled input is a prefix of one under another label.
 *
 * @returns a shared array: callers must not write to it.
 */
export function labelled(label: Label): Uint8Array {
  const known = prefixByLabel.get(label)
  if (known !== undefined) return known
  const prefix = utf8ToBytes(`claviger/1 ${label}\0`)
  prefixByLabel.set(label, prefix)
  return prefix
}
