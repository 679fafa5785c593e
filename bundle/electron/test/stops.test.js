// How the service ends, and what ends with it.
import assert from 'node:assert/strict';
import test from 'node:test';

import { SidecarError } from '../src/index.js';
import { isAlive, scripted, until } from './support/service.js';

const NO_SHELL = process.platform === 'win32' ? 'there is no shell with limits' : false;
const isCode = (code) => (error) => error instanceof SidecarError && error.code === code;

test('a stop ends a start that is under way', async (t) => {
  const { service, notes } = scripted(t, { mute: true });
  const started = service.startSidecar();
  const failed = assert.rejects(started, isCode('SIDECAR_STOPPED'));
  await until(() => notes('token').length === 1, 'it is being started');
  await service.stopSidecar();
  await failed;
  assert.equal(service.getStatus().state, 'stopped');
  assert.equal(isAlive(notes('start')[0].pid), false);
});

test('a stop right after a start, or without one, leaves nothing', async (t) => {
  const { service } = scripted(t);
  await service.stopSidecar();
  const failed = assert.rejects(service.startSidecar(), isCode('SIDECAR_STOPPED'));
  await Promise.all([service.stopSidecar(), service.stopSidecar()]);
  await failed;
  assert.deepEqual([service.getStatus().state, service.getStatus().pid], ['stopped', undefined]);
  assert.equal((await service.startSidecar()).ready, true);
});

test('a stop wins over a start and a restart that wait for another stop', async (t) => {
  const { service, notes } = scripted(t);
  await service.startSidecar();
  const later = [service.restartSidecar(), service.startSidecar()];
  const stopped = service.stopSidecar();
  for (const one of later) await assert.rejects(one, isCode('SIDECAR_STOPPED'));
  await stopped;
  assert.deepEqual([service.getStatus().state, notes('start').length], ['stopped', 1]);
});

test('a start after a stop that has not ended yet waits for it', async (t) => {
  const { service, notes } = scripted(t);
  const first = await service.startSidecar();
  void service.stopSidecar();
  const [one, two] = await Promise.all([service.restartSidecar(), service.startSidecar()]);
  assert.deepEqual([one.state, one.instance], ['ready', two.instance]);
  assert.notEqual(one.instance, first.instance);
  assert.equal(notes('start').length, 2);
});

test('a stop ends the wait before a restart', async (t) => {
  const { service, types, notes } = scripted(t, { exit: 1 }, { backoff: { firstMs: 60_000 } });
  const failed = assert.rejects(service.startSidecar(), isCode('SIDECAR_STOPPED'));
  await until(() => types().includes('restarting'), 'it waits');
  await service.stopSidecar();
  await failed;
  assert.equal(notes('start').length, 1);
});

test('what does not want to stop is killed, with what it started', async (t) => {
  const { service, notes } = scripted(t, { deaf: true, worker: true }, { stopTimeout: 500 });
  const { pid } = await service.startSidecar();
  const [{ worker }] = notes('worker');
  assert.equal(isAlive(worker), true);
  await service.stopSidecar();
  assert.equal(isAlive(pid), false);
  await until(() => !isAlive(worker), 'the worker ends');
  assert.equal(notes('deaf').length > 0, true);
});

test('a process that cannot be killed holds up no stop', async (t) => {
  const { service } = scripted(t, { deaf: true }, { stopTimeout: 100 });
  const { pid } = await service.startSidecar();
  const { kill } = process;
  process.kill = () => true;
  try {
    await service.stopSidecar();
  } finally {
    process.kill = kill;
  }
  assert.equal(service.getStatus().state, 'stopped');
  assert.equal(isAlive(pid), true);
  process.kill(-pid, 'SIGKILL');
  await until(() => !isAlive(pid), 'it ends');
});

test('workers that a crash left behind are ended', { skip: process.platform === 'win32' }, async (t) => {
  const { service, notes } = scripted(t, [{ worker: true, after: 150, signal: 'SIGKILL' }, {}]);
  await service.startSidecar();
  const [{ worker }] = notes('worker');
  await until(() => !isAlive(worker), 'the worker ends');
});

test('a service that drains is given its time', async (t) => {
  const { service, notes, events } = scripted(t, { drain: 300 });
  await service.startSidecar();
  await service.stopSidecar();
  assert.equal(notes('deaf').length, 0);
  assert.equal(events.at(-1).type, 'stopped');
});

test('a stop from outside is mended as a crash is', async (t) => {
  const { service, types } = scripted(t, [{ after: 150, code: 0 }, {}]);
  await service.startSidecar();
  await until(() => types().filter((type) => type === 'ready').length === 2, 'it is back');
  assert.equal(service.getStatus().lastError?.code, 'SIDECAR_STOPPED');
});
