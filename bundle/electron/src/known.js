/** The options of each class and method. An unknown one is refused, with the name that is meant. */

import { SidecarError } from './errors.js';
import { isRecord } from './json.js';

const SPACE = ['model', 'normalize', 'pooling', 'promptName', 'prompt', 'inputType', 'dimensions'];
const CALL = ['signal', 'truncate', 'priority'];
const BATCH = ['batchSize', 'batchBytes', 'concurrency', 'onProgress'];
const PATIENCE = ['timeout', 'retryAttempts', 'retryDelay', 'onRetry'];
const FILE = ['chunkSize', 'chunkOverlap', 'maxChunks', 'unit', 'charset', 'password', 'signal'];

/** What each class and method takes. */
export const KNOWN = Object.freeze({
  PythonSidecarService: [
    ...['resources', 'pythonPath', 'scriptPath', 'modelCachePath', 'port', 'portFallback'],
    ...['autoRestart', 'onProgress', 'onLog', 'model', 'engine', 'allowDirs', 'allowOrigins', 'args'],
    ...['startTimeout', 'stopTimeout', 'healthInterval', 'healthTimeout', 'backoff'],
  ],
  PythonSidecarClient: ['baseUrl', 'host', 'port', 'token', 'service', ...PATIENCE],
  PythonSidecarEmbedder: ['client', 'autoStart', 'service', 'batchSize', ...SPACE],
  'service.client': PATIENCE,
  embed: [...CALL, ...SPACE],
  embedBatch: [...CALL, ...SPACE, ...BATCH],
  embedFile: [...FILE, ...SPACE],
  health: ['signal'],
  info: ['signal'],
  'embedder.open': ['signal'],
  'embedder.embed': CALL,
  'embedder.embedBatch': [...CALL, ...BATCH],
  'embedder.embedFile': FILE,
});

const LISTS = ['allowDirs', 'allowOrigins', 'args'];

// What programs call them elsewhere.
/** @type {Readonly<Record<string, string>>} */
const MEANT = {
  abortSignal: 'signal',
  apiKey: 'token',
  dim: 'dimensions',
  cacheDir: 'modelCachePath',
  endpoint: 'baseUrl',
  maxRetries: 'retryAttempts',
  modelCache: 'modelCachePath',
  modelName: 'model',
  modelPath: 'model',
  python: 'pythonPath',
  requestTimeout: 'timeout',
  resourcesPath: 'resources',
  retries: 'retryAttempts',
  script: 'scriptPath',
  startupTimeout: 'startTimeout',
  timeoutMs: 'timeout',
  url: 'baseUrl',
};

/** @typedef {keyof typeof KNOWN} Taker */

/**
 * Throw SidecarError unless `options` is an object that has options of `taker` alone, none of them
 * NaN, and arrays where several are meant; those that are undefined count as left out.
 * @param {Taker} taker
 * @param {unknown} options
 */
export function requireOptions(taker, options) {
  if (!isRecord(options)) {
    throw new SidecarError('USAGE_ERROR', `${taker} takes an object of options`, {
      next: 'leave them out, or pass an object',
    });
  }
  const taken = KNOWN[taker];
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined) continue;
    if (!taken.includes(name)) {
      throw new SidecarError('USAGE_ERROR', `${taker} has no option ${name}`, {
        next: meant(taker, name),
      });
    }
    // Every comparison with it is false: a batch of so many workers would ask for nothing.
    if (Number.isNaN(value)) {
      throw new SidecarError('USAGE_ERROR', `the option ${name} of ${taker} is NaN`, {
        next: 'pass a number, or undefined for the default',
      });
    }
    if (LISTS.includes(name) && !Array.isArray(value)) {
      throw new SidecarError('USAGE_ERROR', `the option ${name} of ${taker} is no array`, {
        next: `pass ${name}: ['…']`,
      });
    }
  }
}

/**
 * Return the next step of who passed the option `name` to `taker`, which has none of that name.
 * @param {Taker} taker
 * @param {string} name
 * @returns {string}
 */
function meant(taker, name) {
  const wanted = MEANT[name] ?? name;
  const taken = KNOWN[taker];
  if (taken.includes(wanted)) return `use ${wanted}`;
  const others = Object.entries(KNOWN).filter(([, names]) => names.includes(wanted));
  const named = others.map(([other]) => other).filter((other) => !other.includes('.'));
  if (named.length > 0) return `pass ${wanted} to ${named.join(' or ')}`;
  const near = taken.find((known) => plain(known) === plain(name)) ?? nearest(name, taken);
  return near === undefined ? `its options are ${taken.join(', ')}` : `use ${near}`;
}

/** @param {string} name */
function plain(name) {
  return name.replaceAll(/[-_]/g, '').toLowerCase();
}

/**
 * Return the name that is spelled almost like `name`: two letters apart at most.
 * @param {string} name
 * @param {readonly string[]} names
 * @returns {string | undefined}
 */
function nearest(name, names) {
  const [found] = names
    .map((known) => /** @type {const} */ ([known, distance(plain(known), plain(name))]))
    .sort(([, one], [, two]) => one - two);
  return found && found[1] <= 2 ? found[0] : undefined;
}

/**
 * Return how many letters must be put in, taken out or changed to make one word of the other.
 * @param {string} one
 * @param {string} two
 * @returns {number}
 */
function distance(one, two) {
  let row = Array.from({ length: two.length + 1 }, (_, at) => at);
  for (const [index, letter] of [...one].entries()) {
    let diagonal = index;
    let left = index + 1;
    row = row.map((above, at) => {
      if (at > 0) {
        const changed = diagonal + (letter === two[at - 1] ? 0 : 1);
        left = Math.min(changed, above + 1, left + 1);
      }
      diagonal = above;
      return left;
    });
  }
  return /** @type {number} */ (row.at(-1));
}
