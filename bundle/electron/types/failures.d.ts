/** Failed starts as errors and as events. */
import { SidecarError } from './errors.js';
/**
 * Return the error of a service that failed too often: the last failure, with what it said.
 * @param {SidecarError} error
 * @param {number} most
 * @returns {SidecarError}
 */
export declare function exhausted(error: SidecarError, most: number): SidecarError;
/**
 * Return a failure as the data of an event.
 * @param {SidecarError} error
 * @returns {import('./events.js').Failure}
 */
export declare function told({ code, what, next }: SidecarError): import('./events.js').Failure;
/**
 * Wrap a thrown value in a SidecarError.
 * @param {unknown} thrown
 * @returns {SidecarError}
 */
export declare function wrapped(thrown: unknown): SidecarError;
