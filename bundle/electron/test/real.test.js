// The three classes with the sidecar of a bundle, which SIDECAR_BUNDLE names.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  cpSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync,
} from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'node:test';

import { PythonSidecarEmbedder, PythonSidecarService } from '../src/index.js';
import { cosine } from '../example/ranking.js';
import { isAlive, stranger, until } from './support/service.js';

const bundle = process.env.SIDECAR_BUNDLE;
const skip = bundle ? false : 'SIDECAR_BUNDLE names no bundle';
const checkout = process.env.SIDECAR_CHECKOUT;
const NO_CHECKOUT = checkout ? false : 'SIDECAR_CHECKOUT names no checkout';
const NO_LINKS = process.platform === 'linux' ? false : 'there is no cp that makes links';
// The hash engine starts in a second; what is asked here is not about vectors.
const QUICK = { engine: 'hash' };

// A copy of the bundle whose files are links to it, where that is on the same disk.
function linked(place) {
  const isLinked = spawnSync('cp', ['-al', bundle, place]).status === 0;
  if (isLinked) return;
  rmSync(place, { recursive: true, force: true });
  assert.equal(spawnSync('cp', ['-a', bundle, place]).status, 0);
}

function started(t, options = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'sidecar-real-'));
  const log = [];
  const service = new PythonSidecarService({
    resources: bundle,
    port: 0,
    onLog: (line) => log.push(line),
    ...options,
  });
  const client = service.client({ retryDelay: 100 });
  t.after(async () => {
    await service.stopSidecar();
    client.close();
    rmSync(folder, { recursive: true });
  });
  return { service, client, folder, log };
}

test('vectors are the golden ones, one by one and in batches', { skip }, async (t) => {
  const { service, client } = started(t);
  const status = await service.startSidecar();
  const { models } = JSON.parse(readFileSync(join(bundle, 'manifest.json'), 'utf8'));
  const golden = JSON.parse(readFileSync(join(bundle, models[0].golden), 'utf8'));
  const expected = golden.vectors.map((text) => {
    const bytes = Uint8Array.from(Buffer.from(text, 'base64'));
    return new Float32Array(bytes.buffer);
  });
  const embedder = new PythonSidecarEmbedder({ client });
  const vectors = await embedder.embedBatch(golden.texts);
  const single = await embedder.embedSingle(golden.texts[0]);
  const worst = Math.min(...expected.map((row, index) => cosine(row, vectors[index])));
  assert.ok(worst >= 0.9999, `the worst cosine is ${worst}`);
  assert.ok(cosine(single, expected[0]) >= 0.9999);
  assert.equal(embedder.dimensions, golden.dim);
  assert.equal(status.dimensions, golden.dim);
  const batch = await client.embedBatch(golden.texts, true);
  assert.equal(batch.length, golden.texts.length);
  assert.ok(batch.tokens > golden.texts.length);
  const info = await client.info();
  assert.equal(info.fingerprint, embedder.fingerprint);
  assert.equal(await embedder.needsReindex(info.fingerprint), false);
});

test('it serves nobody without the token, and tells strangers only its state', { skip }, async (t) => {
  const { service, client } = started(t, QUICK);
  const { port, instance } = await service.startSidecar();
  const bare = await fetch(`http://127.0.0.1:${port}/health`);
  assert.equal((await bare.json()).instance, instance);
  for (const path of ['/info', '/embed', '/shutdown']) {
    const method = path === '/info' ? 'GET' : 'POST';
    assert.equal((await fetch(`http://127.0.0.1:${port}${path}`, { method })).status, 401, path);
  }
  assert.equal((await client.embed('x')).vectors.length, 1);
});

test('a stranger on the port is left alone, and the token never sent there', { skip }, async (t) => {
  const { port, heard } = await stranger(t);
  const { service, client } = started(t, { ...QUICK, port });
  assert.notEqual((await service.startSidecar()).port, port);
  await client.embed('secret text');
  assert.equal(heard.some(({ headers }) => 'authorization' in headers), false);
});

