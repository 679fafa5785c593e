/** Vectors for an index: one model, one space, and word of when that space changes. */
import { PythonSidecarClient } from './client.js';
import { PythonSidecarService } from './service.js';
export type EmbedderOptions = {
    /**
     * one on the default port, if left out
     */
    client?: PythonSidecarClient;
    /**
     * start a service for this embedder alone, and wait for it (false)
     */
    autoStart?: boolean;
    /**
     * of that service
     */
    service?: import('./options.js').ServiceOptions;
    /**
     * texts in one request (32)
     */
    batchSize?: number;
    /**
     * a name of one of the models that the service has (its first)
     */
    model?: string;
    /**
     * vectors of length 1 (true)
     */
    normalize?: boolean;
    /**
     * (`mean`)
     */
    pooling?: 'mean' | 'cls' | 'max';
    /**
     * name of the model's prompt that is put before every text
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
};
export type Cancel = {
    signal?: AbortSignal;
};
export type Space = 'model' | 'normalize' | 'pooling' | 'promptName' | 'prompt' | 'inputType' | 'dimensions';
export type Call = Omit<import('./client.js').EmbedOptions, Space>;
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
export declare class PythonSidecarEmbedder {
    #private;
    /** @param {EmbedderOptions} [options] */
    constructor(options?: EmbedderOptions);
    /**
     * The service that `autoStart` started, with its status and events.
     * @returns {PythonSidecarService | undefined}
     */
    get service(): PythonSidecarService | undefined;
    /**
     * Stop the service that `autoStart` started; without a word it ends with Node.
     * @returns {Promise<void>}
     */
    close(): Promise<void>;
    /** How long vectors are; undefined before `open` or the first answer. */
    get dimensions(): number | undefined;
    /** Names the vector space; undefined before `open` or the first answer. */
    get fingerprint(): string | undefined;
    /**
     * Learn the space that is served now, and return it.
     * @param {Cancel} [options]
     * @returns {Promise<{ dimensions: number, fingerprint: string }>}
     */
    open(options?: Cancel): Promise<{
        dimensions: number;
        fingerprint: string;
    }>;
    embed(texts: string, options?: Call): Promise<Float32Array>;
    embed(texts: readonly string[], options?: Call): Promise<Float32Array[]>;
    /**
     * Return the vector of a text.
     * @param {string} text
     * @param {Call} [options]
     * @returns {Promise<Float32Array>}
     */
    embedSingle(text: string, options?: Call): Promise<Float32Array>;
    /**
     * Return the vectors of any number of texts, in order, asked for 32 at a time.
     * @param {readonly string[]} texts
     * @param {Call & import('./client.js').BatchOptions} [options]
     * @returns {Promise<Float32Array[]>}
     */
    embedBatch(texts: readonly string[], options?: Call & import('./client.js').BatchOptions): Promise<Float32Array[]>;
    /**
     * Embed a document in chunks as long as the model reads, unless told else.
     * @param {string | import('./files.js').FileBytes} document
     * @param {Omit<import('./files.js').FileOptions, Space>} [options]
     * @returns {AsyncGenerator<import('./files.js').FileEvent, void, void>}
     */
    embedFile(document: string | import('./files.js').FileBytes, options?: Omit<import('./files.js').FileOptions, Space>): AsyncGenerator<import('./files.js').FileEvent, void, void>;
    /**
     * Say whether the index must be built anew, because its vectors are of another space than those
     * that are made now. An index without a fingerprint always must.
     * @param {string | null | undefined} storedFingerprint
     * @param {Cancel} [options]
     * @returns {Promise<boolean>}
     */
    needsReindex(storedFingerprint: string | null | undefined, options?: Cancel): Promise<boolean>;
}
