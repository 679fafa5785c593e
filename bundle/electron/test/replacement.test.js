// A bundle that an updater takes away under the running service.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, symlinkSync, unlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';

import { PYTHON, scripted, until } from './support/service.js';

const skip = process.platform === 'win32' ? 'nothing that runs can be removed' : false;
const FOR_EVER = 1e6;
const LOOKS = { healthInterval: 20 };

// A place for the bundle's Python, where an updater may take it away and put it.
function placed(t, behave, options = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'sidecar-place-'));
  const pythonPath = join(folder, 'python3.11');
  const put = () => symlinkSync(PYTHON, pythonPath);
  const take = () => unlinkSync(pythonPath);
  put();
  const made = scripted(t, behave, { pythonPath, ...options });
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const readied = () => made.types().filter((type) => type === 'ready').length;
  return { ...made, put, take, readied };
}

test('a replaced bundle is restarted from its place, once, and gently', { skip }, async (t) => {
  const { service, notes, events, readied } = placed(t, [{ gone: FOR_EVER }, {}], LOOKS);
  const first = await service.startSidecar();
  const client = service.client({ retryDelay: 10 });
  t.after(() => client.close());
  await until(() => readied() === 2, 'it is back');
  assert.notEqual(service.getStatus().pid, first.pid);
  assert.equal(service.getStatus().lastError?.code, 'BUNDLE_GONE');
  const told = events.find(({ type }) => type === 'restarting');
  assert.equal(told.data.code, 'BUNDLE_GONE');
  assert.equal(notes('stop')[0].why, 'shutdown');
  assert.equal((await client.embed('x')).vectors.length, 1);
  assert.equal((await client.health()).bundle, 'present');
  assert.equal(notes('start').length, 2);
});

test('until a bundle lies at its place again the old service serves on', { skip }, async (t) => {
  const behave = [{ gone: FOR_EVER }, {}];
  const { service, notes, take, put, readied } = placed(t, behave, LOOKS);
  const first = await service.startSidecar();
  const client = service.client();
  t.after(() => client.close());
  take();
  await until(() => notes('gone').length > 8, 'it is looked for');
  assert.equal((await client.embed('x')).vectors.length, 1);
  assert.equal(service.getStatus().pid, first.pid);
  assert.equal(service.getStatus().state, 'ready');
  assert.equal(notes('start').length, 1);
  put();
  await until(() => readied() === 2, 'it is back');
  assert.equal(notes('start').length, 2);
});

test('a bundle that is back as it was is no reason to restart', { skip }, async (t) => {
  const { service, notes, take, put } = placed(t, { gone: 4 }, LOOKS);
  const { pid } = await service.startSidecar();
  take();
  // So many looks take longer than the longest wait between two that would restart it.
  const looked = (count) => () => notes('present').length > count;
  await until(looked(30), 'it is present again');
  put();
  await until(looked(60), 'nothing comes of it');
  assert.equal(service.getStatus().pid, pid);
  assert.equal(notes('start').length, 1);
});

test('a document that needs the bundle restarts it, and is read then', { skip }, async (t) => {
  const { service, notes } = placed(t, [{ gone: FOR_EVER }, {}]);
  await service.startSidecar();
  const client = service.client();
  t.after(() => client.close());
  const chunks = [];
  const bytes = Buffer.from('%PDF-');
  for await (const event of client.embedFile({ bytes, contentType: 'application/pdf' })) {
    if (event.type === 'chunks') chunks.push(...event.chunks);
  }
  assert.equal(chunks.length, 1);
  assert.equal(notes('start').length, 2);
  assert.ok(notes('gone').some(({ path }) => path === '/embed-file/upload'));
});

test('a service that dies with its bundle is started once that is there', { skip }, async (t) => {
  const { service, notes, events, take, put, readied } = placed(t, [
    { after: 150, signal: 'SIGKILL' },
    {},
  ]);
  await service.startSidecar();
  take();
  await until(
    () => events.some(({ data }) => data.code === 'PYTHON_NOT_FOUND'),
    'the place is empty',
  );
  assert.equal(service.getStatus().state, 'restarting');
  const waits = events.filter(({ type }) => type === 'restarting').map(({ data }) => data.in_ms);
  assert.deepEqual(waits, [10, 10]);
  assert.equal(notes('start').length, 1);
  put();
  await until(() => readied() === 2, 'it is back');
  assert.equal(notes('start').length, 2);
  assert.equal(service.getStatus().crashes, 1);
});

test('a bundle that is there in part is tried again, with the usual end', { skip }, async (t) => {
  const { service, notes, readied } = placed(t, [{ gone: FOR_EVER }, { exit: 4 }, {}], LOOKS);
  await service.startSidecar();
  await until(() => readied() === 2, 'it is back');
  assert.equal(notes('start').length, 3);
  const never = placed(t, [{ gone: FOR_EVER }, { exit: 4 }], LOOKS);
  await never.service.startSidecar();
  await until(() => never.types().includes('failed'), 'it gives up');
  assert.equal(never.service.getStatus().lastError?.code, 'SIDECAR_START_FAILED');
  assert.equal(never.notes('start').length, 5);
});

test('a stop ends the wait for a bundle', { skip }, async (t) => {
  const { service, events, take } = placed(t, { after: 150, signal: 'SIGKILL' });
  await service.startSidecar();
  take();
  await until(
    () => events.some(({ data }) => data.code === 'PYTHON_NOT_FOUND'),
    'the place is empty',
  );
  await service.stopSidecar();
  assert.equal(service.getStatus().state, 'stopped');
});

test('without autoRestart the service goes on without its bundle', { skip }, async (t) => {
  const options = { ...LOOKS, autoRestart: false };
  const { service, notes } = placed(t, { gone: FOR_EVER }, options);
  const { pid } = await service.startSidecar();
  await until(() => notes('gone').length > 3, 'it is looked at');
  assert.equal(service.getStatus().pid, pid);
  assert.equal(service.getStatus().state, 'ready');
});
