/** Lines out of a stream of bytes. */
/** Cuts a stream into lines, however its parts were cut; too long ones are left out. */
export declare class Lines {
    #private;
    /** @param {number} [longest] in characters */
    constructor(longest?: number);
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
