/** Talks to a sidecar: texts and documents in, vectors out. */

import http from 'node:http';

import { Deadline } from './clock.js';
import { SidecarError } from './errors.js';
import { exchange, objectOf, refusal, refused, requireType, stream } from './exchange.js';
import { eventsOf, fieldsOf } from './files.js';
import { requireOptions } from './known.js';
import { Pace } from './pace.js';
import { Parts } from './parts.js';
import { isBundleGone } from './replacement.js';
import { retrying } from './retry.js';
import { indicesOf, isDimensions, isFingerprint, requireDimensions, rowsOf } from './rows.js';
import { trace } from './trace.js';

const EMBED = '/embed';
const BINARY = 'application/octet-stream';
const JSON_TYPE = 'application/json';
const PASSWORD = 'x-document-password';
const LINES = 'application/x-ndjson';
// What the service says of itself is a thousandth of it.
const MOST_JSON = 1 << 20;
// No answer of rows is larger.
const MOST_BYTES = 2 ** 31 - 1;

/**
 * @typedef {object} ClientOptions
 * @property {string} [baseUrl] `http://127.0.0.1:8421`
 * @property {string} [host]
 * @property {number} [port] 8421
 * @property {string} [token] the bearer token, where the service wants one
 * @property {import('./service.js').PythonSidecarService} [service] follow this one, instead
 * @property {number} [timeout] milliseconds that one attempt may take, from the last answer to
 *   a request for vectors on, ten times that in all; of a document, the wait for each of its events,
 *   and ten times that where nothing but progress comes (30000)
 * @property {number} [retryAttempts] further attempts after a failure that may pass (2)
 * @property {number} [retryDelay] milliseconds before the first of them (1000), then twice as long
 * @property {(retry: import('./retry.js').Retry) => void} [onRetry] told before each of them
 */

/**
 * @typedef {object} EmbedOptions
 * @property {string} [model] a name of one of the models that the service has (its first)
 * @property {boolean} [normalize] vectors of length 1 (true)
 * @property {'mean' | 'cls' | 'max'} [pooling] (`mean`)
 * @property {string} [promptName] name of the model's prompt that is put before every text
 * @property {string} [prompt] the prompt itself, in place of a name
 * @property {'query' | 'document'} [inputType] in place of a name: the prompt for these
 * @property {number} [dimensions] length that vectors are cut to, of a model trained for it
 * @property {boolean} [truncate] false refuses texts longer than the model reads (true)
 * @property {'auto' | 'interactive' | 'bulk'} [priority] (`auto`)
 * @property {AbortSignal} [signal]
 */

/**
 * @typedef {object} BatchOptions
 * @property {number} [batchSize] texts in one request, at most (64)
 * @property {number} [batchBytes] bytes of text in one request, about, at most (1 MiB)
 * @property {number} [concurrency] requests under way at a time (2)
 * @property {(progress: { done: number, total: number }) => void} [onProgress] in texts
 */

/**
 * @typedef {object} Embedded
 * @property {Float32Array[]} vectors a row per text, in order
 * @property {number} dimensions
 * @property {string} fingerprint vectors with another one do not belong beside these
 * @property {number[]} truncated indices of the texts that the model did not read to their end
 * @property {number} truncatedCount how many they are; of very many only that is told
 * @property {number} tokens of all texts, before any cut; 0 of a service that does not tell
 */

/**
 * @typedef {Float32Array[] & Embedded} EmbeddedBatch
 * The vectors, with what else is told of them as fields.
 */

/**
 * @typedef {object} Health
 * @property {string} status `ok`, `loading`, `stopping`, `stuck` or `dead`
 * @property {string} phase
 * @property {string} instance
 * @property {string} version
 * @property {'present' | 'gone'} [bundle] whether the files that it runs from are still there
 * @property {string | null} [model]
 * @property {number | null} [dim]
 * @property {string | null} [device]
 * @property {string | null} [degraded] what serves in the place of what should, if so
 * @property {{ model: string, phase: string, failure: string | null }[]} [models] all that are
 *   served, the first first; `failure` is the kind of problem that its last load ended with
 */

/**
 * @typedef {object} Info
 * @property {string} model_id
 * @property {number} dim
 * @property {string} device
 * @property {string} version
 * @property {string} engine
 * @property {string} precision
 * @property {number} max_tokens
 * @property {string} fingerprint of requests that leave every option at its default
 * @property {Record<string, number>} limits
 * @property {{ number: number, is_there: boolean, path: string | null }[]} [folders] that files may
 *   be read from
 */

