/** What an app uses of this package. */

export { PythonSidecarClient } from './client.js';
export { PythonSidecarEmbedder } from './embedder.js';
export { EXIT_CODES, SidecarError } from './errors.js';
export { decideReindex } from './reindex.js';
export { PythonSidecarService } from './service.js';

/**
 * @typedef {import('./client.js').BatchOptions} BatchOptions
 * @typedef {import('./client.js').ClientOptions} ClientOptions
 * @typedef {import('./client.js').Embedded} Embedded
 * @typedef {import('./client.js').EmbeddedBatch} EmbeddedBatch
 * @typedef {import('./client.js').EmbedOptions} EmbedOptions
 * @typedef {import('./client.js').Health} Health
 * @typedef {import('./client.js').Info} Info
 * @typedef {import('./embedder.js').EmbedderOptions} EmbedderOptions
 * @typedef {import('./errors.js').Problem} Problem
 * @typedef {import('./errors.js').SidecarErrorCode} SidecarErrorCode
 * @typedef {import('./files.js').FileBytes} FileBytes
 * @typedef {import('./files.js').FileEvent} FileEvent
 * @typedef {import('./files.js').FileOptions} FileOptions
 * @typedef {import('./events.js').ProgressEvent} ProgressEvent
 * @typedef {import('./reindex.js').Reindex} Reindex
 * @typedef {import('./retry.js').Retry} Retry
 * @typedef {import('./options.js').Endpoint} Endpoint
 * @typedef {import('./options.js').ServiceOptions} ServiceOptions
 * @typedef {import('./options.js').Status} Status
 */
