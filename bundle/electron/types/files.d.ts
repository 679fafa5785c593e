/** What the service tells about a document, line by line. */
export type Span = {
    page: number | null;
    start: number;
    end: number;
    tokens: number;
    truncated: boolean;
};
export type Tally = {
    kind: string;
    count: number;
    pages?: number[];
    /**
     * of unknown tokens among all
     */
    share?: number;
};
export type FileStart = {
    type: 'start';
    pages: number | null;
    chunks: number;
    complete: boolean;
    losses: Tally[];
    notes: Tally[];
    encoding: string | null;
    encodingConfidence: number | null;
    reader: number | null;
    model: string;
    dimensions: number;
    fingerprint: string;
};
export type FileProgress = {
    type: 'progress';
    data: Record<string, unknown>;
};
export type FileChunks = {
    type: 'chunks';
    first: number;
    chunks: string[];
    spans: Span[];
    vectors: Float32Array[];
    done: number;
    total: number;
};
export type FileEnd = {
    type: 'end';
    data: Record<string, unknown>;
};
export type FileEvent = FileStart | FileProgress | FileChunks | FileEnd;
export type FileOptions = {
    /**
     * a name of one of the models that the service has (its first)
     */
    model?: string;
    /**
     * the most that the model reads, if chunks are counted in tokens
     */
    chunkSize?: number;
    /**
     * an eighth of the size, if left out
     */
    chunkOverlap?: number;
    /**
     * (200)
     */
    maxChunks?: number;
    /**
     * what chunks are counted in (`tokens` of the model)
     */
    unit?: 'chars' | 'tokens';
    /**
     * vectors of length 1 (true)
     */
    normalize?: boolean;
    /**
     * (`mean`)
     */
    pooling?: 'mean' | 'cls' | 'max';
    /**
     * name of the model's prompt that is put before every chunk
     */
    promptName?: string;
    /**
     * the prompt itself, in place of a name
     */
    prompt?: string;
    /**
     * in place of a name: the prompt for these
     */
    inputType?: 'query' | 'document';
    /**
     * length that vectors are cut to, of a model trained for it
     */
    dimensions?: number;
    /**
     * what a text file is encoded in, which is else UTF-8 or detected
     */
    charset?: string;
    /**
     * what opens a PDF that is encrypted
     */
    password?: string;
    signal?: AbortSignal;
};
export type FileBytes = {
    /**
     * a document that the app read itself
     */
    bytes: Uint8Array;
    contentType: 'application/pdf' | 'text/plain' | 'text/markdown';
};
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
export declare function fieldsOf(options: FileOptions): Record<string, string | number | boolean>;
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
export declare function eventsOf({ parts, pace }: {
    parts: AsyncIterable<Buffer>;
    pace: import('./exchange.js').Pace;
}, asked?: {
    maxChunks?: number;
    dimensions?: number;
}): AsyncGenerator<FileEvent, void, void>;
