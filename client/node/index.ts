/** The client SDK for Node: native crypto, the `ws` WebSocket, and a store in a file. */
import { useNodePublicCrypto } from '../../platform/node/index.ts'
import { useNodeSecretCrypto } from '../../platform/node/secret.ts'
import { useOpenSocket } from '../transport.ts'
import { openNodeWebSocket } from './web-socket.ts'

useNodePublicCrypto()
useNodeSecretCrypto()
useOpenSocket(openNodeWebSocket)

export { FileStore } from './file-store.ts'
export {
  Claviger,
  ClavigerError,
  ERRORS,
  Group,
  GroupObject,
  Identity,
  MemoryStore,
  asGroupId,
  asIdentityId,
  asObjectId,
  hasCode,
  idKey,
} from '../index.ts'
export type {
  BodySource,
  Cancellable,
  ClavigerOptions,
  ErrorCode,
  GroupChange,
  GroupEpoch,
  GroupId,
  GroupInvite,
  GroupMember,
  IdentityId,
  InviteId,
  InviteRequest,
  JoinOptions,
  ObjectId,
  PutManyItem,
  PutOptions,
  PutReceipt,
  RemovalReceipt,
  RemoveOptions,
  RewrapOutcome,
  Role,
  Store,
  StoreBatch,
  WaitingJoiner,
} from '../index.ts'
