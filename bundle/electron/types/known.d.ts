/** What is no options object is told, and never ignored. */
/**
 * Throw SidecarError unless `options` is an object of options.
 * @param {string} taker the class or method that takes them
 * @param {unknown} options
 */
export declare function requireOptions(taker: string, options: unknown): void;
