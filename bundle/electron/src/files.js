/** What the service tells about a document, line by line. */

import { problemOf, SidecarError } from './errors.js';
import { isRecord } from './json.js';
import { Lines, strictDecoder } from './lines.js';
import { isDimensions, isFingerprint, isIndex, requireDimensions, requireFinite } from './rows.js';

// The vectors of a whole part of a document stand in one line.
const LONGEST_LINE = 64 * (1 << 20);
// The service makes no more of a document.
const MOST_CHUNKS = 65_536;
// One a second comes from the service while it reads.
const MOST_PROGRESS = 10_000;

/**
 * @typedef {object} Span
 * Where a chunk came from: characters of the document's text, and its page in a PDF.
 * @property {number | null} page
 * @property {number} start
 * @property {number} end
 * @property {number} tokens
 * @property {boolean} truncated
 */

/**
 * @typedef {object} Tally
 * How often something of a kind happened, and on which pages, from 1, in a PDF. docs/files.md
 * lists the kinds.
 * @property {string} kind
 * @property {number} count
 * @property {number[]} [pages]
 * @property {number} [share] of unknown tokens among all
 */

/**
 * @typedef {{ type: 'start', pages: number | null, chunks: number, complete: boolean,
 *   losses: Tally[], notes: Tally[], encoding: string | null, encodingConfidence: number | null,
 *   reader: number | null, model: string, dimensions: number, fingerprint: string }} FileStart
 * @typedef {{ type: 'progress', data: Record<string, unknown> }} FileProgress
 * @typedef {{ type: 'chunks', first: number, chunks: string[], spans: Span[],
 *   vectors: Float32Array[], done: number, total: number }} FileChunks
 * @typedef {{ type: 'end', data: Record<string, unknown> }} FileEnd
 * @typedef {FileStart | FileProgress | FileChunks | FileEnd} FileEvent
 */

/**
 * @typedef {object} FileOptions
 * @property {string} [model] a name of one of the models that the service has (its first)
 * @property {number} [chunkSize] the most that the model reads, if chunks are counted in tokens
 * @property {number} [chunkOverlap] an eighth of the size, if left out
 * @property {number} [maxChunks] (200)
 * @property {'chars' | 'tokens'} [unit] what chunks are counted in (`tokens` of the model)
 * @property {boolean} [normalize] vectors of length 1 (true)
 * @property {'mean' | 'cls' | 'max'} [pooling] (`mean`)
 * @property {string} [promptName] name of the model's prompt that is put before every chunk
 * @property {string} [prompt] the prompt itself, in place of a name
 * @property {'query' | 'document'} [inputType] in place of a name: the prompt for these
 * @property {number} [dimensions] length that vectors are cut to, of a model trained for it
 * @property {string} [charset] what a text file is encoded in, which is else UTF-8 or detected
 * @property {string} [password] what opens a PDF that is encrypted
 * @property {AbortSignal} [signal]
 */

/**
 * @typedef {object} FileBytes
 * @property {Uint8Array} bytes a document that the app read itself
 * @property {'application/pdf' | 'text/plain' | 'text/markdown'} contentType
 */

/**
 * Return the options as the service names them. Chunks are counted in tokens, unless told else:
 * 800 characters are more than most models read.
 * @param {FileOptions} options
 * @returns {Record<string, string | number | boolean>}
 */
export function fieldsOf(options) {
  const fields = {
    unit: options.unit ?? 'tokens',
    chunk_size: options.chunkSize,
    chunk_overlap: options.chunkOverlap,
    max_chunks: options.maxChunks,
    model: options.model,
    normalize: options.normalize,
    pooling: options.pooling,
    charset: options.charset,
    prompt_name: options.promptName,
    prompt: options.prompt,
    input_type: options.inputType,
    dimensions: options.dimensions,
  };
  const given = Object.entries(fields).filter(([, value]) => value !== undefined);
  return /** @type {Record<string, string | number | boolean>} */ (Object.fromEntries(given));
}

/**
 * Yield the events in a stream of NDJSON; of types that it does not know, none.
 *
 * Throws SidecarError: HTTP_ERROR for a problem on the way, PARSE_ERROR for what is not ours or
 * contradicts what was asked or told, TIMEOUT where an event does not come in time, NETWORK_ERROR
 * where the stream ends before its end.
 * @param {{ parts: AsyncIterable<Buffer>, pace: import('./exchange.js').Pace }} stream
 * @param {{ maxChunks?: number, dimensions?: number }} [asked] what was asked for
 * @returns {AsyncGenerator<FileEvent, void, void>}
 */
export async function* eventsOf({ parts, pace }, asked = {}) {
  const lines = new Lines(LONGEST_LINE, strictDecoder());
  const document = new Document(asked);
  for await (const part of parts) {
    const found = linesOf(lines, part);
    if (lines.dropped > 0) throw unreadable('a line about the document is too long');
    for (const line of found) {
      const event = line === '' ? undefined : document.read(line);
      if (!event) continue;
      // Who takes long to use an event does not run against the service's time.
      pace.pause();
      yield event;
      if (event.type === 'end') return;
      pace.resume(event.type !== 'progress');
    }
  }
  throw new SidecarError('NETWORK_ERROR', 'the answer about the document was cut');
}

/**
 * @param {Lines} lines
 * @param {Buffer} part
 * @returns {string[]}
 */
function linesOf(lines, part) {
  try {
    return lines.push(part);
  } catch (cause) {
    // Replaced letters would be found neither in the document nor by a search.
    throw new SidecarError('PARSE_ERROR', 'a line about the document is not UTF-8', { cause });
  }
}

