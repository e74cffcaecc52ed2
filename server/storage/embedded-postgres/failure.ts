/** Turns what PostgreSQL prints when it does not start into one sentence that says what to do. */
import { ClavigerError } from '../../../shared/errors.ts'
import type { ErrorCode } from '../../../shared/errors.ts'

interface Symptom {
  readonly pattern: RegExp
  readonly code: ErrorCode
  readonly sentence: string
}

const SYMPTOMS: readonly Symptom[] = [
  {
    pattern: /No space left on device|Check free disk space|Disk quota exceeded|ENOSPC|EDQUOT/,
    code: 'storage_full',
    sentence: 'The disk of the data directory is full; make room and start again.',
  },
  {
    pattern: /cannot be run as root|execution of the PostgreSQL server is not permitted/i,
    code: 'database_platform',
    sentence: 'PostgreSQL does not run as root; start Claviger as an ordinary user or set DATABASE_URL.',
  },
  {
    pattern: /incompatible with (this version|server)|was initialized by PostgreSQL version/,
    code: 'database_version',
    sentence: 'The data directory belongs to another PostgreSQL major; back up with the old package and restore with the new.',
  },
  {
    pattern: /error while loading shared libraries|image not found|Library not loaded/,
    code: 'database_platform',
    sentence: 'A library of the embedded PostgreSQL is missing; install the package again or set DATABASE_URL.',
  },
  {
    pattern: /could not create any (TCP\/IP|Unix-domain) sockets|could not bind|Address already in use/,
    code: 'database_start_failed',
    sentence: 'PostgreSQL cannot open its socket or port; another program may use it.',
  },
  {
    pattern: /Permission denied|EACCES|EPERM|Read-only file system|has wrong ownership|invalid permissions/,
    code: 'database_start_failed',
    sentence:
      'PostgreSQL may not read or write its data directory; check its owner, its permissions and those of the directories above it.',
  },
]

/** A port taken between our look and PostgreSQL’s, another one asked for helps; `passing`: trying again does. */
export type StartObstacle = 'port' | 'passing' | 'lasting'

/** What stood in the way, by the output in an error of {@link startFailure}. */
export function obstacleOf(error: unknown): StartObstacle {
  const printed = error instanceof ClavigerError ? error.data['output'] : undefined
  const output = typeof printed === 'string' ? printed : ''
  if (/could not create any TCP\/IP sockets/.test(output)) return 'port'
  // The children of a killed server need a moment to notice; another process may just have started it.
  return /pre-existing shared memory block|lock file "[^"]*" already exists/.test(output) ? 'passing' : 'lasting'
}

/** An error of our own file work, told like PostgreSQL’s; anything else is returned as it is. */
export function asStartFailure(error: unknown): unknown {
  return error instanceof Error && !(error instanceof ClavigerError) && 'syscall' in error ? startFailure(error.message, error) : error
}

/**
 * The error for a PostgreSQL that did not start.
 *
 * @param output - the end of what it printed; goes into `data.output`, and holds no password, as none is passed on a command line.
 */
export function startFailure(output: string, cause?: unknown): ClavigerError {
  const symptom = SYMPTOMS.find(({ pattern }) => pattern.test(output))
  const sentence = symptom?.sentence ?? 'The embedded PostgreSQL did not start; `data.output` has the end of its log.'
  return new ClavigerError(symptom?.code ?? 'database_start_failed', sentence, { cause, data: { output: output.trim().slice(-2048) } })
}
