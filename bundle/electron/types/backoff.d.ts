/** How long to wait after a crash, and when to give up. */
export type BackoffOptions = {
    /**
     * the wait after the first crash (1000); each further one doubles it
     */
    firstMs?: number;
    /**
     * (16000)
     */
    longestMs?: number;
    /**
     * crashes within the window that end it (5)
     */
    most?: number;
    /**
     * (180000)
     */
    windowMs?: number;
    /**
     * from 0 to 1, for the jitter
     */
    random?: () => number;
    /**
     * a clock in milliseconds that never goes back
     */
    now?: () => number;
};
/**
 * @typedef {object} BackoffOptions
 * @property {number} [firstMs] the wait after the first crash (1000); each further one doubles it
 * @property {number} [longestMs] (16000)
 * @property {number} [most] crashes within the window that end it (5)
 * @property {number} [windowMs] (180000)
 * @property {() => number} [random] from 0 to 1, for the jitter
 * @property {() => number} [now] a clock in milliseconds that never goes back
 */
/** Counts crashes. Five in three minutes, or five in a row that never became ready, are enough. */
export declare class Backoff {
    #private;
    most: number;
    /** @param {BackoffOptions} [options] */
    constructor(options?: BackoffOptions);
    /** Crashes within the window. */
    get crashes(): number;
    /** Start to count again, after somebody asked for a restart. */
    forget(): void;
    /**
     * Count a crash and return the milliseconds to wait, or undefined when it is time to give up.
     * @param {number | undefined} readyMs how long the service had been ready, if it ever was
     * @returns {number | undefined}
     */
    crashed(readyMs: number | undefined): number | undefined;
    /**
     * Return how long to wait after so many attempts before.
     * @param {number} attempts
     * @returns {number}
     */
    waitMs(attempts: number): number;
}
