// An app, its sidecar or both that are suspended, as by SIGSTOP or a laptop that sleeps.
import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import test, { describe } from 'node:test';
import { fileURLToPath } from 'node:url';

import { Deadline, sleep } from '../src/clock.js';
import { isStopped } from '../src/stopped.js';
import { bodyOf, rows } from './support/protocol.js';
import { PYTHON, SCRIPT, serve, until } from './support/service.js';

const POSIX = { skip: process.platform === 'win32' ? 'Windows suspends no processes' : false };
const APP = fileURLToPath(new URL('support/app.mjs', import.meta.url));
// Longer than a few looks at the service take, and than an answer may.
const STOP_MS = 2500;
const pause = (ms) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);

// An app in a process of its own, and what it told.
function app(t, options) {
  const child = fork(APP, [JSON.stringify(options)], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  const heard = [];
  child.on('message', (message) => heard.push(message));
  t.after(() => child.kill('SIGKILL'));
  const begun = () => heard.some(({ state }) => state === 'begun');
  const answers = () => heard.filter(({ state }) => state === undefined);
  return { child, heard, answers, begin: () => until(begun, 'the app begins') };
}

test('a deadline that was slept through leaves a moment to hear what came', async () => {
  let isOver = false;
  new Deadline(200, () => (isOver = true));
  pause(1500);
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.equal(isOver, false);
  await until(() => isOver, 'it is over');
});

test('a deadline counts what it waited, and a stopped one is never over', async () => {
  let isOver = false;
  const deadline = new Deadline(50, () => (isOver = true));
  pause(60);
  assert.ok(deadline.stop() >= 50);
  await sleep(100);
  assert.equal(isOver, false);
});

test('what came before the end of a deadline is heard first', async () => {
  const heard = [];
  const { port1, port2 } = new MessageChannel();
  port2.on('message', () => heard.push('message'));
  const over = new Promise((resolve) => new Deadline(50, () => resolve(heard.push('over'))));
  port1.postMessage('here');
  pause(100);
  await over;
  port2.close();
  assert.deepEqual(heard, ['message', 'over']);
});

describe('suspended', { concurrency: true }, () => {
  test('an app that was suspended hears what came, and asks again on a new connection', POSIX, async (t) => {
    let release;
    const asked = [];
    const { port, server } = await serve(t, async (request, response) => {
      const { texts } = JSON.parse(await bodyOf(request));
      asked.push(texts[0]);
      if (texts[0] === 'first') await new Promise((resolve) => (release = resolve));
      rows(response, texts);
    });
    const { child, answers, begin } = app(t, { client: { port, timeout: 1000, retryAttempts: 0 } });
    await begin();
    child.send('first');
    await until(() => release, 'it is asked');
    child.kill('SIGSTOP');
    await until(() => isStopped(child.pid), 'it is stopped');
    release();
    child.send('second');
    await sleep(STOP_MS);
    server.closeIdleConnections();
    child.kill('SIGCONT');
    await until(() => answers().length === 2, 'it has both answers');
    assert.deepEqual(answers(), [{ rows: 1 }, { rows: 1 }]);
    assert.deepEqual(asked, ['first', 'second']);
  });

  for (const [who, isApp, isService] of [
    ['a service', false, true],
    ['an app', true, false],
    ['an app and its service', true, true],
  ]) {
    test(`${who} that was suspended is no reason for a restart`, POSIX, async (t) => {
      const service = {
        pythonPath: PYTHON,
        scriptPath: SCRIPT,
        port: 0,
        healthInterval: 50,
        healthTimeout: 200,
      };
      const { child, heard, answers, begin } = app(t, { service, client: { timeout: 20_000 } });
      await begin();
      const { pid, instance } = heard.find(({ state }) => state === 'ready');
      const stopped = [...(isApp ? [child.pid] : []), ...(isService ? [pid] : [])];
      for (const one of stopped) process.kill(one, 'SIGSTOP');
      for (const one of stopped) await until(() => isStopped(one), 'it is stopped');
      child.send('meanwhile');
      await sleep(STOP_MS);
      for (const one of stopped) process.kill(one, 'SIGCONT');
      await until(() => answers().length === 1, 'it has its answer');
      await sleep(1000);
      assert.deepEqual(answers(), [{ rows: 1 }]);
      const states = heard.map(({ state }) => state).filter(Boolean);
      assert.deepEqual(states, ['starting', 'ready', 'begun']);
      assert.equal(heard.findLast(({ state }) => state === 'ready').instance, instance);
    });
  }
});

test('a process that runs, and one that is none, are not stopped', async () => {
  assert.equal(await isStopped(process.pid), false);
  assert.equal(await isStopped(2 ** 30), false);
});