/** A client of one sidecar. Connections are kept and used again; `close` lets go of them. */
export class PythonSidecarClient {
  #agent = new http.Agent({ keepAlive: true, maxSockets: 32 });
  #pace = new Pace();
  #life = { at: -Infinity };
  #service;
  #place;
  #timeout;
  #retryAttempts;
  #retryDelay;
  #onRetry;

  /** @param {ClientOptions} [options] */
  constructor(options = {}) {
    requireOptions('PythonSidecarClient', options);
    this.#service = options.service;
    this.#place = placeOf(options);
    this.#timeout = options.timeout ?? 30_000;
    this.#retryAttempts = options.retryAttempts ?? 2;
    this.#retryDelay = options.retryDelay ?? 1000;
    this.#onRetry = options.onRetry;
  }

  /** Let go of the kept connections, and of none in use; the client can be used again. */
  close() {
    // The agent's own destroy would cut answers that are under way, which would be asked for again.
    for (const idle of Object.values(this.#agent.freeSockets)) {
      for (const socket of idle ?? []) socket.destroy();
    }
  }

  /**
   * Return what the service says of itself, whether it serves or still loads; never tried twice.
   * @param {{ signal?: AbortSignal }} [options]
   * @returns {Promise<Health>}
   */
  async health(options = {}) {
    requireOptions('health', options);
    const answer = await this.#send('GET', '/health', options.signal, {});
    if (answer.status !== 200 && answer.status !== 503) throw refusal(answer);
    const said = objectOf(answer.body);
    const { status, dim } = said;
    if (typeof status !== 'string' || !((dim ?? null) === null || isDimensions(dim))) {
      throw new SidecarError('PARSE_ERROR', 'the answer has no status');
    }
    return /** @type {Health} */ (/** @type {unknown} */ (said));
  }

  /**
   * Return whether the service is ready. Never rejects: one that cannot be asked is not.
   * @param {{ signal?: AbortSignal }} [options]
   * @returns {Promise<boolean>}
   */
  async checkHealth(options = {}) {
    try {
      return (await this.health(options)).status === 'ok';
    } catch {
      return false;
    }
  }

  /**
   * Return what is served: the model, its dimensions, the limits, the fingerprint.
   * @param {{ signal?: AbortSignal }} [options]
   * @returns {Promise<Info>}
   */
  async info(options = {}) {
    requireOptions('info', options);
    const answer = await this.#ask('GET', '/info', options.signal, {});
    const said = objectOf(answer.body);
    if (!isDimensions(said['dim']) || !isFingerprint(said['fingerprint'])) {
      throw new SidecarError('PARSE_ERROR', 'the answer does not describe the model');
    }
    return /** @type {Info} */ (/** @type {unknown} */ (said));
  }

  /**
   * Tell the service to answer what it has, and end. A PythonSidecarService would start it again.
   * @returns {Promise<void>}
   */
  async shutdown() {
    const answer = await this.#send('POST', '/shutdown', undefined, {});
    if (answer.status !== 200 && answer.status !== 202) throw refusal(answer);
  }

  /**
   * Embed texts: in one request, unless that would not be answered in time.
   * @param {string | readonly string[]} texts
   * @param {EmbedOptions} [options]
   * @returns {Promise<Embedded>}
   */
  async embed(texts, options = {}) {
    requireOptions('embed', options);
    const asked = typeof texts === 'string' ? [texts] : texts;
    const most = { batchSize: Infinity, batchBytes: Infinity, concurrency: 2 };
    return united(await this.#inParts(asked, { ...most, ...options }));
  }

  /**
   * Embed the texts of one request.
   * @param {import('./parts.js').Part} part
   * @param {EmbedOptions} options
   * @returns {Promise<Embedded>}
   */
  async #embedPart({ texts, bytes: size, first }, options) {
    const { signal, promptName, inputType, ...fields } = options;
    const asked = texts.map(wellFormed);
    const named = { prompt_name: promptName, input_type: inputType };
    const body = Buffer.from(JSON.stringify({ texts: asked, ...fields, ...named }));
    const payload = { accept: BINARY, contentType: JSON_TYPE, body };
    const cut = options.truncate === false ? 0 : asked.length;
    const most = { texts: asked.length, cut, dimensions: options.dimensions };
    // Judged before the rows are read: they may be no more than those of the texts.
    const asking = this.#ask('POST', EMBED, signal, payload, (head) => {
      const { count, dimensions } = tableOf(head, most);
      return count * dimensions * 4;
    });
    const { body: bytes, headers, ms } = await asking.catch((error) => {
      throw located(error, first);
    });
    const { count, dimensions, fingerprint, cut: found, tokens } = tableOf(headers, most);
    this.#life.at = performance.now();
    this.#pace.saw({ bytes: size, tokens, ms });
    return {
      vectors: rowsOf(bytes, count, dimensions),
      dimensions,
      fingerprint,
      truncated: found.indices,
      truncatedCount: found.count,
      tokens,
    };
  }

  /**
   * Embed any number of texts, in requests of a size that is answered in time.
   *
   * A request that fails for good ends the others. Rejects with SPACE_CHANGED if the answers are
   * of several vector spaces, because another model was started meanwhile.
   * @param {readonly string[]} texts
   * @param {boolean | (EmbedOptions & BatchOptions)} [options] a boolean is `normalize`
   * @returns {Promise<EmbeddedBatch>}
   */
  async embedBatch(texts, options = {}) {
    const given = typeof options === 'boolean' ? { normalize: options } : options;
    requireOptions('embedBatch', given);
    const answer = united(await this.#inParts(texts, given));
    return Object.assign([...answer.vectors], answer);
  }

  /**
   * Embed texts in requests that are answered in time, as far as is known.
   * @param {readonly string[]} texts
   * @param {EmbedOptions & BatchOptions} options
   * @returns {Promise<Answer[]>}
   */
  async #inParts(texts, options) {
    const { batchSize = 64, batchBytes = 1 << 20, concurrency = 2, onProgress, ...rest } = options;
    const { signal, ...fields } = rest;
    if (!Array.isArray(texts)) {
      throw new SidecarError('USAGE_ERROR', 'the texts are no array', {
        next: 'pass an array of texts, or one text to embed',
      });
    }
    const parts = new Parts(texts);
    const take = () => {
      const bytes = Math.min(batchBytes, this.#pace.bytesIn(this.#timeout));
      return parts.take({ count: batchSize, bytes });
    };
    const whole = take();
    if (whole && whole.texts.length === texts.length) {
      const answer = await this.#embedPart(whole, rest);
      onProgress?.({ done: texts.length, total: texts.length });
      return [{ ...answer, first: 0 }];
    }
    fields.priority ??= 'bulk';
    const workers = Math.max(1, Math.min(concurrency, texts.length));
    // One for each: Node takes many listeners to one signal for a leak, and warns of it.
    const working = Array.from({ length: workers }, () => new AbortController());
    const end = (/** @type {unknown} */ reason) => working.forEach((one) => one.abort(reason));
    const abort = () => end(signal?.reason);
    if (signal?.aborted) abort();
    signal?.addEventListener('abort', abort, { once: true });
    /** @type {Answer[]} */
    const answers = [];
    let done = 0;
    /**
     * @param {import('./parts.js').Part | undefined} begun
     * @param {AbortSignal} ending
     */
    const work = async (begun, ending) => {
      for (let part = begun; part; part = take()) {
        const answer = await this.#embedPart(part, { ...fields, signal: ending });
        answers.push({ ...answer, first: part.first });
        done += part.texts.length;
        onProgress?.({ done, total: texts.length });
      }
    };
    try {
      await Promise.all(
        working.map(({ signal: ending }, n) => work(n === 0 ? whole : take(), ending)),
      );
    } catch (error) {
      end(error);
      throw error;
    } finally {
      signal?.removeEventListener('abort', abort);
    }
    return answers.sort((one, two) => one.first - two.first);
  }

  /**
   * Embed a document chunk by chunk: one in an allowed folder by its absolute path, or bytes that
   * the app read itself. Leaving the loop, or aborting the signal, ends the work in the service.
   * @param {string | import('./files.js').FileBytes} document
   * @param {import('./files.js').FileOptions} [options]
   * @returns {AsyncGenerator<import('./files.js').FileEvent, void, void>}
   */
  async *embedFile(document, options = {}) {
    requireOptions('embedFile', options);
    const fields = fieldsOf(options);
    const { password } = options;
    const isPath = typeof document === 'string';
    const query = Object.entries(fields).map((pair) => pair.map(encodeURIComponent).join('=')).join('&');
    const path = isPath ? '/embed-file' : `/embed-file/upload?${query}`;
    const payload = {
      accept: LINES,
      contentType: isPath ? JSON_TYPE : document.contentType,
      body: isPath
        ? Buffer.from(JSON.stringify({ path: document, ...fields, password }))
        : Buffer.from(document.bytes.buffer, document.bytes.byteOffset, document.bytes.byteLength),
      // Never in the query, which is kept on the way.
      headers: isPath || password === undefined ? {} : { [PASSWORD]: base64(password) },
    };
    const { signal } = options;
    const answer = await this.#retry(signal, async () => {
      const begun = await stream(this.#agent, await this.#asked('POST', path, signal, payload));
      if (begun.status !== 200) throw refusal(await refused(begun));
      try {
        requireType(begun.headers, LINES);
      } catch (error) {
        begun.close();
        throw error;
      }
      return begun;
    });
    try {
      yield* eventsOf(answer, options);
    } catch (error) {
      this.#notice(error);
      throw error;
    } finally {
      answer.close();
    }
  }

  /**
   * Send a request, again where a failure may pass, and return an answer that is none.
   * @param {string} method
   * @param {string} path
   * @param {AbortSignal | undefined} signal
   * @param {Payload} payload
   * @param {(headers: http.IncomingHttpHeaders) => number} [room]
   */
  #ask(method, path, signal, payload, room) {
    return this.#retry(signal, async () => {
      const answer = await this.#send(method, path, signal, payload, room);
      if (answer.status !== 200) throw refusal(answer);
      return answer;
    });
  }

  /**
   * @template T
   * @param {AbortSignal | undefined} signal
   * @param {() => Promise<T>} attempt
   * @returns {Promise<T>}
   */
  #retry(signal, attempt) {
    const tell = (/** @type {import('./retry.js').Retry} */ retry) => {
      const { code, what } = retry.error;
      const { attempt, waitMs } = retry;
      trace('SIDECAR-CLIENT', 'retry', { attempt, waitMs: Math.round(waitMs), code, what });
      this.#onRetry?.(retry);
    };
    const policy = { attempts: this.#retryAttempts, delayMs: this.#retryDelay, signal, tell };
    const noticed = () =>
      attempt().catch((/** @type {unknown} */ error) => {
        this.#notice(error);
        throw error;
      });
    return retrying(noticed, policy);
  }

  /**
   * Tell the service that is followed what only a restart helps against.
   * @param {unknown} error
   */
  #notice(error) {
    if (isBundleGone(error)) this.#service?.noticeGone();
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {AbortSignal | undefined} signal
   * @param {Payload} payload
   * @param {(headers: http.IncomingHttpHeaders) => number} [room]
   */
  async #send(method, path, signal, payload, room = roomOfJson) {
    return exchange(this.#agent, await this.#asked(method, path, signal, payload), room);
  }

  /**
   * @typedef {object} Payload
   * @property {string} [accept]
   * @property {string} [contentType]
   * @property {Buffer} [body]
   * @property {Record<string, string>} [headers] beside those that every request has
   */

  /**
   * @param {string} method
   * @param {string} path
   * @param {AbortSignal | undefined} signal
   * @param {Payload} payload
   * @returns {Promise<import('./exchange.js').Asked>}
   */
  async #asked(method, path, signal, { accept = JSON_TYPE, contentType, body, headers }) {
    const { host, port, token, prefix } = this.#service ? await this.#proven(signal) : this.#place;
    return {
      method,
      host,
      port,
      path: `${prefix}${path}`,
      headers: {
        accept,
        'content-length': body?.length ?? 0,
        ...(contentType ? { 'content-type': contentType } : {}),
        ...(token ? { authorization: `Bearer ${token}` } : {}),
        ...headers,
      },
      body,
      signal,
      timeoutMs: this.#timeout,
      life: path === EMBED ? this.#life : undefined,
    };
  }

  /**
   * Return where the service listens, once it has proven who it is.
   * @param {AbortSignal | undefined} signal
   * @returns {Promise<Place>}
   */
  async #proven(signal) {
    signal?.throwIfAborted();
    const late = new AbortController();
    const deadline = new Deadline(this.#timeout, () => {
      const message = `the sidecar was not ready within ${this.#timeout} ms`;
      const next = 'wait for the event ready, or raise timeout';
      late.abort(new SidecarError('TIMEOUT', message, { next }));
    });
    const abort = () => late.abort(signal?.reason);
    signal?.addEventListener('abort', abort, { once: true });
    try {
      const found = /** @type {import('./options.js').Endpoint} */ (
        await this.#service?.endpoint(late.signal)
      );
      return { ...found, prefix: '' };
    } finally {
      deadline.stop();
      signal?.removeEventListener('abort', abort);
    }
  }
}

