/** Looks at a service from outside: that it is ours, that it serves, that it still does. */

import { sleep } from './clock.js';
import { SidecarError } from './errors.js';
import { probe } from './identity.js';
import { isStopped } from './stopped.js';

const HOST = '127.0.0.1';
const POLL_MS = 100;
// What was stopped for longer will not go on by itself.
const LONGEST_STOP_MS = 300_000;

/**
 * Return where a process listens, once it serves and has proven who it is.
 *
 * The port comes through a pipe that only the child holds; the listener there must name the
 * instance; and not before that may the token be sent. Throws SidecarError for a stranger.
 * @param {import('./process.js').SidecarProcess} started
 * @param {import('./identity.js').Identity} identity
 * @param {number} timeoutMs of one look
 * @param {AbortSignal} signal
 * @returns {Promise<import('./options.js').Endpoint>}
 */
export async function proven(started, { instance, token }, timeoutMs, signal) {
  const place = { host: HOST, port: await started.announced };
  for (;;) {
    signal.throwIfAborted();
    const found = await probe(place, instance, timeoutMs);
    if (found && !found.ours) {
      const message = `the program on port ${place.port} is not the sidecar that was started`;
      throw new SidecarError('IDENTITY_UNPROVEN', message, { log: started.log });
    }
    if (found?.status === 'ok') return { ...place, token };
    await sleep(POLL_MS, signal);
  }
}

/**
 * Return an error once three looks in a row found no healthy service; never returns before.
 *
 * One that is stopped from outside is none of them, for five minutes.
 * @param {number} pid of the service
 * @param {{ host: string, port: number }} place
 * @param {string} instance
 * @param {{ healthInterval: number, healthTimeout: number }} times
 * @param {() => void} tellGone called where a look finds its bundle gone
 * @param {AbortSignal} signal
 * @returns {Promise<SidecarError>}
 */
export async function hangs(pid, place, instance, times, tellGone, signal) {
  let misses = 0;
  let stoppedMs = 0;
  while (misses < 3) {
    try {
      // For as long as Node runs for anything else, the service as a rule.
      await sleep(times.healthInterval, signal, false);
    } catch {
      return new Promise(() => {});
    }
    const found = await probe(place, instance, times.healthTimeout);
    // One that drains is about to end by itself, and its exit code tells more.
    const isWell = found?.ours && (found.status === 'ok' || found.status === 'stopping');
    if (isWell) {
      misses = stoppedMs = 0;
    } else if (stoppedMs < LONGEST_STOP_MS && (await isStopped(pid))) {
      stoppedMs += times.healthInterval + times.healthTimeout;
    } else misses += 1;
    if (found?.ours && found.bundle === 'gone') tellGone();
  }
  return new SidecarError('SIDECAR_HANGS', 'the sidecar stopped answering');
}