test('a bundle replaced under load costs no request', { skip: skip || NO_LINKS }, async (t) => {
  const room = mkdtempSync(join(tmpdir(), 'sidecar-bundle-'));
  t.after(() => rmSync(room, { recursive: true }));
  const [here, other] = [join(room, 'here'), join(room, 'other')];
  linked(here);
  linked(other);
  const manifest = join(other, 'manifest.json');
  const said = JSON.parse(readFileSync(manifest, 'utf8'));
  rmSync(manifest);
  writeFileSync(manifest, JSON.stringify({ ...said, version: `${said.version}.9` }));
  const options = { ...QUICK, resources: here, healthInterval: 100, backoff: { firstMs: 50 } };
  const { service, client } = started(t, options);
  const first = await service.startSidecar();
  let isOver = false;
  let answers = 0;
  const ask = async () => {
    while (!isOver) answers += (await client.embed('x')).vectors.length;
  };
  const asking = Promise.all(Array.from({ length: 16 }, ask));
  await until(() => answers > 100, 'requests are answered');
  renameSync(here, join(room, 'old'));
  renameSync(other, here);
  const began = performance.now();
  await until(() => service.getStatus().restarts === 1, 'it is noticed');
  await until(() => service.getStatus().ready, 'it is back', 60_000);
  t.diagnostic(`restarted within ${Math.round(performance.now() - began)} ms`);
  const before = answers;
  await until(() => answers > before + 100, 'requests are answered again', 60_000);
  isOver = true;
  await asking;
  assert.notEqual(service.getStatus().pid, first.pid);
  assert.equal(service.getStatus().lastError?.code, 'BUNDLE_GONE');
  assert.equal((await client.health()).bundle, 'present');
});

test('a killed service is back, and the client goes on', { skip }, async (t) => {
  const { service, client } = started(t, { ...QUICK, backoff: { firstMs: 50 } });
  const { pid } = await service.startSidecar();
  process.kill(pid, 'SIGKILL');
  await until(() => service.getStatus().restarts === 1, 'it notices');
  assert.equal((await client.embed('x')).vectors.length, 1);
  assert.notEqual(service.getStatus().pid, pid);
});

test('it stops at once, and nothing of it is left', { skip }, async (t) => {
  const { service } = started(t, QUICK);
  const { pid } = await service.startSidecar();
  await service.stopSidecar();
  assert.equal(isAlive(pid), false);
  assert.equal(service.getStatus().lastError, undefined);
});

test('an option that it refuses is told in its own words', { skip }, async (t) => {
  const { service } = started(t, { args: ['--no-such-option'] });
  await assert.rejects(service.startSidecar(), (error) => {
    assert.match(error.message, /--no-such-option/);
    return error.code === 'USAGE_ERROR';
  });
});

test('a model that the bundle does not have is told at once, with the name of one', { skip }, async (t) => {
  const types = [];
  const { service } = started(t, { model: 'no-such-model', onProgress: ({ type }) => types.push(type) });
  await assert.rejects(service.startSidecar(), (error) => {
    assert.match(error.next, /^model: '\w+'$/);
    return error.code === 'OUT_OF_REACH';
  });
  assert.deepEqual(types, ['starting', 'failed']);
});

test('a Python without the modules is told the first that it misses', { skip }, async (t) => {
  const { service } = started(t, { pythonPath: 'python3.11' });
  await assert.rejects(service.startSidecar(), (error) => {
    if (error.code === 'PYTHON_NOT_FOUND') return true;
    assert.match(error.message, /a Python module is missing: \w+; next: /);
    return error.code === 'PYTHON_DEPS_MISSING';
  });
});