/**
 * @typedef {object} Place
 * @property {string} host
 * @property {number} port
 * @property {string | undefined} [token]
 * @property {string} prefix of every path
 */

/**
 * @param {ClientOptions} options
 * @returns {Place}
 */
function placeOf({ baseUrl, host = '127.0.0.1', port = 8421, token }) {
  if (baseUrl === undefined) return { host, port, token, prefix: '' };
  const url = addressOf(baseUrl);
  if (url?.protocol !== 'http:') {
    throw new SidecarError('USAGE_ERROR', 'the baseUrl is no address of http', {
      next: 'pass one like http://127.0.0.1:8421, or only the port',
    });
  }
  return {
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port: Number(url.port || 80),
    token,
    prefix: url.pathname.replace(/\/+$/, ''),
  };
}

/** @param {string} text */
function addressOf(text) {
  try {
    return new URL(text);
  } catch {
    return undefined;
  }
}

/** @param {string} text */
function base64(text) {
  return Buffer.from(text, 'utf8').toString('base64');
}

const HALVES = /\p{Surrogate}/gu;

/**
 * Return `text` with U+FFFD for half a surrogate pair, which text cut by its length may end with:
 * it is no character, and one of it would cost the whole request.
 * @param {string} text
 * @returns {string}
 */
function wellFormed(text) {
  if (typeof text !== 'string') return text; // which the service refuses
  const own = /** @type {{ toWellFormed?: () => string }} */ (/** @type {unknown} */ (text));
  return own.toWellFormed?.() ?? text.replace(HALVES, '\ufffd');
}

