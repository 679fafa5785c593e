/** Progress events: those of the service's standard output, and those of this package. */

import { isRecord } from './json.js';

const PREFIX = 'PROGRESS:';

/**
 * @typedef {object} Failure
 * @property {import('./errors.js').SidecarErrorCode} code
 * @property {string} message
 * @property {string} [next] the next step
 */

/**
 * @typedef {{ type: 'starting', data: { port: number } }
 *   | { type: 'model_cached', data: { model: string } }
 *   | { type: 'download_started', data: Record<string, unknown> }
 *   | { type: 'download_progress', data: Record<string, unknown> }
 *   | { type: 'model_loaded', data: { model: string, dimensions: number } }
 *   | { type: 'ready', data: { instance: string, pid: number, host: string, port: number,
 *       version: string, degraded: string | null } }
 *   | { type: 'restarting', data: { in_ms: number } & Failure }
 *   | { type: 'stopping', data: Record<string, never> }
 *   | { type: 'stopped', data: Record<string, never> }
 *   | { type: 'failed', data: Failure }} ProgressEvent
 * Those that the service does not announce come from PythonSidecarService. `ready` comes when the
 * service is ready and has proven who it is. A newer service may announce further types.
 */

/** @typedef {{ type: string, data: Record<string, unknown> }} Announced */

/**
 * Return the event on a line of standard output, or undefined where it carries none.
 * @param {string} line
 * @returns {Announced | undefined}
 */
export function progressOf(line) {
  if (!line.startsWith(PREFIX)) return undefined;
  /** @type {unknown} */
  let value;
  try {
    value = JSON.parse(line.slice(PREFIX.length));
  } catch {
    return undefined;
  }
  if (!isRecord(value) || typeof value['type'] !== 'string') return undefined;
  return { type: value['type'], data: isRecord(value['data']) ? value['data'] : {} };
}