test('code that was written for the first API runs as it stands', { skip }, async (t) => {
  const stages = [];
  const scriptPath = join(bundle, 'embedding_sidecar', 'embed_server.py');
  const { service, client } = started(t, {
    ...QUICK, scriptPath, autoRestart: true, onProgress: ({ type }) => stages.push(type),
  });
  assert.equal(await client.checkHealth(), false);
  await service.startSidecar();
  assert.equal(await client.checkHealth(), true);
  assert.deepEqual(stages, ['starting', 'model_loaded', 'ready']);
  const result = await client.embedBatch(['harbour', 'a place for ships'], true);
  assert.equal(result.length, 2);
  assert.equal(result[0].length, result.dimensions);
  assert.deepEqual(result.vectors, [...result]);
  const bare = await client.embedBatch(['harbour', 'a place for ships'], false);
  assert.notEqual(bare.fingerprint, result.fingerprint);
  assert.ok(Math.abs(Math.hypot(...result[0]) - 1) < 1e-5);
  assert.ok(Math.abs(Math.hypot(...bare[1]) - 1) > 1e-3);
  await service.stopSidecar();
  assert.equal(await client.checkHealth(), false);
});

test('the script of a checkout serves the default model of its bundle', { skip: skip || NO_CHECKOUT }, async (t) => {
  const room = mkdtempSync(join(tmpdir(), 'sidecar-checkout-'));
  t.after(() => rmSync(room, { recursive: true }));
  const { target, models } = JSON.parse(readFileSync(join(bundle, 'manifest.json'), 'utf8'));
  mkdirSync(join(room, 'build', 'bundler'), { recursive: true });
  mkdirSync(join(room, 'bundle', 'out'), { recursive: true });
  symlinkSync(bundle, join(room, 'bundle', 'out', target), 'junction');
  cpSync(join(checkout, 'service'), join(room, 'service'), { recursive: true });
  const scriptPath = join(room, 'service', 'embed_server.py');
  const { service, client } = started(t, { scriptPath });
  const status = await service.startSidecar();
  assert.equal(status.dimensions, models[0].dim);
  assert.equal((await client.info()).model_id, models[0].repository);
});

test('a document comes in chunks with their places, from a folder and as bytes', { skip }, async (t) => {
  const { service, client, folder } = started(t, { ...QUICK, allowDirs: [tmpdir()] });
  await service.startSidecar();
  const text = Array.from({ length: 400 }, (_, n) => `Sentence ${n} is about ships.`).join(' ');
  const path = join(folder, 'ä b.txt');
  writeFileSync(path, text);
  const embedder = new PythonSidecarEmbedder({ client });
  for (const document of [path, { bytes: Buffer.from(text), contentType: 'text/plain' }]) {
    const events = [];
    for await (const event of embedder.embedFile(document)) events.push(event);
    assert.equal(events[0].type, 'start');
    assert.equal(events.at(-1).type, 'end');
    const parts = events.filter((event) => event.type === 'chunks');
    const spans = parts.flatMap((part) => part.spans);
    const chunks = parts.flatMap((part) => part.chunks);
    assert.equal(chunks.length, events[0].chunks);
    assert.equal(parts.flatMap((part) => part.vectors).length, chunks.length);
    assert.ok(chunks.length > 5);
    spans.forEach(({ start, end, truncated }, index) => {
      assert.equal(text.slice(start, end), chunks[index]);
      assert.equal(truncated, false);
    });
  }
});

test('a page of an allowed origin may ask and read, and no other', { skip }, async (t) => {
  const { service } = started(t, { ...QUICK, allowOrigins: ['app://obsidian.md'] });
  await service.startSidecar();
  const { host, port, token } = await service.endpoint();
  for (const [origin, status] of [['app://obsidian.md', 200], ['https://evil.example', 403]]) {
    const headers = { origin, authorization: `Bearer ${token}` };
    const request = http.get({ host, port, path: '/info', headers, agent: false });
    const [answer] = await once(request, 'response');
    answer.resume();
    assert.equal(answer.statusCode, status);
    assert.equal(answer.headers['access-control-allow-origin'], status === 200 ? origin : undefined);
  }
});

test('a document outside of the allowed folders is refused', { skip }, async (t) => {
  const { service, client, folder } = started(t, QUICK);
  await service.startSidecar();
  const path = join(folder, 'a.txt');
  writeFileSync(path, 'text');
  const reading = client.embedFile(path).next();
  await assert.rejects(reading, (error) => error.status === 403);
});
