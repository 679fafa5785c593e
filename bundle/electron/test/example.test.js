import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';

import { DOCUMENTS } from '../example/documents.js';
import { cosine, Ranking } from '../example/ranking.js';
import { PythonSidecarClient } from '../src/index.js';
import { bodyOf, rows } from './support/protocol.js';
import { isAlive, PYTHON, SCRIPT, serve, until } from './support/service.js';

const SERVE = fileURLToPath(new URL('../example/serve.js', import.meta.url));
const ROOT = fileURLToPath(new URL('..', import.meta.url));
// Of Electron what the example uses. It is ready once the main module has run, and not before.
const ELECTRON = `
  import { EventEmitter } from 'node:events';
  let begin;
  const ready = new Promise((resolve) => (begin = resolve));
  export const app = Object.assign(new EventEmitter(), {
    isPackaged: false,
    requestSingleInstanceLock: () => true,
    whenReady: () => ready,
    quit() {
      const event = new Event('before-quit', { cancelable: true });
      app.emit('before-quit', event);
      if (!event.defaultPrevented) process.exit();
    },
  });
  export class BrowserWindow {
    static getAllWindows = () => [];
    webContents = Object.assign(new EventEmitter(), { setWindowOpenHandler() {} });
    async loadURL(url) { console.log(url); }
  }
  export const shell = {};
  export const run = (main) => import(main).then(begin);
`;
const skip = process.platform === 'win32' ? 'a script is no program there' : false;

// A folder that looks like a bundle, with the scripted Python in it.
function bundle(t) {
  const root = mkdtempSync(join(tmpdir(), 'sidecar é '));
  t.after(() => rmSync(root, { recursive: true }));
  mkdirSync(join(root, 'python', 'bin'), { recursive: true });
  symlinkSync(PYTHON, join(root, 'python', 'bin', 'python3.11'));
  symlinkSync(SCRIPT, join(root, 'embedding_sidecar'));
  return root;
}

function get(url) {
  return new Promise((resolve, reject) => {
    http.get(url, async (answer) => resolve(String(await bodyOf(answer)))).on('error', reject);
  });
}

// The first picture that satisfies `claim`, from the events that the page listens to.
function pictureOf(url, claim) {
  return new Promise((resolve, reject) => {
    const request = http.get(`${url}events`, (answer) => {
      let text = '';
      answer.setEncoding('utf8');
      answer.on('error', () => {});
      answer.on('data', (part) => {
        text += part;
        const pictures = text.split('\n\n').slice(0, -1).map((event) => JSON.parse(event.slice(6)));
        const found = pictures.find(claim);
        if (!found) return;
        request.destroy();
        resolve(found);
      });
    });
    request.on('error', reject);
  });
}

function post(url, value) {
  return new Promise((resolve, reject) => {
    const request = http.request(url, { method: 'POST' }, async (answer) => {
      const body = String(await bodyOf(answer));
      resolve({ status: answer.statusCode, ...JSON.parse(body) });
    });
    request.on('error', reject);
    request.end(JSON.stringify(value));
  });
}

test('the example runs under Node alone, from the folder of a bundle', { skip }, async (t) => {
  const stdio = /** @type {const} */ (['ignore', 'pipe', 'inherit']);
  const child = spawn(process.execPath, [SERVE, bundle(t)], { stdio });
  t.after(() => child.kill('SIGKILL'));
  const [told] = await once(child.stdout, 'data');
  const url = String(told).trim();
  assert.match(await get(url), /<title>Similarity<\/title>/);
  const picture = await pictureOf(url, ({ state, space }) => state === 'ready' && space.health);
  assert.equal(picture.space.fingerprint, 'c0ffee0123456789');
  assert.equal(picture.steps.every((step) => step.isDone), true);
  const answer = await post(`${url}rank`, { text: 'ships wait for the sea and the moon' });
  assert.equal(answer.ranked[0].title, 'Tides');
  assert.equal(answer.ranked.length, DOCUMENTS.length);
  assert.equal((await post(`${url}rank`, { text: 7 })).status, 502);
  assert.equal((await post(`${url}rank`, { text: 'x'.repeat(70_000) })).status, 502);
  assert.equal((await post(`${url}unknown`, {})).status, 404);
  child.kill('SIGTERM');
  const [code] = await once(child, 'exit');
  assert.equal(code, 0);
});

