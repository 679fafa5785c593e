/** One request and its answer, on node:http and nothing more: about half the cost of fetch. */
import http from 'node:http';
import { SidecarError } from './errors.js';
export type Asked = {
    host: string;
    port: number;
    method: string;
    path: string;
    headers: http.OutgoingHttpHeaders;
    body: Buffer | undefined;
    /**
     * for the whole exchange; of a stream, for each of its parts
     */
    timeoutMs: number;
    signal: AbortSignal | undefined;
};
export type Answered = {
    status: number;
    headers: http.IncomingHttpHeaders;
    body: ArrayBuffer;
};
/**
 * @typedef {object} Asked
 * @property {string} host
 * @property {number} port
 * @property {string} method
 * @property {string} path
 * @property {http.OutgoingHttpHeaders} headers
 * @property {Buffer | undefined} body
 * @property {number} timeoutMs for the whole exchange; of a stream, for each of its parts
 * @property {AbortSignal | undefined} signal
 */
/**
 * @typedef {object} Answered
 * @property {number} status
 * @property {http.IncomingHttpHeaders} headers
 * @property {ArrayBuffer} body
 */
/**
 * Send a request and return its whole answer.
 *
 * Rejects with SidecarError (NETWORK_ERROR, TIMEOUT), or with the reason of an aborted signal.
 * @param {http.Agent} agent
 * @param {Asked} asked
 * @returns {Promise<Answered>}
 */
export declare function exchange(agent: http.Agent, asked: Asked): Promise<Answered>;
/**
 * Send a request and return its answer as soon as it begins; `close` ends it at any time.
 * @param {http.Agent} agent
 * @param {Asked} asked
 * @returns {Promise<{ status: number, headers: http.IncomingHttpHeaders,
 *   parts: AsyncIterable<Buffer>, close: () => void }>}
 */
export declare function stream(agent: http.Agent, asked: Asked): Promise<{
    status: number;
    headers: http.IncomingHttpHeaders;
    parts: AsyncIterable<Buffer>;
    close: () => void;
}>;
export type Call = {
    /**
     * no time is counted
     */
    pause: () => void;
    /**
     * the time starts anew
     */
    renew: () => void;
    /**
     * forget timer and signal
     */
    release: () => void;
    /**
     * what an error of the connection means
     */
    failure: (error: unknown) => unknown;
};
/**
 * Return the JSON object in `body`. Throws SidecarError if there is none.
 * @param {ArrayBuffer} body
 * @returns {Record<string, unknown>}
 */
export declare function objectOf(body: ArrayBuffer): Record<string, unknown>;
/**
 * Return the error that an answer with a status of 400 or more means.
 * @param {{ status: number, headers: http.IncomingHttpHeaders, body: ArrayBuffer }} answer
 * @returns {SidecarError}
 */
export declare function refusal({ status, headers, body }: {
    status: number;
    headers: http.IncomingHttpHeaders;
    body: ArrayBuffer;
}): SidecarError;
/**
 * Return the milliseconds that a Retry-After header asks for: seconds, or a date.
 * @param {string | undefined} header
 * @returns {number | undefined}
 */
export declare function retryAfterOf(header: string | undefined): number | undefined;
