/** Whether vectors that an app stored may be compared with those that it gets now. */
export type Stored = {
    fingerprint?: string | null | undefined;
    dimensions?: number | null | undefined;
};
export type Reindex = {
    needed: boolean;
    /**
     *   `unknown-space`: the index carries no fingerprint, as one that was made with another program
     */
    reason: 'same-space' | 'unknown-space' | 'other-space' | 'other-dimensions';
};
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
export declare function decideReindex(stored: Stored | null | undefined, present: {
    fingerprint: string;
    dimensions?: number;
}): Reindex;