test('without a folder it tells how it is used', async () => {
  const child = spawn(process.execPath, [SERVE], { stdio: 'ignore' });
  assert.equal((await once(child, 'exit'))[0], 2);
});

test('cosine is that of the angle, whatever the lengths', () => {
  const row = (...values) => Float32Array.from(values);
  assert.equal(cosine(row(1, 0), row(5, 0)), 1);
  assert.equal(cosine(row(1, 0), row(0, 2)), 0);
  assert.equal(cosine(row(1, 1), row(-2, -2)) + 1 < 1e-12, true);
  assert.equal(cosine(row(0, 0), row(1, 2)), 0);
});

test('the example opens its window in Electron, and quits with what it started', { skip }, async (t) => {
  const root = bundle(t);
  const app = mkdtempSync(join(tmpdir(), 'sidecar-app-'));
  t.after(() => rmSync(app, { recursive: true }));
  cpSync(join(ROOT, 'example'), app, { recursive: true });
  mkdirSync(join(app, 'node_modules', '@sidecar'), { recursive: true });
  symlinkSync(ROOT, join(app, 'node_modules', '@sidecar', 'electron'));
  mkdirSync(join(app, 'node_modules', 'electron'));
  writeFileSync(join(app, 'package.json'), '{"type":"module"}');
  writeFileSync(join(app, 'node_modules', 'electron', 'package.json'), '{"type":"module","main":"index.js"}');
  writeFileSync(join(app, 'node_modules', 'electron', 'index.js'), ELECTRON);
  const program = `
    import { app, run } from 'electron';
    await run(${JSON.stringify(pathToFileURL(join(app, 'main.js')))});
    process.stdin.on('end', app.quit).resume();
  `;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    cwd: app,
    env: { ...process.env, SIDECAR_BUNDLE: root },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  const [told] = await Promise.race([once(child.stdout, 'data'), once(child, 'exit')]);
  const url = String(told).trim();
  assert.match(url, /^http:/);
  const { space } = await pictureOf(url, ({ state, space: { health } }) => state === 'ready' && health);
  child.stdin.end();
  const [code] = await once(child, 'exit');
  assert.equal(code, 0);
  const gone = new PythonSidecarClient({ port: space.port, retryAttempts: 0 });
  assert.equal(await gone.checkHealth(), false);
});

test('documents are embedded again when the space has changed', async (t) => {
  let fingerprint = 'one-space';
  const asked = [];
  const { port } = await serve(t, async (request, response) => {
    const { texts } = JSON.parse(await bodyOf(request));
    asked.push(texts.length);
    rows(response, texts, { fingerprint });
  });
  const client = new PythonSidecarClient({ port });
  t.after(() => client.close());
  const ranking = new Ranking(client, DOCUMENTS);
  await ranking.rank('water');
  await ranking.rank('water');
  fingerprint = 'another-space';
  const { fingerprint: told } = await ranking.rank('water');
  assert.equal(told, 'another-space');
  assert.deepEqual(asked, [1, DOCUMENTS.length, 1, 1, DOCUMENTS.length]);
});

test('the page goes when the app is stopped, and the sidecar before it', { skip }, async (t) => {
  const { startApp } = await import('../example/app.js');
  const app = await startApp({ resources: bundle(t), port: 0 });
  const { pid } = await app.service.startSidecar();
  await app.stop();
  await until(() => !isAlive(pid), 'it ends');
  await assert.rejects(get(app.url));
});
