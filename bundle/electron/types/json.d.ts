/** What a value read from JSON is. */
/**
 * Return whether it is an object, with keys and values.
 * @param {unknown} value
 * @returns {value is Record<string, unknown>}
 */
export declare function isRecord(value: unknown): value is Record<string, unknown>;
