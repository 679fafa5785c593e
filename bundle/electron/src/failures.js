/** Failed starts as errors and as events. */

import { SidecarError } from './errors.js';

/**
 * Return the error of a service that failed too often: the last failure, with what it said.
 * @param {SidecarError} error
 * @param {number} most
 * @returns {SidecarError}
 */
export function exhausted(error, most) {
  return new SidecarError(
    'SIDECAR_START_FAILED',
    `the sidecar failed ${most} times and is not started again; the last time ${error.what}`,
    {
      cause: error,
      log: error.log ?? '',
      next: error.next ?? 'see its log, then call restartSidecar',
      ...(error.exitCode === undefined ? {} : { exitCode: error.exitCode }),
      ...(error.signal === undefined ? {} : { signal: error.signal }),
    },
  );
}

/**
 * Return a failure as the data of an event.
 * @param {SidecarError} error
 * @returns {import('./events.js').Failure}
 */
export function told({ code, what, next }) {
  return { code, message: what, ...(next ? { next } : {}) };
}

/**
 * Wrap a thrown value in a SidecarError.
 * @param {unknown} thrown
 * @returns {SidecarError}
 */
export function wrapped(thrown) {
  if (thrown instanceof SidecarError) return thrown;
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return new SidecarError('SIDECAR_START_FAILED', message, { cause: thrown });
}
