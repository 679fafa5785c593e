/** Looks at a service from outside: that it is ours, that it serves, that it still does. */
import { SidecarError } from './errors.js';
/**
 * Return where a process listens, once it serves and has proven who it is.
 *
 * The port comes through a pipe that only the child holds; the listener there must name the
 * instance; and not before that may the token be sent. Throws SidecarError for a stranger.
 * @param {import('./process.js').SidecarProcess} started
 * @param {import('./identity.js').Identity} identity
 * @param {number} timeoutMs of one look
 * @param {AbortSignal} signal
 * @returns {Promise<import('./options.js').Endpoint>}
 */
export declare function proven(started: import('./process.js').SidecarProcess, { instance, token }: import('./identity.js').Identity, timeoutMs: number, signal: AbortSignal): Promise<import('./options.js').Endpoint>;
/**
 * Return an error once three looks in a row found no healthy service; never returns before.
 *
 * One that is stopped from outside is none of them, for five minutes.
 * @param {number} pid of the service
 * @param {{ host: string, port: number }} place
 * @param {string} instance
 * @param {{ healthInterval: number, healthTimeout: number }} times
 * @param {() => void} tellGone called where a look finds its bundle gone
 * @param {AbortSignal} signal
 * @returns {Promise<SidecarError>}
 */
export declare function hangs(pid: number, place: {
    host: string;
    port: number;
}, instance: string, times: {
    healthInterval: number;
    healthTimeout: number;
}, tellGone: () => void, signal: AbortSignal): Promise<SidecarError>;
