/** Many texts as requests of a size that a service takes and answers in time. */
export type Part = {
    /**
     * the index of its first text
     */
    first: number;
    texts: string[];
    /**
     * about how many they are, as JSON
     */
    bytes: number;
};
/**
 * @typedef {object} Part
 * @property {number} first the index of its first text
 * @property {string[]} texts
 * @property {number} bytes about how many they are, as JSON
 */
/** Texts, taken in order from the first to the last. */
export declare class Parts {
    #private;
    /** @param {readonly string[]} texts */
    constructor(texts: readonly string[]);
    /**
     * Return the next texts, at most `count` and about `bytes` bytes of them, or undefined after the
     * last. A text that is larger goes alone. There is always a part, if an empty one.
     * @param {{ count: number, bytes: number }} most
     * @returns {Part | undefined}
     */
    take(most: {
        count: number;
        bytes: number;
    }): Part | undefined;
}
