// An embedder that starts its service: two lines from nothing to a vector, and nothing is left.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import test from 'node:test';

import { PythonSidecarClient, PythonSidecarEmbedder, SidecarError } from '../src/index.js';
import { vectorOf } from './support/protocol.js';
import { isAlive, scripted, until } from './support/service.js';

const PACKAGE = new URL('../src/index.js', import.meta.url).href;
const bundle = process.env.SIDECAR_BUNDLE;
const skip = bundle ? false : 'SIDECAR_BUNDLE names no bundle';
const isCode = (code) => (error) => error instanceof SidecarError && error.code === code;

// An embedder with the scripted Python, and what that wrote down.
function starting(t, behave) {
  const { given, notes } = scripted(t, behave);
  const embedder = new PythonSidecarEmbedder({ autoStart: true, service: given });
  t.after(() => embedder.close());
  return { embedder, notes };
}

// Runs two lines in a process of their own, which has to end by itself.
function twoLines(service) {
  const source = `
    import { PythonSidecarEmbedder } from '${PACKAGE}';
    const embedder = new PythonSidecarEmbedder({ autoStart: true, service: ${JSON.stringify(service)} });
    const vector = await embedder.embedSingle('harbour');
    console.log(JSON.stringify({ length: vector.length, pid: embedder.service.getStatus().pid }));
  `;
  const done = spawnSync(process.execPath, ['--input-type=module', '-e', source], {
    encoding: 'utf8', timeout: 120_000,
  });
  assert.equal(done.status, 0, done.stderr);
  return JSON.parse(done.stdout);
}

test('two lines give a vector, and the program ends with its service', async (t) => {
  const { given, notes } = scripted(t, { start: 300 });
  const { length, pid } = twoLines(given);
  assert.equal(length, 8);
  assert.equal(notes('start').length, 1);
  await until(() => !isAlive(pid), 'the service ends');
});

test('two lines give a vector of the bundle', { skip }, async () => {
  const { length, pid } = twoLines({ resources: bundle, port: 0, engine: 'hash' });
  assert.ok(length > 0);
  await until(() => !isAlive(pid), 'the service ends');
});

test('it waits for a slow start, comes back after a crash, and is stopped', async (t) => {
  const { embedder, notes } = starting(t, [{ start: 500, after: 150, signal: 'SIGKILL' }, {}]);
  const [one, two] = await Promise.all([embedder.embed('one'), embedder.embedBatch(['two'])]);
  assert.deepEqual([one, ...two], [vectorOf('one'), vectorOf('two')]);
  await until(() => embedder.service.getStatus().restarts === 1, 'it crashes');
  assert.deepEqual(await embedder.embedSingle('after'), vectorOf('after'));
  const { pid } = embedder.service.getStatus();
  await embedder.close();
  assert.equal(isAlive(pid), false);
  assert.equal(notes('start').length, 2);
  await assert.rejects(embedder.embed('x'), isCode('SIDECAR_STOPPED'));
});

test('a start that fails is told by the call that waits for it', async (t) => {
  const { embedder, notes } = starting(t, { exit: 4 });
  await assert.rejects(embedder.embed('x'), isCode('BUNDLE_DAMAGED'));
  assert.equal(notes('start').length, 1);
  await assert.rejects(embedder.open(), isCode('BUNDLE_DAMAGED'));
  assert.equal(notes('start').length, 2);
});

test('who waits for the start can leave', async (t) => {
  const { embedder } = starting(t, { mute: true });
  const signal = AbortSignal.timeout(50);
  await assert.rejects(embedder.embed('x', { signal }), { name: 'TimeoutError' });
});

test('a client of the app and a service of the embedder exclude each other', () => {
  const client = new PythonSidecarClient();
  const both = { client, autoStart: true };
  assert.throws(() => new PythonSidecarEmbedder(both), isCode('USAGE_ERROR'));
  assert.throws(() => new PythonSidecarEmbedder({ service: {} }), isCode('USAGE_ERROR'));
});

test('an embedder without a service of its own closes nothing of the app', async (t) => {
  const { service } = scripted(t);
  await service.startSidecar();
  const client = service.client();
  t.after(() => client.close());
  const embedder = new PythonSidecarEmbedder({ client });
  assert.equal(embedder.service, undefined);
  await embedder.close();
  assert.equal(service.getStatus().ready, true);
});
