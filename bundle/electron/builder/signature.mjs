// What a Mach-O or PE file is, its signature left out: equal before and after signing.
//
// The builder computes the same digest of the same bytes (build/bundler/electron/signing.py),
// so that a signed file can be compared with the one that was signed.

import { createHash } from "node:crypto";

const MACHO_64 = 0xfeedfacf;
// A load command has at least its kind and its size.
const COMMAND_BYTES = 8;
const MACHO_FAT = 0xcafebabe;
// A Java class file has the same four bytes, then its version, which starts at 45.
const MOST_SLICES = 44;
const LC_SEGMENT_64 = 0x19;
const LC_CODE_SIGNATURE = 0x1d;
const PE = 0x4550;
const PE_PLUS = 0x20b;
const CERTIFICATES = 4;

/** Return the sha256 of `data` without its signature, or null if it is neither Mach-O nor PE. */
export function codeDigest(data) {
  try {
    const code = macho(data) ?? fat(data) ?? pe(data);
    return code && sha256(code);
  } catch (error) {
    if (error instanceof RangeError) return null; // its tables lead outside: cut off
    throw error;
  }
}

/** Return whether a file that begins with `head`, eight bytes, is Mach-O. */
export function isMachO(head) {
  if (head.length < 8) return false;
  if (head.readUInt32LE(0) === MACHO_64) return true;
  const slices = head.readUInt32BE(4);
  return head.readUInt32BE(0) === MACHO_FAT && slices > 0 && slices <= MOST_SLICES;
}

function sha256(data) {
  return createHash("sha256").update(data).digest("hex");
}

/** Return `data` less the zero bytes at its end: signing aligns what it appends. */
function trimmed(data) {
  let end = data.length;
  while (end > 0 && data[end - 1] === 0) end -= 1;
  return data.subarray(0, end);
}

function macho(data) {
  if (data.length < 32 || data.readUInt32LE(0) !== MACHO_64) return null;
  const code = Buffer.from(data);
  let end = code.length;
  let at = 32;
  for (let left = code.readUInt32LE(16); left > 0; left -= 1) {
    const kind = code.readUInt32LE(at);
    const size = code.readUInt32LE(at + 4);
    if (size < COMMAND_BYTES || at + size > code.length) {
      throw new RangeError("a load command of no length, or cut off");
    }
    if (kind === LC_CODE_SIGNATURE) {
      end = code.readUInt32LE(at + 8);
      code.fill(0, at, at + size);
      code.writeUInt32LE(code.readUInt32LE(16) - 1, 16);
      code.writeUInt32LE(code.readUInt32LE(20) - size, 20);
    } else if (kind === LC_SEGMENT_64 && code.toString("latin1", at + 8, at + 24) === "__LINKEDIT\0\0\0\0\0\0") {
      code.fill(0, at + 32, at + 40); // vmsize
      code.fill(0, at + 48, at + 56); // filesize
    }
    at += size;
  }
  return trimmed(code.subarray(0, end));
}

function fat(data) {
  if (data.length < 8 || data.readUInt32BE(0) !== MACHO_FAT) return null;
  const count = data.readUInt32BE(4);
  if (count === 0 || count > MOST_SLICES) return null;
  const parts = [];
  for (let at = 8; at < 8 + 20 * count; at += 20) {
    const start = data.readUInt32BE(at + 8);
    const code = macho(data.subarray(start, start + data.readUInt32BE(at + 12)));
    if (code === null) return null;
    parts.push(data.subarray(at, at + 8), Buffer.from(sha256(code), "hex"));
  }
  return Buffer.concat(parts);
}

function pe(data) {
  if (data.length < 64 || data.toString("latin1", 0, 2) !== "MZ") return null;
  const head = data.readUInt32LE(60);
  if (data.readUInt32LE(head) !== PE) return null;
  const optional = head + 24;
  const tables = optional + (data.readUInt16LE(optional) === PE_PLUS ? 112 : 96);
  const certificates = tables + 8 * CERTIFICATES;
  const end = data.readUInt32LE(certificates) || data.length;
  const code = Buffer.from(data.subarray(0, end));
  code.fill(0, optional + 64, optional + 68); // checksum
  code.fill(0, certificates, certificates + 8);
  return trimmed(code);
}
