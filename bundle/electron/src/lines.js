/** Lines out of a stream of bytes. */

import { StringDecoder } from 'node:string_decoder';

// No line of the protocol is longer; what is, is not one of ours, and is dropped as it arrives.
const LONGEST = 1 << 20;

/**
 * @typedef {object} Decoder
 * @property {(bytes: Buffer) => string} write
 * @property {() => string} end
 */

/**
 * Return a decoder of UTF-8 that throws TypeError for what is none, instead of replacing it.
 * @returns {Decoder}
 */
export function strictDecoder() {
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  return {
    write: (bytes) => decoder.decode(bytes, { stream: true }),
    end: () => decoder.decode(),
  };
}

/** Cuts a stream into lines, however its parts were cut; too long ones are left out. */
export class Lines {
  #longest;
  #decoder;
  /** @type {string[]} */
  #parts = [];
  #length = 0;
  #dropping = false;
  #dropped = 0;

  /**
   * @param {number} [longest] in characters
   * @param {Decoder} [decoder] by default one that replaces what is no UTF-8
   */
  constructor(longest = LONGEST, decoder = new StringDecoder('utf8')) {
    this.#longest = longest;
    this.#decoder = decoder;
  }

  /** How many lines were too long so far, one whose end has not come among them. */
  get dropped() {
    return this.#dropped;
  }

  /**
   * Take the next bytes and return the lines that they complete, without their ends.
   * @param {Buffer} bytes
   * @returns {string[]}
   */
  push(bytes) {
    const pieces = this.#decoder.write(bytes).split('\n');
    const rest = pieces.pop() ?? '';
    /** @type {string[]} */
    const lines = [];
    for (const piece of pieces) {
      this.#keep(piece);
      const line = this.#take();
      if (line !== undefined) lines.push(line.endsWith('\r') ? line.slice(0, -1) : line);
    }
    this.#keep(rest);
    return lines;
  }

  /**
   * Return what came after the last end of a line.
   * @returns {string}
   */
  end() {
    this.#keep(this.#decoder.end());
    return this.#take() ?? '';
  }

  /** @param {string} piece */
  #keep(piece) {
    this.#length += piece.length;
    if (!this.#dropping && this.#length > this.#longest) {
      this.#dropping = true;
      this.#dropped += 1;
    }
    if (this.#dropping) this.#parts.length = 0;
    // Parts are joined once per line: a line of many megabytes would be copied for each otherwise.
    else if (piece) this.#parts.push(piece);
  }

  /** @returns {string | undefined} */
  #take() {
    const line = this.#dropping ? undefined : this.#parts.join('');
    this.#parts = [];
    this.#length = 0;
    this.#dropping = false;
    return line;
  }
}
