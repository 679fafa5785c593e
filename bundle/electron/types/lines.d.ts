/** Lines out of a stream of bytes. */
export type Decoder = {
    write: (bytes: Buffer) => string;
    end: () => string;
};
/**
 * @typedef {object} Decoder
 * @property {(bytes: Buffer) => string} write
 * @property {() => string} end
 */
/**
 * Return a decoder of UTF-8 that throws TypeError for what is none, instead of replacing it.
 * @returns {Decoder}
 */
export declare function strictDecoder(): Decoder;
/** Cuts a stream into lines, however its parts were cut; too long ones are left out. */
export declare class Lines {
    #private;
    /**
     * @param {number} [longest] in characters
     * @param {Decoder} [decoder] by default one that replaces what is no UTF-8
     */
    constructor(longest?: number, decoder?: Decoder);
    /** How many lines were too long so far, one whose end has not come among them. */
    get dropped(): number;
    /**
     * Take the next bytes and return the lines that they complete, without their ends.
     * @param {Buffer} bytes
     * @returns {string[]}
     */
    push(bytes: Buffer): string[];
    /**
     * Return what came after the last end of a line.
     * @returns {string}
     */
    end(): string;
}
