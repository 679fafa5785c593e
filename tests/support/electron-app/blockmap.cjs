// What electron-updater fetches of AFTER for somebody who has BEFORE: the blocks, as electron-builder
// cuts them for its blockmaps, that are not in BEFORE. Run in a folder with electron-builder:
// node blockmap.cjs BEFORE AFTER
'use strict';

const { mkdtempSync, readFileSync, rmSync } = require('node:fs');
const { createRequire } = require('node:module');
const { tmpdir } = require('node:os');
const { join } = require('node:path');
const { gunzipSync } = require('node:zlib');

const load = createRequire(join(process.cwd(), 'package.json'));
const builder = join(load.resolve('app-builder-lib/package.json'), '..');
const { buildBlockMap } = load(join(builder, 'out', 'targets', 'blockmap', 'blockmap.js'));

async function blocks(file, folder) {
  const map = join(folder, 'blockmap');
  await buildBlockMap(file, 'gzip', map);
  const { checksums, sizes } = JSON.parse(gunzipSync(readFileSync(map))).files[0];
  return checksums.map((checksum, at) => ({ checksum, size: sizes[at] }));
}

async function main(before, after) {
  const folder = mkdtempSync(join(tmpdir(), 'blockmap-'));
  try {
    const had = new Set((await blocks(before, folder)).map(({ checksum }) => checksum));
    const wanted = await blocks(after, folder);
    const moved = wanted.filter(({ checksum }) => !had.has(checksum));
    const sum = (some) => some.reduce((total, { size }) => total + size, 0);
    process.stdout.write(`${JSON.stringify({ size: sum(wanted), moved: sum(moved) })}\n`);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

void main(...process.argv.slice(2));
