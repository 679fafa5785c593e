/** One request and its answer, on node:http and nothing more: about half the cost of fetch. */
import * as http from 'node:http';
import { SidecarError } from './errors.js';
export type Asked = {
    host: string;
    port: number;
    method: string;
    path: string;
    headers: http.OutgoingHttpHeaders;
    body: Buffer | undefined;
    /**
     * for the whole exchange; of a stream, for each of its events
     */
    timeoutMs: number;
    /**
     * when the service last answered a request like this
     * one: that it is busy with others counts for no time, for ten times as long in all
     */
    life?: {
        at: number;
    } | undefined;
    signal: AbortSignal | undefined;
};
export type Answered = {
    status: number;
    headers: http.IncomingHttpHeaders;
    /**
     * of a status other than 200, its first 64 KiB at most
     */
    body: ArrayBuffer;
    /**
     * from the request to the end of the answer
     */
    ms: number;
};
/**
 * @typedef {object} Asked
 * @property {string} host
 * @property {number} port
 * @property {string} method
 * @property {string} path
 * @property {http.OutgoingHttpHeaders} headers
 * @property {Buffer | undefined} body
 * @property {number} timeoutMs for the whole exchange; of a stream, for each of its events
 * @property {{ at: number } | undefined} [life] when the service last answered a request like this
 *   one: that it is busy with others counts for no time, for ten times as long in all
 * @property {AbortSignal | undefined} signal
 */
/**
 * @typedef {object} Answered
 * @property {number} status
 * @property {http.IncomingHttpHeaders} headers
 * @property {ArrayBuffer} body of a status other than 200, its first 64 KiB at most
 * @property {number} ms from the request to the end of the answer
 */
/**
 * Send a request and return its whole answer.
 *
 * `room` tells how many bytes the body may have, from the headers of an answer of 200, or throws
 * where they are not those of one. Rejects with what it throws, with SidecarError
 * (NETWORK_ERROR, TIMEOUT, PARSE_ERROR for a longer body, HTTP_ERROR for another protocol), or with
 * the reason of an aborted signal.
 * @param {http.Agent} agent
 * @param {Asked} asked
 * @param {(headers: http.IncomingHttpHeaders) => number} room
 * @returns {Promise<Answered>}
 */
export declare function exchange(agent: http.Agent, asked: Asked, room: (headers: http.IncomingHttpHeaders) => number): Promise<Answered>;
export type Pace = {
    /**
     * stop the time, as the app has something to do
     */
    pause: () => void;
    /**
     * let it run anew; unless after a step, for ten times
     * as long in all. Throws what ended the stream meanwhile
     */
    resume: (isStep: boolean) => void;
};
export type Stream = {
    status: number;
    headers: http.IncomingHttpHeaders;
    parts: AsyncIterable<Buffer>;
    pace: Pace;
    /**
     * end it, at any time
     */
    close: () => void;
};
/**
 * @typedef {object} Pace
 * How long a stream is waited for: its time passes only while the service is.
 * @property {() => void} pause stop the time, as the app has something to do
 * @property {(isStep: boolean) => void} resume let it run anew; unless after a step, for ten times
 *   as long in all. Throws what ended the stream meanwhile
 */
/**
 * @typedef {object} Stream
 * @property {number} status
 * @property {http.IncomingHttpHeaders} headers
 * @property {AsyncIterable<Buffer>} parts
 * @property {Pace} pace
 * @property {() => void} close end it, at any time
 */
/**
 * Send a request and return its answer as soon as it begins.
 *
 * The time runs on while bytes come: what is complete is for the reader to say, with `pace`.
 * @param {http.Agent} agent
 * @param {Asked} asked
 * @returns {Promise<Stream>}
 */
export declare function stream(agent: http.Agent, asked: Asked): Promise<Stream>;
/**
 * Return the first 64 KiB of a stream that is none, and end it.
 * @param {Stream} begun
 * @returns {Promise<Answered>}
 */
export declare function refused({ status, headers, parts, close }: Stream): Promise<Answered>;
export type Ends = {
    /**
     * forget timer and signal; the connection, too, where
     * the answer was not read to its end
     */
    finish: (isCut: boolean) => void;
    /**
     * end it all with this error
     */
    fail: (error: unknown) => void;
    /**
     * what an error of the connection means
     */
    failure: (error: unknown) => unknown;
};
export type Call = Ends & Pace;
/**
 * Throw SidecarError unless the headers are those of a plain body of this type.
 * @param {http.IncomingHttpHeaders} headers
 * @param {string} type
 */
export declare function requireType(headers: http.IncomingHttpHeaders, type: string): void;
/**
 * Return the JSON object in `body`. Throws SidecarError if there is none.
 * @param {ArrayBuffer} body
 * @returns {Record<string, unknown>}
 */
export declare function objectOf(body: ArrayBuffer): Record<string, unknown>;
/**
 * Return the error that an answer means which is none that was asked for.
 * @param {Answered} answer
 * @returns {SidecarError}
 */
export declare function refusal({ status, headers, body }: Answered): SidecarError;
/**
 * Return the milliseconds that a Retry-After header asks for: seconds, or a date.
 * @param {string | undefined} header
 * @returns {number | undefined}
 */
export declare function retryAfterOf(header: string | undefined): number | undefined;
