/** Talks to a sidecar: texts and documents in, vectors out. */
export type Payload = {
    accept?: string;
    contentType?: string;
    body?: Buffer;
    /**
     * beside those that every request has
     */
    headers?: Record<string, string>;
};
export type ClientOptions = {
    /**
     * `http://127.0.0.1:8421`
     */
    baseUrl?: string;
    host?: string;
    /**
     * 8421
     */
    port?: number;
    /**
     * the bearer token, where the service wants one
     */
    token?: string;
    /**
     * follow this one, instead
     */
    service?: import('./service.js').PythonSidecarService;
    /**
     * milliseconds that one attempt may take, from the last answer to
     * a request for vectors on, ten times that in all; of a document, the wait for each of its events,
     * and ten times that where nothing but progress comes (30000)
     */
    timeout?: number;
    /**
     * further attempts after a failure that may pass (2)
     */
    retryAttempts?: number;
    /**
     * milliseconds before the first of them (1000), then twice as long
     */
    retryDelay?: number;
    /**
     * told before each of them
     */
    onRetry?: (retry: import('./retry.js').Retry) => void;
};
export type EmbedOptions = {
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
    /**
     * false refuses texts longer than the model reads (true)
     */
    truncate?: boolean;
    /**
     * (`auto`)
     */
    priority?: 'auto' | 'interactive' | 'bulk';
    signal?: AbortSignal;
};
export type BatchOptions = {
    /**
     * texts in one request, at most (64)
     */
    batchSize?: number;
    /**
     * bytes of text in one request, about, at most (1 MiB)
     */
    batchBytes?: number;
    /**
     * requests under way at a time (2)
     */
    concurrency?: number;
    /**
     * in texts
     */
    onProgress?: (progress: {
        done: number;
        total: number;
    }) => void;
};
export type Embedded = {
    /**
     * a row per text, in order
     */
    vectors: Float32Array[];
    dimensions: number;
    /**
     * vectors with another one do not belong beside these
     */
    fingerprint: string;
    /**
     * indices of the texts that the model did not read to their end
     */
    truncated: number[];
    /**
     * how many they are; of very many only that is told
     */
    truncatedCount: number;
    /**
     * of all texts, before any cut; 0 of a service that does not tell
     */
    tokens: number;
};
export type EmbeddedBatch = Float32Array[] & Embedded;
export type Health = {
    /**
     * `ok`, `loading`, `stopping`, `stuck` or `dead`
     */
    status: string;
    phase: string;
    instance: string;
    version: string;
    /**
     * whether the files that it runs from are still there
     */
    bundle?: 'present' | 'gone';
    model?: string | null;
    dim?: number | null;
    device?: string | null;
    /**
     * what serves in the place of what should, if so
     */
    degraded?: string | null;
    /**
     * all that are
     * served, the first first; `failure` is the kind of problem that its last load ended with
     */
    models?: {
        model: string;
        phase: string;
        failure: string | null;
    }[];
};
export type Info = {
    model_id: string;
    dim: number;
    device: string;
    version: string;
    engine: string;
    precision: string;
    max_tokens: number;
    /**
     * of requests that leave every option at its default
     */
    fingerprint: string;
    limits: Record<string, number>;
    /**
     * that files may
     * be read from
     */
    folders?: {
        number: number;
        is_there: boolean;
        path: string | null;
    }[];
};
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
export declare class PythonSidecarClient {
    #private;
    /** @param {ClientOptions} [options] */
    constructor(options?: ClientOptions);
    /** Let go of the kept connections, and of none in use; the client can be used again. */
    close(): void;
    /**
     * Return what the service says of itself, whether it serves or still loads; never tried twice.
     * @param {{ signal?: AbortSignal }} [options]
     * @returns {Promise<Health>}
     */
    health(options?: {
        signal?: AbortSignal;
    }): Promise<Health>;
    /**
     * Return whether the service is ready. Never rejects: one that cannot be asked is not.
     * @param {{ signal?: AbortSignal }} [options]
     * @returns {Promise<boolean>}
     */
    checkHealth(options?: {
        signal?: AbortSignal;
    }): Promise<boolean>;
    /**
     * Return what is served: the model, its dimensions, the limits, the fingerprint.
     * @param {{ signal?: AbortSignal }} [options]
     * @returns {Promise<Info>}
     */
    info(options?: {
        signal?: AbortSignal;
    }): Promise<Info>;
    /**
     * Tell the service to answer what it has, and end. A PythonSidecarService would start it again.
     * @returns {Promise<void>}
     */
    shutdown(): Promise<void>;
    /**
     * Embed texts: in one request, unless that would not be answered in time.
     * @param {string | readonly string[]} texts
     * @param {EmbedOptions} [options]
     * @returns {Promise<Embedded>}
     */
    embed(texts: string | readonly string[], options?: EmbedOptions): Promise<Embedded>;
    /**
     * Embed any number of texts, in requests of a size that is answered in time.
     *
     * A request that fails for good ends the others. Rejects with SPACE_CHANGED if the answers are
     * of several vector spaces, because another model was started meanwhile.
     * @param {readonly string[]} texts
     * @param {boolean | (EmbedOptions & BatchOptions)} [options] a boolean is `normalize`
     * @returns {Promise<EmbeddedBatch>}
     */
    embedBatch(texts: readonly string[], options?: boolean | (EmbedOptions & BatchOptions)): Promise<EmbeddedBatch>;
    /**
     * Embed a document chunk by chunk: one in an allowed folder by its absolute path, or bytes that
     * the app read itself. Leaving the loop, or aborting the signal, ends the work in the service.
     * @param {string | import('./files.js').FileBytes} document
     * @param {import('./files.js').FileOptions} [options]
     * @returns {AsyncGenerator<import('./files.js').FileEvent, void, void>}
     */
    embedFile(document: string | import('./files.js').FileBytes, options?: import('./files.js').FileOptions): AsyncGenerator<import('./files.js').FileEvent, void, void>;
}
export type Place = {
    host: string;
    port: number;
    token?: string | undefined;
    /**
     * of every path
     */
    prefix: string;
};
export type Answer = Embedded & {
    first: number;
};
