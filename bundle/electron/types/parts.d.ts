/** Many texts as requests of a size that a service takes and answers in time. */
export type Part = {
    /**
     * the index of its first text
     */
    first: number;
    texts: string[];
};
/**
 * @typedef {object} Part
 * @property {number} first the index of its first text
 * @property {string[]} texts
 */
/**
 * Return the texts in order, at most `count` and about `bytes` bytes of them together. A text that
 * is larger goes alone. There is always a part, if an empty one.
 * @param {readonly string[]} texts
 * @param {{ count: number, bytes: number }} most
 * @returns {Part[]}
 */
export declare function partsOf(texts: readonly string[], most: {
    count: number;
    bytes: number;
}): Part[];
