/** Serves the page, and passes on what it asks for. The page never talks to the sidecar itself. */

import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import http from 'node:http';

import { SidecarError } from '@sidecar/electron';

const MOST_BYTES = 64 * 1024;
const FILES = Object.freeze({
  '/': ['index.html', 'text/html; charset=utf-8'],
  '/page.js': ['page.js', 'text/javascript; charset=utf-8'],
  '/style.css': ['style.css', 'text/css; charset=utf-8'],
});
const GUARD = Object.freeze({
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " +
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'cache-control': 'no-store',
});

/**
 * @typedef {object} Relayed
 * @property {import('./state.js').State} state
 * @property {(text: string, signal: AbortSignal) => Promise<object>} rank
 * @property {() => Promise<unknown>} restart
 * @property {readonly object[]} documents
 */

/**
 * Serve on a free port of loopback, and return the address of the page. A random key in the path
 * keeps out every other page and program; requests by another host name or origin are refused.
 * @param {Relayed} relayed
 * @returns {Promise<{ url: string, close: () => Promise<void> }>}
 */
export async function serve(relayed) {
  const key = `/${randomBytes(16).toString('hex')}`;
  const server = http.createServer((request, response) => {
    const { port } = /** @type {import('node:net').AddressInfo} */ (server.address());
    const here = `127.0.0.1:${port}`;
    const { host, origin } = request.headers;
    const isOurs = host === here && (origin === undefined || origin === `http://${here}`);
    if (!isOurs || !request.url?.startsWith(`${key}/`)) {
      send(response, 404, { message: 'there is nothing here' });
      return;
    }
    answer(relayed, request.url.slice(key.length), request, response).catch((error) => {
      const isTold = error instanceof SidecarError;
      const { code = 'BUG', next } = isTold ? error : {};
      send(response, 502, { code, message: String(error.message), next });
    });
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(undefined)));
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address());
  const close = () =>
    /** @type {Promise<void>} */ (
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections?.();
      })
    );
  return { url: `http://127.0.0.1:${port}${key}/`, close };
}

/**
 * @param {Relayed} relayed
 * @param {string} path
 * @param {http.IncomingMessage} request
 * @param {http.ServerResponse} response
 */
async function answer(relayed, path, request, response) {
  const file = /** @type {Record<string, readonly string[]>} */ (FILES)[path];
  const asked = `${request.method} ${path}`;
  if (request.method === 'GET' && file) {
    const [name, type] = /** @type {[string, string]} */ (file);
    response.writeHead(200, { ...GUARD, 'content-type': type });
    response.end(readFileSync(new URL(`page/${name}`, import.meta.url)));
  } else if (asked === 'GET /events') {
    follow(relayed.state, response);
  } else if (asked === 'GET /documents') {
    send(response, 200, relayed.documents);
  } else if (asked === 'POST /rank') {
    const { text } = JSON.parse(await bodyOf(request));
    if (typeof text !== 'string') throw new Error('a text is a string');
    const leaving = new AbortController();
    response.on('close', () => leaving.abort());
    send(response, 200, await relayed.rank(text, leaving.signal));
  } else if (asked === 'POST /restart') {
    relayed.restart().catch(() => {});
    send(response, 202, {});
  } else {
    send(response, 404, { message: 'there is nothing here' });
  }
}

/**
 * @param {import('./state.js').State} state
 * @param {http.ServerResponse} response
 */
function follow(state, response) {
  response.writeHead(200, { ...GUARD, 'content-type': 'text/event-stream' });
  /** @param {object} picture */
  const show = (picture) => response.write(`data: ${JSON.stringify(picture)}\n\n`);
  show(state.picture());
  state.on('change', show);
  response.on('close', () => state.off('change', show));
}

/**
 * @param {http.ServerResponse} response
 * @param {number} status
 * @param {object} value
 */
function send(response, status, value) {
  if (response.headersSent || response.destroyed) return;
  response.writeHead(status, { ...GUARD, 'content-type': 'application/json' });
  response.end(JSON.stringify(value));
}

/** @param {http.IncomingMessage} request */
async function bodyOf(request) {
  /** @type {Buffer[]} */
  const parts = [];
  let length = 0;
  for await (const part of request) {
    length += part.length;
    if (length > MOST_BYTES) throw new Error('that is too much text');
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}