/** A document as it is told: each line must fit what was asked, and the lines before it. */
class Document {
  #maxChunks;
  #dimensions;
  /** @type {FileStart | undefined} */
  #start;
  #done = 0;
  #progress = 0;

  /** @param {{ maxChunks?: number, dimensions?: number }} asked */
  constructor({ maxChunks = MOST_CHUNKS, dimensions }) {
    this.#maxChunks = maxChunks;
    this.#dimensions = dimensions;
  }

  /**
   * Return the event on a line, or undefined if its type is not known.
   * @param {string} line
   * @returns {FileEvent | undefined}
   */
  read(line) {
    const { type, data } = typedOf(line);
    switch (type) {
      case 'start':
        return this.#begin(data);
      case 'chunks':
        return this.#go(data);
      case 'problem':
        throw failed(problemOf(data));
      case 'progress':
        this.#progress += 1;
        if (this.#progress > MOST_PROGRESS) throw unreadable('nothing but progress comes');
        return { type, data };
      case 'end':
        if (this.#start?.chunks !== this.#done) throw unreadable('chunks are missing at the end');
        return { type, data };
      default:
        return undefined;
    }
  }

  /** @param {Record<string, unknown>} data */
  #begin({ dim, losses = [], notes = [], encoding = null, reader = null, ...told }) {
    const { encoding_confidence: encodingConfidence = null, ...rest } = told;
    const { pages, chunks, complete, model, fingerprint } = rest;
    const isWhole =
      (pages === null || isIndex(pages)) &&
      isIndex(chunks) &&
      chunks <= this.#maxChunks &&
      typeof complete === 'boolean' &&
      isTallies(losses) &&
      isTallies(notes) &&
      !(complete && losses.length > 0) &&
      (encoding === null || typeof encoding === 'string') &&
      (reader === null || isIndex(reader)) &&
      (encodingConfidence === null || typeof encodingConfidence === 'number') &&
      typeof model === 'string' &&
      isDimensions(dim) &&
      isFingerprint(fingerprint);
    if (this.#start || !isWhole) throw unreadable('the document does not begin as one does');
    requireDimensions(dim, this.#dimensions);
    this.#start = /** @type {FileStart} */ ({
      ...{ ...rest, losses, notes, encoding, encodingConfidence, reader },
      ...{ dimensions: dim, type: 'start' },
    });
    return this.#start;
  }

  /** @param {Record<string, unknown>} data */
  #go(data) {
    const { first, chunks, spans, vectors, done, total } = data;
    const start = this.#start;
    if (!start || !isFull(chunks) || !isFull(spans) || !isFull(vectors)) {
      throw unreadable('chunks came bare');
    }
    const isWhole =
      spans.length === chunks.length &&
      vectors.length === chunks.length &&
      first === this.#done &&
      done === first + chunks.length &&
      done <= start.chunks &&
      total === start.chunks;
    if (!isWhole) throw unreadable('chunks of the document are missing, or too many');
    if (!chunks.every((chunk) => typeof chunk === 'string') || !spans.every(isSpan)) {
      throw unreadable('chunks came without their texts or places');
    }
    const rows = vectors.map((row) => rowOf(row, start.dimensions));
    this.#done = done;
    this.#progress = 0;
    return /** @type {FileChunks} */ ({ ...data, vectors: rows, type: 'chunks' });
  }
}

/**
 * @param {string} line
 * @returns {{ type: unknown, data: Record<string, unknown> }}
 */
function typedOf(line) {
  /** @type {unknown} */
  let value;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new SidecarError('PARSE_ERROR', 'a line about the document is not JSON', { cause });
  }
  if (!isRecord(value) || !isRecord(value['data'])) {
    throw unreadable('a line about the document is no event');
  }
  return { type: value['type'], data: value['data'] };
}

/**
 * @param {unknown} value
 * @returns {value is [unknown, ...unknown[]]}
 */
function isFull(value) {
  return Array.isArray(value) && value.length > 0;
}

/**
 * @param {unknown} value
 * @returns {value is Tally[]}
 */
function isTallies(value) {
  return (
    Array.isArray(value) &&
    value.every(
      (entry) =>
        isRecord(entry) &&
        typeof entry['kind'] === 'string' &&
        isIndex(entry['count']) &&
        (entry['pages'] === undefined ||
          (Array.isArray(entry['pages']) && entry['pages'].every(isIndex))),
    )
  );
}

/** @param {unknown} value */
function isSpan(value) {
  if (!isRecord(value)) return false;
  const { page, start, end, tokens, truncated } = value;
  const isPlaced = isIndex(start) && isIndex(end) && start <= end;
  return (
    isPlaced && (page === null || isIndex(page)) && isIndex(tokens) && typeof truncated === 'boolean'
  );
}

/**
 * @param {unknown} values
 * @param {number} dimensions
 * @returns {Float32Array}
 */
function rowOf(values, dimensions) {
  const isRow = Array.isArray(values) && values.length === dimensions;
  if (!isRow || !values.every((value) => typeof value === 'number')) {
    throw unreadable(`a vector is no row of ${dimensions} floats`);
  }
  const row = Float32Array.from(values);
  requireFinite(row);
  return row;
}

/** @param {string} message */
function unreadable(message) {
  return new SidecarError('PARSE_ERROR', message);
}

/** @param {import('./errors.js').Problem} problem */
function failed(problem) {
  const message = `the document could not be embedded: ${problem.detail ?? 'no reason was given'}`;
  return new SidecarError('HTTP_ERROR', message, {
    problem,
    ...(problem.status === undefined ? {} : { status: problem.status }),
  });
}
