/** The options of each class and method. An unknown one is refused, with the name that is meant. */
/** What each class and method takes. */
export declare const KNOWN: Readonly<{
    PythonSidecarService: string[];
    PythonSidecarClient: string[];
    PythonSidecarEmbedder: string[];
    'service.client': string[];
    embed: string[];
    embedBatch: string[];
    embedFile: string[];
    health: string[];
    info: string[];
    'embedder.open': string[];
    'embedder.embed': string[];
    'embedder.embedBatch': string[];
    'embedder.embedFile': string[];
}>;
export type Taker = keyof typeof KNOWN;
/** @typedef {keyof typeof KNOWN} Taker */
/**
 * Throw SidecarError unless `options` is an object that has options of `taker` alone, none of them
 * NaN, and arrays where several are meant; those that are undefined count as left out.
 * @param {Taker} taker
 * @param {unknown} options
 */
export declare function requireOptions(taker: Taker, options: unknown): void;
