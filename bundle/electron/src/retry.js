/** Which failures pass, and how long to wait for that. */

import { sleep } from './clock.js';
import { SidecarError } from './errors.js';

// Who is asked to wait longer is told so instead.
const LONGEST_MS = 60_000;

/**
 * @typedef {object} Retry
 * @property {number} attempt the further attempt that comes, from 1
 * @property {number} waitMs milliseconds until then
 * @property {SidecarError} error why the last one failed
 */

/**
 * Return whether the same request may succeed later: the connection broke, the queue was full
 * (429), or the service has trouble of its own (5xx). A timeout is none: it was long enough. Nor is
 * a 507 without Retry-After: the model is larger than the memory that it may ever have.
 * @param {unknown} error
 * @returns {error is SidecarError}
 */
export function isPassing(error) {
  if (!(error instanceof SidecarError)) return false;
  if (error.code === 'NETWORK_ERROR') return true;
  const status = error.code === 'HTTP_ERROR' ? (error.status ?? 0) : 0;
  if (status === 507) return error.retryAfterMs !== undefined;
  return status === 429 || status >= 500;
}

/**
 * Return what `attempt` gives, after up to `attempts` further ones where a failure may pass.
 * @template T
 * @param {() => Promise<T>} attempt
 * @param {{ attempts: number, delayMs: number, signal: AbortSignal | undefined,
 *   tell: (retry: Retry) => void }} policy
 * @returns {Promise<T>}
 */
export async function retrying(attempt, { attempts, delayMs, signal, tell }) {
  for (let failed = 0; ; failed += 1) {
    try {
      return await attempt();
    } catch (error) {
      if (failed >= attempts || !isPassing(error)) throw error;
      const wait = error.retryAfterMs ?? delayMs * 2 ** failed;
      if (wait > LONGEST_MS) throw error;
      // Clients that were refused together shall not come back together.
      const waitMs = wait * (1 + Math.random() / 10);
      tell({ attempt: failed + 1, waitMs, error });
      await sleep(waitMs, signal);
    }
  }
}
