/** Durations as people write them. */
const UNIT_MS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/** Milliseconds of `7d`, `12h`, `30m`, `45s`, or of a number of milliseconds. @throws TypeError for anything else. */
export function parseDuration(duration: string | number): number {
  if (typeof duration === 'number' && Number.isFinite(duration) && duration > 0) return duration
  const match = /^(\d{1,6})([smhd])$/.exec(String(duration))
  const unitMs = UNIT_MS[match?.[2] ?? '']
  if (match?.[1] === undefined || unitMs === undefined)
    throw new TypeError(`a duration is written like 7d, 12h, 30m or 45s, got ${String(duration)}`)
  return Number(match[1]) * unitMs
}
