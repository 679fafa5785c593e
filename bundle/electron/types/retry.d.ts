/** Which failures pass, and how long to wait for that. */
import { SidecarError } from './errors.js';
export type Retry = {
    /**
     * the further attempt that comes, from 1
     */
    attempt: number;
    /**
     * milliseconds until then
     */
    waitMs: number;
    /**
     * why the last one failed
     */
    error: SidecarError;
};
/**
 * @typedef {object} Retry
 * @property {number} attempt the further attempt that comes, from 1
 * @property {number} waitMs milliseconds until then
 * @property {SidecarError} error why the last one failed
 */
/**
 * Return whether the same request may succeed later: the connection broke, the queue was full
 * (429), or the service has trouble of its own (5xx). A timeout is none: it was long enough. Nor is
 * a 507 without Retry-After: the model is larger than the memory that it may ever have.
 * @param {unknown} error
 * @returns {error is SidecarError}
 */
export declare function isPassing(error: unknown): error is SidecarError;
/**
 * Return what `attempt` gives, after up to `attempts` further ones where a failure may pass.
 * @template T
 * @param {() => Promise<T>} attempt
 * @param {{ attempts: number, delayMs: number, signal: AbortSignal | undefined,
 *   tell: (retry: Retry) => void }} policy
 * @returns {Promise<T>}
 */
export declare function retrying<T>(attempt: () => Promise<T>, { attempts, delayMs, signal, tell }: {
    attempts: number;
    delayMs: number;
    signal: AbortSignal | undefined;
    tell: (retry: Retry) => void;
}): Promise<T>;
