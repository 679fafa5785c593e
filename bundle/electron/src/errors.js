/** Everything that can go wrong between an app and its sidecar, one code per kind. */

import { isRecord } from './json.js';

/**
 * @typedef {'PYTHON_NOT_FOUND'
 *   | 'PYTHON_DEPS_MISSING'
 *   | 'PYTHON_VERSION_INCOMPATIBLE'
 *   | 'SIDECAR_START_FAILED'
 *   | 'NETWORK_ERROR'
 *   | 'TIMEOUT'
 *   | 'HTTP_ERROR'
 *   | 'PARSE_ERROR'
 *   | 'SIDECAR_CRASHED'
 *   | 'USAGE_ERROR'
 *   | 'ADDRESS_IN_USE'
 *   | 'BUNDLE_DAMAGED'
 *   | 'BUNDLE_GONE'
 *   | 'OUT_OF_REACH'
 *   | 'DISK_ERROR'
 *   | 'REFUSED_BY_RULE'
 *   | 'VERIFICATION_FAILED'
 *   | 'SMOKE_TEST_FAILED'
 *   | 'SYSTEM_UNSUPPORTED'
 *   | 'MODEL_NOT_LOADABLE'
 *   | 'SIDECAR_STOPPED'
 *   | 'SIDECAR_HANGS'
 *   | 'IDENTITY_UNPROVEN'
 *   | 'SPACE_CHANGED'} SidecarErrorCode
 */

/**
 * @typedef {object} Problem
 * The service's own words for a request that it did not serve (RFC 9457).
 * @property {string} [type]
 * @property {string} [title]
 * @property {number} [status]
 * @property {string} [detail]
 * @property {string} [why]
 * @property {string} [next]
 * @property {string} [request]
 */

/**
 * @typedef {object} SidecarErrorDetails
 * @property {unknown} [cause] the error underneath
 * @property {number} [status] of HTTP, with HTTP_ERROR
 * @property {Problem} [problem] what the service said of it
 * @property {number} [retryAfterMs] how long the service asks us to wait
 * @property {number | null} [exitCode] of the service's process
 * @property {string | null} [signal] that ended the process
 * @property {string} [log] the last lines that the process wrote to standard error
 * @property {string} [next] the next step
 */

// Options of the service that have a name of their own in this package.
/** @type {Readonly<Record<string, string>>} */
const OPTIONS = {
  'allow-dir': 'allowDirs',
  'allow-origin': 'allowOrigins',
  engine: 'engine',
  model: 'model',
  'model-cache': 'modelCachePath',
  port: 'port',
};
const LISTS = ['allowDirs', 'allowOrigins'];
const OPTION = /--([a-z][a-z-]*)(?: ((?<=--model )[\w.-]+$|[A-Z][A-Z_]*|\d[\d.]*|auto|cpu|packed|reference|[^\s,;]+\/[^\s,;]+)(?![\w]))?/g;

/**
 * Return a next step of the service with the options of this package in the place of its own.
 * @param {string} next
 * @returns {string}
 */
export function inOptions(next) {
  return next.replace(OPTION, (option, /** @type {string} */ name, /** @type {string?} */ value) => {
    const ours = OPTIONS[name];
    if (!value) return ours ?? option;
    const quoted = /^[A-Z\d]/.test(value) ? value : `'${value}'`;
    if (ours && LISTS.includes(ours)) return `${ours}: [${quoted}]`;
    return ours ? `${ours}: ${quoted}` : `args: ['--${name}', '${value}']`;
  });
}

/** A failure with a `code` for programs, and for people a message that ends with the next step. */
export class SidecarError extends Error {
  /**
   * @param {SidecarErrorCode} code
   * @param {string} what the message without the next step
   * @param {SidecarErrorDetails} [details]
   */
  constructor(code, what, details = {}) {
    const words = details.next ?? details.problem?.next;
    const next = words === undefined ? undefined : inOptions(words);
    super(
      next ? `${what}; next: ${next}` : what,
      details.cause === undefined ? undefined : { cause: details.cause },
    );
    this.name = 'SidecarError';
    this.what = what;
    /** @type {SidecarErrorCode} */
    this.code = code;
    /** @type {number | undefined} */
    this.status = details.status;
    /** @type {Problem | undefined} */
    this.problem = details.problem;
    /**
     * Which text of a call of many the problem is about, where it is about one.
     * @type {number | undefined}
     */
    this.textIndex = undefined;
    /** @type {number | undefined} */
    this.retryAfterMs = details.retryAfterMs;
    /** @type {number | null | undefined} */
    this.exitCode = details.exitCode;
    /** @type {string | null | undefined} */
    this.signal = details.signal;
    /** @type {string | undefined} */
    this.log = details.log;
    /** @type {string | undefined} */
    this.next = next;
    // Printed with the error they would say nothing.
    for (const name of Object.keys(this)) {
      if (Reflect.get(this, name) === undefined) Reflect.deleteProperty(this, name);
    }
  }
}

