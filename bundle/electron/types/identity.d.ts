/** Proof that the process on a port is the one that we started. */
export type Identity = {
    /**
     * names one start of the service; no secret
     */
    instance: string;
    /**
     * lets its holder use the service; the child reads it from standard input
     */
    token: string;
};
/**
 * @typedef {object} Identity
 * @property {string} instance names one start of the service; no secret
 * @property {string} token lets its holder use the service; the child reads it from standard input
 */
/**
 * Return a fresh identity for one start.
 * @returns {Identity}
 */
export declare function newIdentity(): Identity;
export type Probe = {
    /**
     * whether the listener names our instance
     */
    ours: boolean;
    /**
     * what it says of itself
     */
    status: string;
    /**
     * `present`, or `gone` where its files are no longer those it runs from
     */
    bundle?: string;
};
/**
 * @typedef {object} Probe
 * @property {boolean} ours whether the listener names our instance
 * @property {string} status what it says of itself
 * @property {string} [bundle] `present`, or `gone` where its files are no longer those it runs from
 */
/**
 * Ask who listens, without sending the token. Undefined if there is no answer.
 *
 * The child proves itself twice: the port came through a pipe that only it holds, and what listens
 * there names the instance. A token that were sent after the child died is worth nothing any more.
 * @param {{ host: string, port: number }} place
 * @param {string} instance
 * @param {number} timeoutMs
 * @returns {Promise<Probe | undefined>}
 */
export declare function probe(place: {
    host: string;
    port: number;
}, instance: string, timeoutMs: number): Promise<Probe | undefined>;
