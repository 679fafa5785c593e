/** What is no options object is told, and never ignored. */

import { SidecarError } from './errors.js';
import { isRecord } from './json.js';

/**
 * Throw SidecarError unless `options` is an object of options.
 * @param {string} taker the class or method that takes them
 * @param {unknown} options
 */
export function requireOptions(taker, options) {
  if (isRecord(options)) return;
  throw new SidecarError('USAGE_ERROR', `${taker} takes an object of options`, {
    next: 'leave them out, or pass an object',
  });
}
