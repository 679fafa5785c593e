/** One request and its answer, on node:http and nothing more: about half the cost of fetch. */

// A default import would be in the declarations, too, where apps without esModuleInterop have none.
import * as http from 'node:http';

import { Deadline } from './clock.js';
import { problemOf, SidecarError } from './errors.js';
import { isRecord } from './json.js';

// A problem in the service's words is much shorter; of what is longer, the status must do.
const REFUSAL_BYTES = 64 * 1024;
// Room that is taken because the answer tells its length; for more, bytes must have come.
const TRUSTED_BYTES = 64 * (1 << 20);
const FIRST_BYTES = 16 * 1024;
// A document may be read for longer than one wait, as the service keeps saying, but not for ever:
// for ten of them.
const WAITS = 10;

const TOKEN_STEP =
  'use service.client(), or in a worker new PythonSidecarClient(await service.endpoint()), which have its token';

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
export function exchange(agent, asked, room) {
  const began = performance.now();
  return new Promise((resolve, reject) => {
    open(agent, asked, (response, call) => {
      const { statusCode: status = 0, headers } = response;
      const isServed = status === 200;
      /** @type {unknown} */
      let wrong;
      let most = REFUSAL_BYTES;
      try {
        if (isServed) most = room(headers);
      } catch (error) {
        // Told once the answer is there: one that is cut is a broken connection all the same.
        wrong = error;
      }
      gather(response, most, (error, body, isCut) => {
        if (error) call.fail(call.failure(error));
        else if (wrong) call.fail(wrong);
        else if (isCut && isServed) call.fail(tooLong());
        else {
          call.finish(isCut);
          resolve({ status, headers, body, ms: performance.now() - began });
        }
      });
    }, reject);
  });
}

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
export function stream(agent, asked) {
  return new Promise((resolve, reject) => {
    open(agent, asked, (response, call) => {
      // An error before somebody reads is kept for the reader, and ends nothing else.
      response.on('error', () => {});
      async function* parts() {
        try {
          yield* response;
        } catch (error) {
          throw call.failure(error);
        } finally {
          call.finish(true);
        }
      }
      const { statusCode: status = 0, headers } = response;
      const close = () => call.finish(true);
      resolve({ status, headers, parts: parts(), pace: call, close });
    }, reject);
  });
}

/**
 * Return the first 64 KiB of a stream that is none, and end it.
 * @param {Stream} begun
 * @returns {Promise<Answered>}
 */
export async function refused({ status, headers, parts, close }) {
  /** @type {Buffer[]} */
  const kept = [];
  let length = 0;
  for await (const part of parts) {
    kept.push(part);
    length += part.length;
    if (length > REFUSAL_BYTES) break;
  }
  close();
  return { status, headers, body: new Uint8Array(Buffer.concat(kept)).buffer, ms: 0 };
}

/**
 * @typedef {object} Ends
 * @property {(isCut: boolean) => void} finish forget timer and signal; the connection, too, where
 *   the answer was not read to its end
 * @property {(error: unknown) => void} fail end it all with this error
 * @property {(error: unknown) => unknown} failure what an error of the connection means
 *
 * @typedef {Ends & Pace} Call
 */

/**
 * Send a request. Either `answer` or `refuse` is called in every case, within the time, and
 * `refuse` as well for what goes wrong after `answer`.
 * @param {http.Agent} agent
 * @param {Asked} asked
 * @param {(response: http.IncomingMessage, call: Call) => void} answer
 * @param {(error: unknown) => void} refuse
 */
function open(agent, asked, answer, refuse) {
  const { host, port, method, path, headers, body, signal, timeoutMs, life } = asked;
  if (signal?.aborted) {
    refuse(signal.reason);
    return;
  }
  /** @type {http.ClientRequest} */
  let request;
  /** @type {http.IncomingMessage | undefined} */
  let response;
  /** @type {{ error: unknown } | undefined} */
  let failed;
  let isOver = false;
  let waited = 0;
  let waits = 1;
  const release = () => {
    isOver = true;
    deadline.stop();
    signal?.removeEventListener('abort', abort);
  };
  /** @type {Call} */
  const call = {
    pause() {
      waited += deadline.stop();
    },
    resume(isStep) {
      if (failed) throw failed.error;
      if (isOver) return;
      if (isStep) waited = 0;
      deadline = new Deadline(Math.min(timeoutMs, timeoutMs * WAITS - waited), expire);
    },
    finish(isCut) {
      release();
      // An answer that came before the request was sent leaves one that may never be taken.
      if (isCut || !request.writableFinished) drop();
    },
    fail(error) {
      if (isOver) return;
      failed = { error };
      release();
      drop();
      refuse(error);
    },
    failure(error) {
      if (failed) return failed.error;
      return error instanceof SidecarError ? error : networkError(error);
    },
  };
  const drop = () => {
    response?.destroy(new Error('the answer was left'));
    request.destroy();
  };
  const expire = () => {
    const quietMs = performance.now() - (life?.at ?? -Infinity);
    if (quietMs < timeoutMs && waits < WAITS) {
      waits += 1;
      deadline = new Deadline(timeoutMs - quietMs, expire);
      return;
    }
    call.fail(
      new SidecarError('TIMEOUT', `the sidecar did not answer within ${timeoutMs} ms`, {
        next: 'raise timeout, or see the log of the service for what keeps it',
      }),
    );
  };
  const abort = () => call.fail(signal?.reason);
  const send = () => {
    const sent = http.request({ agent, host, port, method, path, headers });
    request = sent;
    sent.on('response', (begun) => {
      response = begun;
      answer(begun, call);
    });
    // Heard, or node closes the connection without a word to us.
    sent.on('upgrade', ({ statusCode: status = 101 }, socket) => {
      socket.destroy();
      const message = `the sidecar answered ${status}: a change of protocol that was not requested`;
      call.fail(new SidecarError('HTTP_ERROR', message, { status }));
    });
    sent.on('error', (error) => {
      if (response || isOver || sent !== request) return;
      // The service closed an idle connection in the moment in which we reused it.
      if (sent.reusedSocket) send();
      else call.fail(networkError(error));
    });
    sent.on('close', () => {
      if (!response && sent === request) call.fail(networkError(new Error('no answer came')));
    });
    sent.end(body);
  };
  send();
  let deadline = new Deadline(timeoutMs, expire);
  signal?.addEventListener('abort', abort, { once: true });
}

