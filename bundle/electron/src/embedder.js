/** Vectors for an index: one model, one space, and word of when that space changes. */

import { PythonSidecarClient } from './client.js';
import { unlessAborted } from './clock.js';
import { SidecarError } from './errors.js';
import { requireOptions } from './known.js';
import { decideReindex } from './reindex.js';
import { PythonSidecarService } from './service.js';

/**
 * @typedef {object} EmbedderOptions
 * @property {PythonSidecarClient} [client] one on the default port, if left out
 * @property {boolean} [autoStart] start a service for this embedder alone, and wait for it (false)
 * @property {import('./options.js').ServiceOptions} [service] of that service
 * @property {number} [batchSize] texts in one request (32)
 * @property {string} [model] a name of one of the models that the service has (its first)
 * @property {boolean} [normalize] vectors of length 1 (true)
 * @property {'mean' | 'cls' | 'max'} [pooling] (`mean`)
 * @property {string} [promptName] name of the model's prompt that is put before every text
 * @property {string} [prompt] the prompt itself, in place of a name
 * @property {'query' | 'document'} [inputType] in place of a name: the prompt for these
 * @property {number} [dimensions] length that vectors are cut to, of a model trained for it
 */

/** @typedef {{ signal?: AbortSignal }} Cancel */
/** @typedef {'model' | 'normalize' | 'pooling' | 'promptName' | 'prompt' | 'inputType' | 'dimensions'} Space */
/** @typedef {Omit<import('./client.js').EmbedOptions, Space>} Call */

/**
 * Embeds for one index; its queries, if they have a prompt of their own, are embedded by another
 * embedder. The first answer settles the vector space; an answer of another one, after
 * the app shipped another model, is refused with SPACE_CHANGED until `open` is called again.
 */
export class PythonSidecarEmbedder {
  #service;
  #client;
  #isClosed = false;
  #batchSize;
  #space;
  /** @type {string | undefined} */
  #fingerprint;
  /** @type {number | undefined} */
  #dimensions;

  /** @param {EmbedderOptions} [options] */
  constructor(options = {}) {
    requireOptions('PythonSidecarEmbedder', options);
    const { client, autoStart = false, service, batchSize = 32, ...space } = options;
    if (autoStart ? client : service) {
      throw new SidecarError('USAGE_ERROR', 'client and service exclude each other', {
        next: 'pass a client, or autoStart: true with the options of the service to start',
      });
    }
    this.#service = autoStart ? new PythonSidecarService(service) : undefined;
    this.#client = client ?? this.#service?.client() ?? new PythonSidecarClient();
    if (this.#service) {
      this.#service.unref();
      // A failed start rejects the request for the first vector.
      void this.#service.startSidecar();
    }
    this.#batchSize = batchSize;
    this.#space = space;
  }

  /**
   * The service that `autoStart` started, with its status and events.
   * @returns {PythonSidecarService | undefined}
   */
  get service() {
    return this.#service;
  }

