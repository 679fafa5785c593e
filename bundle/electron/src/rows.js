/** Rows of little-endian float32, as they come over the wire. */

import { endianness } from 'node:os';

import { SidecarError } from './errors.js';

const SWAPS = endianness() === 'BE';

const LONGEST_NAME = 128;
// Far more than any model has.
const MOST_DIMENSIONS = 65_536;

/**
 * Return whether it may be how long vectors are.
 * @param {unknown} value
 * @returns {value is number}
 */
export function isDimensions(value) {
  return typeof value === 'number' && isIndex(value) && value > 0 && value <= MOST_DIMENSIONS;
}

/**
 * Throw SidecarError if vectors have another length than was asked for: an older service does not
 * know of that.
 * @param {number} found
 * @param {number | undefined} wanted
 */
export function requireDimensions(found, wanted) {
  if (wanted !== undefined && found !== wanted) {
    throw new SidecarError('PARSE_ERROR', `vectors of ${found} dimensions came, and not of ${wanted}`);
  }
}

/**
 * Return whether it may name a vector space: a word, and not a list of them.
 * @param {unknown} value
 * @returns {value is string}
 */
export function isFingerprint(value) {
  return typeof value === 'string' && value.length <= LONGEST_NAME && /^[!-+\--~]+$/.test(value);
}

/**
 * Return whether it is a whole number from 0 on.
 * @param {unknown} value
 * @returns {value is number}
 */
export function isIndex(value) {
  return Number.isSafeInteger(value) && /** @type {number} */ (value) >= 0;
}

/**
 * Throw SidecarError if a value is no number, or none that is finite.
 * @param {Float32Array} values
 */
export function requireFinite(values) {
  let sum = 0;
  // Times zero, whatever is finite is zero, and nothing else is: one comparison for all.
  for (let at = 0; at < values.length; at += 1) sum += /** @type {number} */ (values[at]) * 0;
  if (sum !== 0) throw new SidecarError('PARSE_ERROR', 'a vector has a number that is not finite');
}

/**
 * Return `count` rows of `dimensions` floats, each a view of `bytes`: nothing is copied.
 * Throws SidecarError if the length is another, or a float is not finite.
 * @param {ArrayBuffer} bytes
 * @param {number} count
 * @param {number} dimensions
 * @returns {Float32Array[]}
 */
export function rowsOf(bytes, count, dimensions) {
  if (bytes.byteLength !== count * dimensions * 4) {
    const expected = `${count} rows of ${dimensions} floats`;
    throw new SidecarError('PARSE_ERROR', `${bytes.byteLength} bytes are not ${expected}`);
  }
  if (SWAPS) Buffer.from(bytes).swap32();
  const all = new Float32Array(bytes);
  requireFinite(all);
  /** @type {Float32Array[]} */
  const rows = new Array(count);
  for (let row = 0; row < count; row += 1) {
    rows[row] = all.subarray(row * dimensions, (row + 1) * dimensions);
  }
  return rows;
}

/**
 * Return the indices in a header like `0,5,17`, and how many they are: of a list that is too long
 * for a header only the number is told, `count=5000`. Throws SidecarError if it is neither.
 * @param {string} text
 * @returns {{ indices: number[], count: number }}
 */
export function indicesOf(text) {
  if (text === '') return { indices: [], count: 0 };
  if (/^count=\d+$/.test(text)) return { indices: [], count: Number(text.slice('count='.length)) };
  if (!/^\d+(,\d+)*$/.test(text)) {
    throw new SidecarError('PARSE_ERROR', 'the list of cut texts cannot be read');
  }
  const indices = text.split(',').map(Number);
  return { indices, count: indices.length };
}
