/** Waiting that can be called off, and deadlines that a suspended process does not miss. */
/**
 * A deadline for which only the time counts in which this process ran: it could not have heard of
 * an answer at any other.
 */
export declare class Deadline {
    #private;
    /**
     * @param {number} ms
     * @param {() => void} over called once, unless it is stopped before
     * @param {boolean} [isHeld] whether Node runs on for it (true)
     */
    constructor(ms: number, over: () => void, isHeld?: boolean);
    /**
     * Forget it, and return the milliseconds that counted.
     * @returns {number}
     */
    stop(): number;
}
/**
 * Resolve after `ms` milliseconds in which this process ran. Rejects with the signal's reason when
 * it is aborted before.
 * @param {number} ms
 * @param {AbortSignal} [signal]
 * @param {boolean} [isHeld] whether Node runs on for it (true)
 * @returns {Promise<void>}
 */
export declare function sleep(ms: number, signal?: AbortSignal, isHeld?: boolean): Promise<void>;
/**
 * Return whether `promise` settles within `ms` milliseconds.
 * @param {Promise<unknown>} promise
 * @param {number} ms
 * @returns {Promise<boolean>}
 */
export declare function within(promise: Promise<unknown>, ms: number): Promise<boolean>;
/**
 * Return what `promise` gives, or reject with the signal's reason when it is aborted before.
 * @template T
 * @param {Promise<T>} promise
 * @param {AbortSignal | undefined} signal
 * @returns {Promise<T>}
 */
export declare function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T>;
