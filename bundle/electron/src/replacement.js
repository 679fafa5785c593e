/** What happens to the bundle of a service that runs: an updater takes it away, and puts another. */

import { sleep, unlessAborted } from './clock.js';
import { SidecarError } from './errors.js';
import { probe } from './identity.js';
import { locate } from './paths.js';

/**
 * What a start fails with where the new bundle is there in part.
 * @type {ReadonlySet<import('./errors.js').SidecarErrorCode>}
 */
export const PARTIAL = new Set([
  'PYTHON_NOT_FOUND',
  'PYTHON_DEPS_MISSING',
  'BUNDLE_DAMAGED',
  'USAGE_ERROR',
]);

/**
 * Return why no service can be started from the configured place, undefined where one can.
 * @param {import('./options.js').ServiceOptions} options
 * @returns {SidecarError | undefined}
 */
export function absence(options) {
  try {
    locate(options);
    return undefined;
  } catch (error) {
    return /** @type {SidecarError} */ (error);
  }
}

/**
 * Return whether a service said that it needs a file of its bundle, and that is gone.
 * @param {unknown} error
 * @returns {boolean}
 */
export function isBundleGone(error) {
  return error instanceof SidecarError && Boolean(error.problem?.type?.endsWith(':bundle-gone'));
}

/** Tells that a bundle is gone, once anything has found it so. */
export class Departure {
  #tell = () => {};
  /** @type {Promise<void>} */
  told = new Promise((resolve) => (this.#tell = resolve));

  /** Say that it is gone. */
  tell() {
    this.#tell();
  }

  /** Wait for the next word. */
  forget() {
    this.told = new Promise((resolve) => (this.#tell = resolve));
  }
}

/**
 * Return an error once the bundle of a ready service is gone and one lies at its place again; never
 * returns before: what is in memory serves on. One that is back as it was is no reason to restart.
 * @param {{ host: string, port: number, instance: string }} service
 * @param {Departure} departure
 * @param {import('./options.js').ServiceOptions & { healthTimeout: number }} options
 * @param {(attempt: number) => number} waitMs before a further look
 * @param {AbortSignal} signal
 * @returns {Promise<SidecarError>}
 */
export async function replaced(service, departure, options, waitMs, signal) {
  try {
    for (;;) {
      await unlessAborted(departure.told, signal);
      departure.forget();
      for (let attempt = 0; ; attempt += 1) {
        const found = await probe(service, service.instance, options.healthTimeout);
        signal.throwIfAborted();
        if (found?.ours && found.bundle !== 'gone') break;
        if (found && !absence(options)) {
          const message = 'the bundle that the sidecar ran from was moved, replaced or deleted';
          return new SidecarError('BUNDLE_GONE', message);
        }
        await sleep(waitMs(attempt), signal);
      }
    }
  } catch {
    return new Promise(() => {});
  }
}
