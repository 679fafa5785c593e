/** Many texts as requests of a size that a service takes and answers in time. */

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
export function partsOf(texts, most) {
  /** @type {Part} */
  let part = { first: 0, texts: [] };
  const parts = [part];
  let size = 0;
  texts.forEach((text, index) => {
    const length = Buffer.byteLength(text) + '"",'.length;
    const isFull = part.texts.length >= most.count || size + length > most.bytes;
    if (isFull && part.texts.length > 0) {
      part = { first: index, texts: [] };
      parts.push(part);
      size = 0;
    }
    part.texts.push(text);
    size += length;
  });
  return parts;
}
