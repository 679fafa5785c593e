/** Why a Python that did not start the service could not. */
import { SidecarError } from './errors.js';
/**
 * Return a better error than `error` where the cause is a Python of another version.
 *
 * Asked only after a failure: it costs a start of Python, and the one of the bundle is right.
 * @param {SidecarError} error
 * @param {import('./process.js').Command} command
 * @returns {Promise<SidecarError>}
 */
export declare function diagnose(error: SidecarError, command: import('./process.js').Command): Promise<SidecarError>;
