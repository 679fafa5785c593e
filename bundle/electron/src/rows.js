/** Rows of little-endian float32, as they come over the wire. */

import { endianness } from 'node:os';

import { SidecarError } from './errors.js';

const SWAPS = endianness() === 'BE';

/**
 * Return `count` rows of `dimensions` floats, each a view of `bytes`: nothing is copied.
 * Throws SidecarError if the length is another.
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
