/** Proof that the process on a port is the one that we started. */

import { randomBytes } from 'node:crypto';
import http from 'node:http';

import { Deadline } from './clock.js';
import { isRecord } from './json.js';

const MOST_BYTES = 64 * 1024;

/**
 * @typedef {object} Identity
 * @property {string} instance names one start of the service; no secret
 * @property {string} token lets its holder use the service; the child reads it from standard input
 */

/**
 * Return a fresh identity for one start.
 * @returns {Identity}
 */
export function newIdentity() {
  return {
    instance: randomBytes(16).toString('hex'),
    token: randomBytes(32).toString('base64url'),
  };
}

/**
 * @typedef {object} Probe
 * @property {boolean} ours whether the listener names our instance
 * @property {string} status what it says of itself
 * @property {string} [bundle] `present`, or `gone` where its files are no longer those it runs from
 */

/**
 * Ask who listens, without sending the token. Undefined if there is no answer.
 *
 * The child proves itself twice: the port came through a pipe that only it holds, and what listens
 * there names the instance. A token that were sent after the child died is worth nothing any more.
 * @param {{ host: string, port: number }} place
 * @param {string} instance
 * @param {number} timeoutMs
 * @returns {Promise<Probe | undefined>}
 */
export function probe(place, instance, timeoutMs) {
  return new Promise((resolve) => {
    const request = http.get({
      host: place.host,
      port: place.port,
      path: '/health',
      // A connection of its own: none that the client may have open.
      agent: false,
      headers: { accept: 'application/json' },
    });
    const deadline = new Deadline(timeoutMs, () => finish(undefined));
    /** @param {Probe | undefined} answer */
    function finish(answer) {
      deadline.stop();
      request.destroy();
      resolve(answer);
    }
    request.on('error', () => finish(undefined));
    request.on('response', (response) => {
      /** @type {Buffer[]} */
      const parts = [];
      let length = 0;
      response.on('data', (/** @type {Buffer} */ part) => {
        length += part.length;
        if (length > MOST_BYTES) finish({ ours: false, status: '' });
        else parts.push(part);
      });
      response.on('error', () => finish(undefined));
      response.on('close', () => finish(undefined));
      response.on('end', () => finish(said(Buffer.concat(parts), instance)));
    });
  });
}

/**
 * @param {Buffer} body
 * @param {string} instance
 * @returns {Probe}
 */
function said(body, instance) {
  try {
    const value = /** @type {unknown} */ (JSON.parse(body.toString('utf8')));
    if (isRecord(value)) {
      const status = typeof value['status'] === 'string' ? value['status'] : '';
      const { bundle } = value;
      return {
        ours: value['instance'] === instance,
        status,
        ...(typeof bundle === 'string' ? { bundle } : {}),
      };
    }
  } catch {
    // Not JSON: a stranger.
  }
  return { ours: false, status: '' };
}
