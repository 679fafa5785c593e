/** One request and its answer, on node:http and nothing more: about half the cost of fetch. */

import http from 'node:http';

import { SidecarError } from './errors.js';
import { isRecord } from './json.js';

// No answer is larger; one that says so is not believed.
const MOST_BYTES = 2 ** 31 - 1;

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
export function exchange(agent, asked) {
  return new Promise((resolve, reject) => {
    open(agent, asked, (response, call) => {
      const { statusCode: status = 0, headers } = response;
      gather(response, (error, body) => {
        call.release();
        if (error) reject(call.failure(error));
        else resolve({ status, headers, body });
      });
    }, reject);
  });
}

/**
 * Send a request and return its answer as soon as it begins; `close` ends it at any time.
 * @param {http.Agent} agent
 * @param {Asked} asked
 * @returns {Promise<{ status: number, headers: http.IncomingHttpHeaders,
 *   parts: AsyncIterable<Buffer>, close: () => void }>}
 */
export function stream(agent, asked) {
  return new Promise((resolve, reject) => {
    open(agent, asked, (response, call) => {
      // An error before somebody reads is kept for the reader, and ends nothing else.
      response.on('error', () => {});
      async function* parts() {
        try {
          for await (const part of response) {
            // Who takes long to use a part does not run against the service's time.
            call.pause();
            yield part;
            call.renew();
          }
        } catch (error) {
          throw call.failure(error);
        } finally {
          call.release();
        }
      }
      const close = () => {
        call.release();
        response.destroy();
      };
      const { statusCode: status = 0, headers } = response;
      resolve({ status, headers, parts: parts(), close });
    }, reject);
  });
}

/**
 * @typedef {object} Call
 * @property {() => void} pause no time is counted
 * @property {() => void} renew the time starts anew
 * @property {() => void} release forget timer and signal
 * @property {(error: unknown) => unknown} failure what an error of the connection means
 */

/**
 * @param {http.Agent} agent
 * @param {Asked} asked
 * @param {(response: http.IncomingMessage, call: Call) => void} answer
 * @param {(error: unknown) => void} refuse
 */
function open(agent, asked, answer, refuse) {
  const { host, port, method, path, headers, body, signal, timeoutMs } = asked;
  if (signal?.aborted) {
    refuse(signal.reason);
    return;
  }
  const request = http.request({ agent, host, port, method, path, headers });
  /** @type {unknown} */
  let ended;
  const expire = () => {
    ended = new SidecarError('TIMEOUT', `the sidecar did not answer within ${timeoutMs} ms`);
    request.destroy();
  };
  const abort = () => {
    ended = signal?.reason;
    request.destroy();
  };
  let timer = setTimeout(expire, timeoutMs);
  /** @type {Call} */
  const call = {
    pause: () => clearTimeout(timer),
    renew() {
      timer = setTimeout(expire, timeoutMs);
    },
    release() {
      clearTimeout(timer);
      signal?.removeEventListener('abort', abort);
    },
    failure: (error) => ended ?? networkError(error),
  };
  signal?.addEventListener('abort', abort, { once: true });
  let hasAnswer = false;
  request.on('response', (response) => {
    hasAnswer = true;
    answer(response, call);
  });
  request.on('error', (error) => {
    if (hasAnswer) return;
    call.release();
    // The service closed a connection that nobody had used for a while, just as we took it.
    const isStale = request.reusedSocket && ended === undefined;
    if (isStale) open(agent, asked, answer, refuse);
    else refuse(call.failure(error));
  });
  request.end(body);
}

/**
 * @param {unknown} cause
 * @returns {SidecarError}
 */
function networkError(cause) {
  const { code } = /** @type {NodeJS.ErrnoException} */ (cause);
  const message =
    code === 'ECONNREFUSED'
      ? 'nobody listens where the sidecar should'
      : 'the connection to the sidecar broke';
  return new SidecarError('NETWORK_ERROR', code ? `${message} (${code})` : message, { cause });
}

/**
 * @param {http.IncomingMessage} response
 * @param {(error: unknown, body: ArrayBuffer) => void} done
 */
function gather(response, done) {
  const told = Number(response.headers['content-length'] ?? -1);
  const isTold = told >= 0 && told <= MOST_BYTES;
  // One buffer of the told length: what is decoded later needs no second copy.
  const whole = new Uint8Array(isTold ? told : 0);
  /** @type {Buffer[]} */
  const parts = [];
  let at = 0;
  let isOver = false;
  /** @param {unknown} error */
  const finish = (error) => {
    if (isOver) return;
    isOver = true;
    done(error, isTold || error ? whole.buffer : joined(parts, at));
  };
  response.on('data', (/** @type {Buffer} */ part) => {
    if (isTold) whole.set(part, at);
    else parts.push(part);
    at += part.length;
  });
  response.on('end', () => finish(undefined));
  response.on('error', finish);
  response.on('close', () => finish(new Error('the answer was cut')));
}

/**
 * @param {Buffer[]} parts
 * @param {number} length
 * @returns {ArrayBuffer}
 */
function joined(parts, length) {
  const whole = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole.buffer;
}

/**
 * Return the JSON object in `body`. Throws SidecarError if there is none.
 * @param {ArrayBuffer} body
 * @returns {Record<string, unknown>}
 */
export function objectOf(body) {
  /** @type {unknown} */
  let value;
  try {
    value = JSON.parse(Buffer.from(body).toString('utf8'));
  } catch (cause) {
    throw new SidecarError('PARSE_ERROR', 'the answer is not JSON', { cause });
  }
  if (!isRecord(value)) throw new SidecarError('PARSE_ERROR', 'the answer is no JSON object');
  return value;
}

/**
 * Return the error that an answer with a status of 400 or more means.
 * @param {{ status: number, headers: http.IncomingHttpHeaders, body: ArrayBuffer }} answer
 * @returns {SidecarError}
 */
export function refusal({ status, headers, body }) {
  /** @type {import('./errors.js').Problem} */
  let problem = {};
  try {
    problem = objectOf(body);
  } catch {
    // Not the service's own words; the status must do.
  }
  const why = problem.why ? ` (${problem.why})` : '';
  const detail = typeof problem.detail === 'string' ? `: ${problem.detail}${why}` : '';
  const wait = retryAfterOf(headers['retry-after']);
  return new SidecarError('HTTP_ERROR', `the sidecar answered ${status}${detail}`, {
    status,
    problem,
    ...(wait === undefined ? {} : { retryAfterMs: wait }),
  });
}

/**
 * Return the milliseconds that a Retry-After header asks for: seconds, or a date.
 * @param {string | undefined} header
 * @returns {number | undefined}
 */
export function retryAfterOf(header) {
  if (header === undefined) return undefined;
  const wait = /^\s*\d+(\.\d+)?\s*$/.test(header)
    ? Number(header) * 1000
    : Date.parse(header) - Date.now();
  return Number.isNaN(wait) ? undefined : Math.max(0, wait);
}