  /**
   * Stop the service that `autoStart` started; without a word it ends with Node.
   * @returns {Promise<void>}
   */
  async close() {
    this.#isClosed = true;
    await this.#service?.stopSidecar();
    if (this.#service) this.#client.close();
  }

  /** How long vectors are; undefined before `open` or the first answer. */
  get dimensions() {
    return this.#dimensions;
  }

  /** Names the vector space; undefined before `open` or the first answer. */
  get fingerprint() {
    return this.#fingerprint;
  }

  /**
   * Learn the space that is served now, and return it.
   * @param {Cancel} [options]
   * @returns {Promise<{ dimensions: number, fingerprint: string }>}
   */
  async open(options = {}) {
    requireOptions('embedder.open', options);
    await this.#awaitService(options.signal);
    const { dimensions, fingerprint } = await this.#client.embed([''], {
      ...options,
      ...this.#space,
    });
    this.#dimensions = dimensions;
    this.#fingerprint = fingerprint;
    return { dimensions, fingerprint };
  }

  /**
   * Return a vector for one text, or vectors for several in one request.
   * @overload
   * @param {string} texts
   * @param {Call} [options]
   * @returns {Promise<Float32Array>}
   */
  /**
   * @overload
   * @param {readonly string[]} texts
   * @param {Call} [options]
   * @returns {Promise<Float32Array[]>}
   */
  /**
   * @param {string | readonly string[]} texts
   * @param {Call} [options]
   * @returns {Promise<Float32Array | Float32Array[]>}
   */
  async embed(texts, options = {}) {
    if (typeof texts === 'string') return this.embedSingle(texts, options);
    requireOptions('embedder.embed', options);
    await this.#awaitService(options.signal);
    return this.#kept(await this.#client.embed(texts, { ...options, ...this.#space }));
  }

  /**
   * Return the vector of a text.
   * @param {string} text
   * @param {Call} [options]
   * @returns {Promise<Float32Array>}
   */
  async embedSingle(text, options = {}) {
    requireOptions('embedder.embed', options);
    await this.#awaitService(options.signal);
    const [row] = this.#kept(await this.#client.embed([text], { ...options, ...this.#space }));
    return /** @type {Float32Array} */ (row);
  }

  /**
   * Return the vectors of any number of texts, in order, asked for 32 at a time.
   * @param {readonly string[]} texts
   * @param {Call & import('./client.js').BatchOptions} [options]
   * @returns {Promise<Float32Array[]>}
   */
  async embedBatch(texts, options = {}) {
    requireOptions('embedder.embedBatch', options);
    await this.#awaitService(options.signal);
    const batchSize = this.#batchSize;
    const asked = { batchSize, ...options, ...this.#space };
    return this.#kept(await this.#client.embedBatch(texts, asked));
  }

  /**
   * Embed a document in chunks as long as the model reads, unless told else.
   * @param {string | import('./files.js').FileBytes} document
   * @param {Omit<import('./files.js').FileOptions, Space>} [options]
   * @returns {AsyncGenerator<import('./files.js').FileEvent, void, void>}
   */
  async *embedFile(document, options = {}) {
    requireOptions('embedder.embedFile', options);
    await this.#awaitService(options.signal);
    const events = this.#client.embedFile(document, { ...options, ...this.#space });
    for await (const event of events) {
      if (event.type === 'start') this.#settle(event);
      yield event;
    }
  }

  /**
   * Say whether the index must be built anew, because its vectors are of another space than those
   * that are made now. An index without a fingerprint always must.
   * @param {string | null | undefined} storedFingerprint
   * @param {Cancel} [options]
   * @returns {Promise<boolean>}
   */
  async needsReindex(storedFingerprint, options = {}) {
    const present = await this.open(options);
    return decideReindex({ fingerprint: storedFingerprint }, present).needed;
  }

  /**
   * Wait for the service of `autoStart` to be ready for the first time; one that failed for good is
   * started once more.
   * @param {AbortSignal | undefined} signal
   */
  async #awaitService(signal) {
    if (this.#isClosed) throw new SidecarError('SIDECAR_STOPPED', 'the embedder is closed');
    if (this.#service) await unlessAborted(this.#service.startSidecar(), signal);
  }

  /** @param {import('./client.js').Embedded} found */
  #kept(found) {
    this.#settle(found);
    return found.vectors;
  }

  /** @param {{ fingerprint: string, dimensions: number }} found */
  #settle({ fingerprint, dimensions }) {
    this.#fingerprint ??= fingerprint;
    this.#dimensions ??= dimensions;
    if (fingerprint !== this.#fingerprint || dimensions !== this.#dimensions) {
      throw new SidecarError('SPACE_CHANGED', 'the vectors of the sidecar have another fingerprint now', {
        next: 'call needsReindex, and rebuild the index',
      });
    }
  }
}
