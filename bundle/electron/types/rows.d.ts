/** Rows of little-endian float32, as they come over the wire. */
/**
 * Return `count` rows of `dimensions` floats, each a view of `bytes`: nothing is copied.
 * Throws SidecarError if the length is another.
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