/**
 * Return the error of a request with the index that its text has among all of the call.
 * @param {unknown} error
 * @param {number} first the index of the request's first text
 */
function located(error, first) {
  const index = /^texts\.(\d+)/.exec((error instanceof SidecarError && error.problem?.detail) || '');
  if (error instanceof SidecarError && index) error.textIndex = first + Number(index[1]);
  return error;
}

/** @param {http.IncomingHttpHeaders} headers */
function roomOfJson(headers) {
  requireType(headers, JSON_TYPE);
  return MOST_JSON;
}

/**
 * Return what the headers say of the rows. Throws SidecarError if that is not what was asked for.
 * @param {http.IncomingHttpHeaders} headers
 * @param {{ texts: number, cut: number, dimensions: number | undefined }} most
 */
function tableOf(headers, most) {
  requireType(headers, BINARY);
  const count = numberOf(headers['x-sidecar-count']);
  const dimensions = numberOf(headers['x-sidecar-dim']);
  const fingerprint = headers['x-sidecar-fingerprint'];
  if (count !== most.texts) {
    throw new SidecarError('PARSE_ERROR', `${count} rows came for ${most.texts} texts`);
  }
  const isKept = isDimensions(dimensions) && count * dimensions * 4 <= MOST_BYTES;
  if (!isKept || !isFingerprint(fingerprint)) {
    throw new SidecarError('PARSE_ERROR', 'the answer has no fingerprint');
  }
  requireDimensions(dimensions, most.dimensions);
  const tokens = numberOf(headers['x-sidecar-tokens'] ?? '0', 'tokens');
  const cut = indicesOf(String(headers['x-sidecar-truncated'] ?? ''));
  const isDouble = new Set(cut.indices).size !== cut.indices.length;
  if (cut.count > most.cut || isDouble || cut.indices.some((index) => index >= count)) {
    throw new SidecarError('PARSE_ERROR', 'the list of cut texts has indices that were not sent');
  }
  return { count, dimensions, fingerprint, cut, tokens };
}

