/** Rows of little-endian float32, as they come over the wire. */
/**
 * Return whether it may be how long vectors are.
 * @param {unknown} value
 * @returns {value is number}
 */
export declare function isDimensions(value: unknown): value is number;
/**
 * Throw SidecarError if vectors have another length than was asked for: an older service does not
 * know of that.
 * @param {number} found
 * @param {number | undefined} wanted
 */
export declare function requireDimensions(found: number, wanted: number | undefined): void;
/**
 * Return whether it may name a vector space: a word, and not a list of them.
 * @param {unknown} value
 * @returns {value is string}
 */
export declare function isFingerprint(value: unknown): value is string;
/**
 * Return whether it is a whole number from 0 on.
 * @param {unknown} value
 * @returns {value is number}
 */
export declare function isIndex(value: unknown): value is number;
/**
 * Throw SidecarError if a value is no number, or none that is finite.
 * @param {Float32Array} values
 */
export declare function requireFinite(values: Float32Array): void;
/**
 * Return `count` rows of `dimensions` floats, each a view of `bytes`: nothing is copied.
 * Throws SidecarError if the length is another, or a float is not finite.
 * @param {ArrayBuffer} bytes
 * @param {number} count
 * @param {number} dimensions
 * @returns {Float32Array[]}
 */
export declare function rowsOf(bytes: ArrayBuffer, count: number, dimensions: number): Float32Array[];
/**
 * Return the indices in a header like `0,5,17`, and how many they are: of a list that is too long
 * for a header only the number is told, `count=5000`. Throws SidecarError if it is neither.
 * @param {string} text
 * @returns {{ indices: number[], count: number }}
 */
export declare function indicesOf(text: string): {
    indices: number[];
    count: number;
};
