/** Waiting that can be called off. */
/**
 * Resolve after `ms` milliseconds. Rejects with the signal's reason when it is aborted before.
 * @param {number} ms
 * @param {AbortSignal} [signal]
 * @returns {Promise<void>}
 */
export declare function sleep(ms: number, signal?: AbortSignal): Promise<void>;
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
