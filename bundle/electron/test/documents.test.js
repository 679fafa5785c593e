// The code that the documents show, with the sidecar of a bundle: whole programs as files of an app,
// and blocks of a page one after the other, in one scope. SIDECAR_BUNDLE names the bundle, SIDECAR_CHECKOUT where the documents lie.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';

import * as sidecar from '../src/index.js';

const bundle = process.env.SIDECAR_BUNDLE;
const skip = bundle ? false : 'SIDECAR_BUNDLE names no bundle';
const ROOT = process.env.SIDECAR_CHECKOUT ?? fileURLToPath(new URL('../../..', import.meta.url));
const AsyncFunction = Object.getPrototypeOf(async () => {}).constructor;

function blocks(page) {
  const text = readFileSync(join(ROOT, page), 'utf8');
  return [...text.matchAll(/^```js\n(.*?)^```$/gms)].map((found) => found[1]);
}

// Run a block; what it imports comes from `modules`, what it makes stays in `scope`.
async function run(block, scope, modules) {
  const body = block
    .replace(/^import (\{.*?\}) from (['"].*?['"]);$/gm, 'const $1 = modules[$2];')
    .replace(/^const (\w+) = /gm, 'scope.$1 = ')
    .replace(/^const \[(.*?)\] = /gm, '[$1] = ');
  await new AsyncFunction('scope', 'modules', `with (scope) { ${body} }`)(scope, modules);
}

// What the pages take for granted: an app, and where Electron keeps its resources.
function given(t) {
  const folder = mkdtempSync(join(tmpdir(), 'sidecar-documents-'));
  const app = new EventEmitter();
  app.getPath = () => folder;
  const ready = once(app, 'ready');
  app.whenReady = () => ready;
  app.quit = () => app.emit('quit');
  process.resourcesPath = bundle;
  const scope = { ...sidecar, app };
  t.after(async () => {
    await scope.service?.stopSidecar();
    delete process.resourcesPath;
    rmSync(folder, { recursive: true });
  });
  return { folder, scope, modules: { electron: { app }, '@sidecar/electron': sidecar } };
}

test('the package page starts, embeds and quits with the app', { skip }, async (t) => {
  const { scope, modules } = given(t);
  const said = new EventEmitter();
  scope.console = { log: (...words) => said.emit(typeof words[0], words) };
  const embedded = once(said, 'number');
  const [block, ...others] = blocks('bundle/electron/README.md');
  assert.equal(others.length, 1);
  await run(block, scope, modules);
  scope.app.emit('ready');
  const [lengths] = await embedded;
  const { dimensions } = scope.service.getStatus();
  assert.deepEqual(lengths, [dimensions, dimensions]);
  if (process.platform === 'darwin') return; // there it ends with the app
  const quit = once(scope.app, 'quit');
  scope.app.emit('before-quit', new Event('before-quit'));
  await quit;
  assert.equal(scope.service.getStatus().state, 'stopped');
});

test('the two lines of the package page give a vector', { skip }, async (t) => {
  const { scope, modules } = given(t);
  const [, block] = blocks('bundle/electron/README.md');
  const resources = "'../sidecar/bundle/out/linux-x64'";
  assert.ok(block.includes(resources));
  await run(block.replace(resources, JSON.stringify(bundle)), scope, modules);
  t.after(() => scope.embedder.close());
  assert.equal(scope.vector.length, scope.embedder.dimensions);
});

test('the lines of the Electron page start it, and an update finds it stopped', { skip }, async (t) => {
  const { scope, modules } = given(t);
  const [block, update, ...others] = blocks('docs/electron.md');
  assert.equal(others.length, 0);
  await run(block, scope, modules);
  assert.equal((await scope.service.startSidecar()).state, 'ready');
  scope.autoUpdater = new EventEmitter();
  const quit = new Promise((resolve) => {
    scope.autoUpdater.quitAndInstall = () => resolve(scope.service.getStatus().state);
  });
  await run(update, scope, modules);
  scope.autoUpdater.emit('update-downloaded');
  assert.equal(await quit, 'stopped');
});

// Write a page's program into an app that lies beside a checkout, as the page has it; run it there.
function inApp(t, name, program, ...args) {
  const folder = mkdtempSync(join(tmpdir(), 'sidecar-documents-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const app = join(folder, 'my-app');
  for (const [from, to] of [
    [bundle, join(folder, 'sidecar', 'bundle', 'out', 'linux-x64')],
    [fileURLToPath(new URL('..', import.meta.url)), join(app, 'node_modules', '@sidecar', 'electron')],
  ]) {
    mkdirSync(dirname(to), { recursive: true });
    symlinkSync(from, to);
  }
  writeFileSync(join(app, name), program);
  writeFileSync(join(app, 'manual.pdf'), pdf('Rinse the filter with warm water.'));
  const options = { cwd: app, encoding: 'utf8', timeout: 120_000 };
  return execFileSync(process.execPath, [name, ...args], options);
}

test('the first program prints what its pages show, and ends', { skip }, (t) => {
  const [block, ...others] = blocks('docs/getting-started.md');
  assert.equal(others.length, 0);
  assert.deepEqual(blocks('README.md'), [block]);
  const printed = inApp(t, 'try.mjs', block);
  for (const page of ['README.md', 'docs/getting-started.md']) {
    assert.ok(readFileSync(join(ROOT, page), 'utf8').includes(`\n\`\`\`text\n${printed}\`\`\`\n`), page);
  }
});

test('the search in a document finds its page', { skip }, (t) => {
  const [block, ...others] = blocks('docs/files.md');
  assert.equal(others.length, 0);
  const printed = inApp(t, 'search.mjs', block, 'manual.pdf', 'how is the filter cleaned?');
  assert.match(printed, /^0\.\d\d 1 Rinse the filter with warm water\.\n$/);
});

test('the way over from Ollama leads to a new index and on', { skip }, async (t) => {
  const { folder, scope, modules } = given(t);
  const added = [];
  const index = {
    readMeta: () => ({ dimensions: 768 }),
    createBeside: () => ({ add: (batch, vectors) => added.push(...vectors) }),
    allTexts: () => [{ texts: ['one'] }, { texts: ['two', 'three'] }],
    replaceBy: (fresh) => { index.fresh = fresh; },
    add: (chunks, spans, vectors) => { added.push(...vectors); },
  };
  Object.assign(scope, { index, texts: ['a', 'b'], showProgress() {} });
  writeFileSync(join(folder, 'report.pdf'), pdf('Something to find.'));
  const [same, before, after, reindex, files, ...others] = blocks('docs/ollama.md');
  assert.match(same, /from 'ollama'.*8421/s); // of another package, which has tests of its own
  assert.match(before, /11434/);
  assert.equal(others.length, 0);
  await run(after, scope, modules);
  assert.equal(scope.vectors.length, 2);
  await run(reindex, scope, modules);
  assert.equal(added.length, 3);
  assert.ok(index.fresh);
  await scope.service.stopSidecar();
  await run(files, scope, modules);
  assert.equal(added.length, 4);
});

// A PDF of one page with one line of text.
function pdf(line) {
  const content = `BT /F1 12 Tf 10 100 Td (${line}) Tj ET`;
  const objects = [
    '<< /Type /Catalog /Pages 2 0 R >>',
    '<< /Type /Pages /Count 1 /Kids [3 0 R] >>',
    '<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] /Contents 4 0 R'
      + ' /Resources << /Font << /F1 5 0 R >> >> >>',
    `<< /Length ${content.length} >>\nstream\n${content}\nendstream`,
    '<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>',
  ];
  let text = '%PDF-1.4\n';
  const offsets = objects.map((object, at) => {
    const offset = text.length;
    text += `${at + 1} 0 obj\n${object}\nendobj\n`;
    return offset;
  });
  const xref = text.length;
  text += `xref\n0 ${objects.length + 1}\n0000000000 65535 f \n`;
  for (const offset of offsets) text += `${String(offset).padStart(10, '0')} 00000 n \n`;
  return `${text}trailer\n<< /Size ${objects.length + 1} /Root 1 0 R >>\nstartxref\n${xref}\n%%EOF\n`;
}