const WORDS = ['type', 'title', 'detail', 'why', 'next', 'request'];

/**
 * Return what a service said of a request, without the fields that are not of their kind.
 * @param {Record<string, unknown>} said
 * @returns {Problem}
 */
export function problemOf(said) {
  const fields = Object.entries(said).filter(([name, value]) => {
    if (name === 'status') return Number.isInteger(value);
    return !WORDS.includes(name) || typeof value === 'string';
  });
  return Object.fromEntries(fields);
}

/**
 * What each exit code of the service means.
 * @type {Readonly<Record<number, readonly [code: SidecarErrorCode, message: string]>>}
 */
export const EXIT_CODES = Object.freeze({
  0: ['SIDECAR_STOPPED', 'the sidecar was stopped from outside'],
  1: ['SIDECAR_CRASHED', 'the sidecar failed'],
  2: ['USAGE_ERROR', 'the sidecar was started with options that it refuses'],
  3: ['ADDRESS_IN_USE', 'another program listens on the port'],
  4: ['BUNDLE_DAMAGED', 'a file of the sidecar is not the one that was shipped'],
  5: ['OUT_OF_REACH', 'the model is not on this machine'],
  6: ['DISK_ERROR', 'the disk is full, or a place cannot be read or written'],
  7: ['REFUSED_BY_RULE', 'a rule of the sidecar refuses the model'],
  8: ['VERIFICATION_FAILED', 'the sidecar did not pass its verification'],
  9: ['SMOKE_TEST_FAILED', 'the sidecar did not pass its smoke test'],
  10: ['SYSTEM_UNSUPPORTED', 'this system is too old for the sidecar'],
  11: ['MODEL_NOT_LOADABLE', 'the model cannot be loaded'],
});

/**
 * Codes after which another start would end the same way.
 * @type {ReadonlySet<SidecarErrorCode>}
 */
export const FINAL = new Set([
  'PYTHON_NOT_FOUND',
  'PYTHON_DEPS_MISSING',
  'PYTHON_VERSION_INCOMPATIBLE',
  'USAGE_ERROR',
  'ADDRESS_IN_USE',
  'BUNDLE_DAMAGED',
  'OUT_OF_REACH',
  'REFUSED_BY_RULE',
  'SYSTEM_UNSUPPORTED',
  'TIMEOUT',
]);

/**
 * Return the error for the end of a process, with the last message in its log if there is one.
 * @param {number | null} exitCode
 * @param {string | null} signal
 * @param {string} log the end of its standard error
 * @returns {SidecarError}
 */
export function errorOfExit(exitCode, signal, log) {
  const details = { exitCode, signal, log };
  if (signal !== null) {
    return new SidecarError('SIDECAR_CRASHED', `the sidecar was ended by ${signal}`, details);
  }
  const { what, next, missing } = lastWords(log);
  if (exitCode === 1 && missing) {
    const message = `a Python module is missing: ${missing}`;
    return new SidecarError('PYTHON_DEPS_MISSING', message, {
      ...details,
      next: 'reinstall the app, or leave out pythonPath to use the Python of the bundle',
    });
  }
  const [code, message] = EXIT_CODES[exitCode ?? 1] ?? [
    'SIDECAR_CRASHED',
    `the sidecar ended with exit code ${exitCode}`,
  ];
  return new SidecarError(code, what ? `${message}: ${what}` : message, {
    ...details,
    ...(next ? { next } : {}),
  });
}

/**
 * Return the last message of a service that gave up: what and why in one line, and the next step.
 *
 * Its last line is a JSON object with the exit code, or text where it did not come that far.
 * @param {string} log
 * @returns {{ what?: string, next?: string, missing?: string }}
 */
function lastWords(log) {
  for (const line of log.split('\n').reverse()) {
    const said = line.startsWith('{') ? recordOf(line) : undefined;
    if (said && 'exit_code' in said) {
      const { message, why, next } = said;
      // What was missing stands in the line above.
      if (why === 'ModuleNotFoundError' || why === 'ImportError') continue;
      const what = why ? `${message} (${why})` : String(message);
      return { what, ...(typeof next === 'string' ? { next } : {}) };
    }
    if (said?.['error'] === 'ModuleNotFoundError' || said?.['error'] === 'ImportError') {
      return { missing: String(said['module'] ?? said['error']) };
    }
    const missing = /^(?:ModuleNotFoundError|ImportError): (.*)$/.exec(line)?.[1];
    if (missing) return { missing };
    const refused = /^embedding_sidecar: error: (.*)$/.exec(line)?.[1];
    if (refused) return { what: refused };
  }
  return {};
}

/**
 * @param {string} line
 * @returns {Record<string, unknown> | undefined}
 */
function recordOf(line) {
  try {
    const value = /** @type {unknown} */ (JSON.parse(line));
    return isRecord(value) ? value : undefined;
  } catch {
    return undefined;
  }
}
