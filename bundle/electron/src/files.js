/** What the service tells about a document, line by line. */

import { SidecarError } from './errors.js';
import { isRecord } from './json.js';
import { Lines } from './lines.js';

// The vectors of a whole part of a document stand in one line.
const LONGEST_LINE = 64 * (1 << 20);

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
 * @typedef {{ type: 'start', pages: number | null, chunks: number, complete: boolean, model: string,
 *   dimensions: number, fingerprint: string }} FileStart
 * @typedef {{ type: 'progress', data: Record<string, unknown> }} FileProgress
 * @typedef {{ type: 'chunks', first: number, chunks: string[], spans: Span[],
 *   vectors: Float32Array[], done: number, total: number }} FileChunks
 * @typedef {{ type: 'end', data: Record<string, unknown> }} FileEnd
 * @typedef {FileStart | FileProgress | FileChunks | FileEnd} FileEvent
 */

/**
 * @typedef {object} FileOptions
 * @property {number} [chunkSize] the most that the model reads, if chunks are counted in tokens
 * @property {number} [chunkOverlap] an eighth of the size, if left out
 * @property {number} [maxChunks] (200)
 * @property {'chars' | 'tokens'} [unit] what chunks are counted in (`tokens` of the model)
 * @property {boolean} [normalize] vectors of length 1 (true)
 * @property {'mean' | 'cls' | 'max'} [pooling] (`mean`)
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
    normalize: options.normalize,
    pooling: options.pooling,
  };
  const given = Object.entries(fields).filter(([, value]) => value !== undefined);
  return /** @type {Record<string, string | number | boolean>} */ (Object.fromEntries(given));
}

/**
 * Yield the events in a stream of NDJSON; of types that it does not know, none.
 *
 * Throws SidecarError: HTTP_ERROR for a problem on the way, PARSE_ERROR for what is not ours,
 * NETWORK_ERROR where the stream ends before its end.
 * @param {AsyncIterable<Buffer>} parts
 * @returns {AsyncGenerator<FileEvent, void, void>}
 */
export async function* eventsOf(parts) {
  const lines = new Lines(LONGEST_LINE);
  for await (const part of parts) {
    for (const line of lines.push(part)) {
      if (line === '') continue;
      const event = eventOf(line);
      if (event) yield event;
      if (event?.type === 'end') return;
    }
  }
  throw new SidecarError('NETWORK_ERROR', 'the answer about the document was cut');
}

/**
 * @param {string} line
 * @returns {FileEvent | undefined}
 */
function eventOf(line) {
  /** @type {unknown} */
  let value;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new SidecarError('PARSE_ERROR', 'a line about the document is not JSON', { cause });
  }
  const data = isRecord(value) ? value['data'] : undefined;
  if (!isRecord(value) || !isRecord(data)) {
    throw new SidecarError('PARSE_ERROR', 'a line about the document is no event');
  }
  switch (value['type']) {
    case 'start': {
      const { dim, ...rest } = data;
      return /** @type {FileStart} */ ({ type: 'start', ...rest, dimensions: dim });
    }
    case 'chunks': {
      const { vectors } = data;
      if (!Array.isArray(vectors)) throw new SidecarError('PARSE_ERROR', 'chunks came bare');
      const rows = vectors.map((row) => Float32Array.from(row));
      return /** @type {FileChunks} */ ({ type: 'chunks', ...data, vectors: rows });
    }
    case 'problem':
      throw failed(data);
    case 'progress':
    case 'end':
      return { type: value['type'], data };
    default:
      return undefined;
  }
}

/** @param {import('./errors.js').Problem} problem */
function failed(problem) {
  const message = `the document could not be embedded: ${problem.detail ?? 'no reason was given'}`;
  return new SidecarError('HTTP_ERROR', message, {
    problem,
    ...(typeof problem.status === 'number' ? { status: problem.status } : {}),
  });
}
