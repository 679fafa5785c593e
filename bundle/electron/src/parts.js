/** Many texts as requests of a size that a service takes and answers in time. */

/**
 * @typedef {object} Part
 * @property {number} first the index of its first text
 * @property {string[]} texts
 * @property {number} bytes about how many they are, as JSON
 */

/** Texts, taken in order from the first to the last. */
export class Parts {
  #texts;
  #first = 0;
  #isBegun = false;

  /** @param {readonly string[]} texts */
  constructor(texts) {
    this.#texts = texts;
  }

  /**
   * Return the next texts, at most `count` and about `bytes` bytes of them, or undefined after the
   * last. A text that is larger goes alone. There is always a part, if an empty one.
   * @param {{ count: number, bytes: number }} most
   * @returns {Part | undefined}
   */
  take(most) {
    const first = this.#first;
    if (this.#isBegun && first >= this.#texts.length) return undefined;
    this.#isBegun = true;
    /** @type {string[]} */
    const texts = [];
    let bytes = 0;
    for (; this.#first < this.#texts.length; this.#first += 1) {
      const text = /** @type {string} */ (this.#texts[this.#first]);
      const length = sizeOf(text);
      const isFull = texts.length >= most.count || bytes + length > most.bytes;
      if (isFull && texts.length > 0) break;
      texts.push(text);
      bytes += length;
    }
    return { first, texts, bytes };
  }
}

/**
 * @param {string} text
 * @returns {number}
 */
function sizeOf(text) {
  // What is no text is refused by the service, with its index.
  return (typeof text === 'string' ? Buffer.byteLength(text) : 0) + '"",'.length;
}
