/** Key pages: reading ranges, replacing them, and the jobs that do so. */
import { ClavigerError, hasCode } from '../../shared/errors.ts'
import type { GroupId } from '../../shared/ids.ts'
import { COMMIT_ATTEMPTS_MAX } from '../../shared/limits.ts'
import type { Admission } from '../access.ts'
import { staleEpoch } from '../object-judge.ts'
import { readRange } from '../storage/page-ranges.ts'
import { replacePages } from '../storage/page-replace.ts'
import type { RewrapProgress } from '../storage/rewrap-jobs.ts'
import { startRewrap } from '../storage/rewrap-jobs.ts'
import { reportUnopenable } from '../storage/unopenable.ts'
import type { Call, Handlers } from './handler.ts'

type PageMethod = 'pages.range' | 'pages.replace' | 'rewrap.start' | 'rewrap.status' | 'dek.report'

/** DEKs told of in one event: it must fit a notice between processes. */
const REPORTED_PER_EVENT = 64

export const pageHandlers: Handlers<PageMethod> = {
  'pages.range': ({ services: { access, database }, peer }, { group, lo, pages }) =>
    access.readAt(group, peer, 'administers', async () => {
      const range = await readRange(database, group, { lo, pagesMax: Math.max(1, pages), dead: true })
      if (range === null) throw new ClavigerError('unknown_group')
      const { seq, ...rest } = range
      return { seq, value: { ...rest, pages: [...rest.pages], loose: [...rest.loose] } }
    }),

  'pages.replace': async (call, { group, epoch, replaced, absorbed, pages }) => {
    const { services, peer } = call
    const progress = await atCurrentHead(call, { group, epoch }, ({ state }) =>
      replacePages(services.database, { group, epoch, seq: state.head.seq, replaced, absorbed, pages, leaseOwner: peer.binding.nonce }),
    )
    services.statuses.changed(group)
    tellProgress(call, group, progress)
    return progress
  },

  'rewrap.start': async (call, { group, epoch }) => {
    const { services, peer } = call
    const started = await atCurrentHead(call, { group, epoch }, ({ state }) =>
      startRewrap(services.database, { group, epoch, seq: state.head.seq, owner: peer.binding.nonce }),
    )
    const { leased, ...progress } = started
    services.statuses.changed(group)
    if (leased) services.leases.taken(peer, group)
    tellProgress(call, group, progress)
    return { ...progress, leased }
  },

  'rewrap.status': (call, { group }) => {
    const {
      services: { access, statuses },
      peer,
    } = call
    return access.read(group, peer, 'readsObjects', async () => {
      const counted = await statuses.read(group)
      if (counted === null) throw new ClavigerError('unknown_group')
      const {
        status: { seq: _, ...status },
        progress,
      } = counted
      if (progress !== null && status.oldPages === 0 && status.oldLoose === 0) tellProgress(call, group, progress)
      return status
    })
  },

  'dek.report': async (call, { group, epoch, deks }) => {
    const { services, peer } = call
    const listed = await atCurrentHead(call, { group, epoch }, ({ state }) =>
      reportUnopenable(services.database, { group, epoch, seq: state.head.seq, reportedBy: peer.identity, deks }),
    )
    if (listed.length === 0) return {}
    services.statuses.changed(group)
    services.audit.unopenable(group, peer, listed)
    for (let from = 0; from < listed.length; from += REPORTED_PER_EVENT) {
      services.relay.announce({ type: 'unopenable', group, deks: listed.slice(from, from + REPORTED_PER_EVENT) })
    }
    return {}
  },
}

/** A compaction has no goal that it could come nearer to. */
function tellProgress({ services }: Call, group: GroupId, progress: RewrapProgress): void {
  if (progress.total > 0) services.relay.progressed(group, progress)
}

/** Runs what only an admin may, at the head of the moment; a commit that opens no epoch only makes it start over. */
async function atCurrentHead<T>(
  { services: { access, groups }, peer }: Call,
  at: { readonly group: GroupId; readonly epoch: number },
  run: (admission: Admission) => Promise<T>,
): Promise<T> {
  for (let attempt = 1; ; attempt += 1) {
    const admission = await access.enter(at.group, peer, 'administers')
    if (admission.state.roster.epoch < at.epoch) await groups.refresh(at.group)
    else if (admission.state.roster.epoch > at.epoch) throw staleEpoch(admission.state)
    try {
      return await run(admission)
    } catch (error) {
      if (!hasCode(error, 'stale_head', 'stale_epoch') || attempt === COMMIT_ATTEMPTS_MAX) throw error
      const newer = await groups.refresh(at.group)
      if (newer.roster.epoch !== at.epoch) throw staleEpoch(newer)
    }
  }
}
