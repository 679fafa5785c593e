/** Whether vectors that an app stored may be compared with those that it gets now. */

/**
 * @typedef {object} Stored
 * What an app kept beside its index.
 * @property {string | null | undefined} [fingerprint]
 * @property {number | null | undefined} [dimensions]
 */

/**
 * @typedef {object} Reindex
 * @property {boolean} needed
 * @property {'same-space' | 'unknown-space' | 'other-space' | 'other-dimensions'} reason
 *   `unknown-space`: the index carries no fingerprint, as one that was made with another program
 */

/**
 * Decide whether an index must be built anew: always, unless its fingerprint is the present one.
 * @param {Stored | null | undefined} stored  nothing where there is no index yet
 * @param {{ fingerprint: string, dimensions?: number }} present
 * @returns {Reindex}
 */
export function decideReindex(stored, present) {
  if (!stored?.fingerprint) return { needed: true, reason: 'unknown-space' };
  if (stored.fingerprint !== present.fingerprint) return { needed: true, reason: 'other-space' };
  const [then, now] = [stored.dimensions ?? undefined, present.dimensions];
  if (then !== undefined && now !== undefined && then !== now) {
    return { needed: true, reason: 'other-dimensions' };
  }
  return { needed: false, reason: 'same-space' };
}
