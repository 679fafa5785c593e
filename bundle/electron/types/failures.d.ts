/** What a failed start is told as: to the app, and in events. */
import { SidecarError } from './errors.js';
/**
 * Return the error of a service that failed too often: the last failure, with what it said.
 * @param {SidecarError} error
 * @param {number} most
 * @returns {SidecarError}
 */
export declare function exhausted(error: SidecarError, most: number): SidecarError;
/**
 * Return what an event says of a failure.
 * @param {SidecarError} error
 * @returns {import('./events.js').Failure}
 */
export declare function told({ code, message, next }: SidecarError): import('./events.js').Failure;
/**
 * Return what was thrown as an error of ours.
 * @param {unknown} thrown
 * @returns {SidecarError}
 */
export declare function wrapped(thrown: unknown): SidecarError;