/**
 * @param {unknown} cause
 * @returns {SidecarError}
 */
function networkError(cause) {
  const { code } = /** @type {NodeJS.ErrnoException} */ (cause);
  const [message, next] =
    code === 'ECONNREFUSED'
      ? ['nothing listens at the address of the sidecar', 'start it, or pass the port that it has']
      : ['the connection to the sidecar broke', 'see its log: it may have ended'];
  return new SidecarError('NETWORK_ERROR', code ? `${message} (${code})` : message, { cause, next });
}

/**
 * @param {unknown} [cause]
 * @returns {SidecarError}
 */
function tooLong(cause) {
  return new SidecarError('PARSE_ERROR', 'the answer is too long', { cause });
}

/**
 * Read a body of at most `most` bytes into one buffer: what is decoded later needs no second copy.
 * @param {http.IncomingMessage} response
 * @param {number} most
 * @param {(error: unknown, body: ArrayBuffer, isCut: boolean) => void} done
 */
function gather(response, most, done) {
  const told = Number(response.headers['content-length'] ?? FIRST_BYTES);
  let whole = new Uint8Array(Math.min(told, most, TRUSTED_BYTES));
  let at = 0;
  let isOver = false;
  /** @param {unknown} error */
  const finish = (error, isCut = false) => {
    if (isOver) return;
    isOver = true;
    if (error) done(error, new ArrayBuffer(0), isCut);
    else done(error, at === whole.length ? whole.buffer : whole.slice(0, at).buffer, isCut);
  };
  response.on('data', (/** @type {Buffer} */ part) => {
    if (isOver) return;
    const length = at + part.length;
    if (length > most) {
      finish(undefined, true);
      return;
    }
    if (length > whole.length) {
      try {
        const larger = new Uint8Array(Math.min(most, Math.max(length, 2 * whole.length)));
        larger.set(whole);
        whole = larger;
      } catch (cause) {
        finish(tooLong(cause));
        return;
      }
    }
    whole.set(part, at);
    at = length;
  });
  response.on('end', () => finish(undefined));
  response.on('error', finish);
  response.on('close', () => finish(new Error('the answer was cut')));
}

/**
 * Throw SidecarError unless the headers are those of a plain body of this type.
 * @param {http.IncomingHttpHeaders} headers
 * @param {string} type
 */
export function requireType(headers, type) {
  const [found] = (headers['content-type'] ?? '').split(';', 1);
  if (found?.trim().toLowerCase() !== type) {
    throw new SidecarError('PARSE_ERROR', `the answer is not of the type ${type}`);
  }
  if ((headers['content-encoding'] ?? 'identity') !== 'identity') {
    throw new SidecarError('PARSE_ERROR', 'the answer has a Content-Encoding that was not requested');
  }
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
 * Return the error that an answer means which is none that was asked for.
 * @param {Answered} answer
 * @returns {SidecarError}
 */
export function refusal({ status, headers, body }) {
  /** @type {import('./errors.js').Problem} */
  let problem = {};
  try {
    problem = problemOf(objectOf(body));
  } catch {
    // Not the service's own words; the status must do.
  }
  const why = problem.why ? ` (${problem.why})` : '';
  const detail = problem.detail === undefined ? '' : `: ${problem.detail}${why}`;
  const wait = retryAfterOf(headers['retry-after']);
  const isStranger = Boolean(problem.type?.endsWith(':no-token'));
  return new SidecarError('HTTP_ERROR', `the sidecar answered ${status}${detail}`, {
    status,
    problem,
    ...(isStranger ? { next: TOKEN_STEP } : {}),
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