/**
 * @param {unknown} header
 * @param {string} [what]
 */
function numberOf(header, what = 'rows') {
  if (typeof header !== 'string' || !/^\d+$/.test(header)) {
    throw new SidecarError('PARSE_ERROR', `the answer has no number of ${what}`);
  }
  return Number(header);
}

/** @typedef {Embedded & { first: number }} Answer */

/**
 * Return the answers about a call's texts as one. Throws SidecarError where they are of several
 * vector spaces.
 * @param {Answer[]} answers
 * @returns {Embedded}
 */
function united(answers) {
  const [{ dimensions, fingerprint } = { dimensions: 0, fingerprint: '' }] = answers;
  const isOther = (/** @type {Embedded} */ answer) =>
    answer.fingerprint !== fingerprint || answer.dimensions !== dimensions;
  if (answers.some(isOther)) {
    throw new SidecarError('SPACE_CHANGED', 'the sidecar changed its model during the call', {
      next: 'embed everything again with the current model',
    });
  }
  return {
    vectors: answers.flatMap((answer) => answer.vectors),
    dimensions,
    fingerprint,
    truncated: answers.flatMap(({ first, truncated }) => truncated.map((at) => first + at)),
    truncatedCount: answers.reduce((sum, answer) => sum + answer.truncatedCount, 0),
    tokens: answers.reduce((sum, answer) => sum + answer.tokens, 0),
  };
}
