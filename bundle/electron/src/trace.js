/** Retries and life-cycle events on standard error, where the environment asks for them. */

import { debuglog } from 'node:util';

const debug = debuglog('sidecar');

/**
 * Write a line where `NODE_DEBUG` has `sidecar`, or `LOG_CATEGORIES` the category; no text of a
 * request and no token is in one.
 * @param {'SIDECAR-CLIENT' | 'SIDECAR-SERVICE'} category
 * @param {string} what
 * @param {object} data
 */
export function trace(category, what, data) {
  const chosen = (process.env['LOG_CATEGORIES'] ?? '').toUpperCase().split(/[^\w-]+/);
  const line = `${category} ${what} ${JSON.stringify(data)}`;
  if (chosen.includes(category)) console.error(line);
  else debug('%s', line);
}
