/** How much a service computes in a time, by what was seen of it. */
/**
 * The speed of a service and the density of texts, in tokens. A change for the worse is believed
 * at once, one for the better by half.
 */
export declare class Pace {
    #private;
    /**
     * Return how many bytes of text to ask for in one request that may take `ms` milliseconds.
     * @param {number} ms
     * @returns {number}
     */
    bytesIn(ms: number): number;
    /**
     * Learn from a request that was answered.
     * @param {{ bytes: number, tokens: number, ms: number }} answered
     */
    saw({ bytes, tokens, ms }: {
        bytes: number;
        tokens: number;
        ms: number;
    }): void;
}
