/** Which failures pass, and how long to wait for that. */
import { SidecarError } from './errors.js';
/**
 * Return whether the same request may succeed later: the connection broke, the queue was full
 * (429), or the service has trouble of its own (5xx). A timeout is none: it was long enough.
 * @param {unknown} error
 * @returns {error is SidecarError}
 */
export declare function isPassing(error: unknown): error is SidecarError;
/**
 * Return what `attempt` gives, after up to `attempts` further ones where a failure may pass.
 * @template T
 * @param {() => Promise<T>} attempt
 * @param {{ attempts: number, delayMs: number, signal: AbortSignal | undefined }} policy
 * @returns {Promise<T>}
 */
export declare function retrying<T>(attempt: () => Promise<T>, { attempts, delayMs, signal }: {
    attempts: number;
    delayMs: number;
    signal: AbortSignal | undefined;
}): Promise<T>;
