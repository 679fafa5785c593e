/** What an app uses of this package. */
export { PythonSidecarClient } from './client.js';
export { PythonSidecarEmbedder } from './embedder.js';
export { EXIT_CODES, SidecarError } from './errors.js';
export { decideReindex } from './reindex.js';
export { PythonSidecarService } from './service.js';
export type BatchOptions = import('./client.js').BatchOptions;
export type ClientOptions = import('./client.js').ClientOptions;
export type Embedded = import('./client.js').Embedded;
export type EmbeddedBatch = import('./client.js').EmbeddedBatch;
export type EmbedOptions = import('./client.js').EmbedOptions;
export type Health = import('./client.js').Health;
export type Info = import('./client.js').Info;
export type EmbedderOptions = import('./embedder.js').EmbedderOptions;
export type Problem = import('./errors.js').Problem;
export type SidecarErrorCode = import('./errors.js').SidecarErrorCode;
export type FileBytes = import('./files.js').FileBytes;
export type FileEvent = import('./files.js').FileEvent;
export type FileOptions = import('./files.js').FileOptions;
export type ProgressEvent = import('./events.js').ProgressEvent;
export type Reindex = import('./reindex.js').Reindex;
export type Retry = import('./retry.js').Retry;
export type Endpoint = import('./options.js').Endpoint;
export type ServiceOptions = import('./options.js').ServiceOptions;
export type Status = import('./options.js').Status;
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
