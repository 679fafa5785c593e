// Pages of allowed and of other origins in a browser, with the sidecar of a bundle, which
// SIDECAR_BUNDLE names.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import test, { after, before } from 'node:test';

import { PythonSidecarService } from '../src/index.js';
import { launch, obstacle } from './support/browser.js';

const bundle = process.env.SIDECAR_BUNDLE;
const skip = obstacle() || (bundle ? false : 'SIDECAR_BUNDLE names no bundle');
const BLOCKED = 'blocked';
let browser;

before(async () => {
  if (!skip) browser = await launch();
});
after(() => browser?.close());

const JSON_TYPE = { 'content-type': 'application/json' };
const PLAIN = { 'content-type': 'text/plain' };
const OPENAI = { 'x-stainless-lang': 'js', 'x-stainless-retry-count': '0' };
const TEXTS = '{"texts":["harbour"]}';
const INPUT = '{"input":"harbour"}';
// What a page sends, and the status that one of an allowed origin reads; others read nothing.
const SENT = [
  ['GET', '/health', {}, undefined, 200],
  ['GET', '/info', {}, undefined, 200],
  ['POST', '/embed', JSON_TYPE, TEXTS, 200],
  ['POST', '/embed', PLAIN, TEXTS, 415],
  ['POST', '/embed', JSON_TYPE, '{"inputs":"harbour"}', 200],
  ['POST', '/v1/embeddings', { ...JSON_TYPE, ...OPENAI }, INPUT, 200],
  ['POST', '//v1/embeddings/', JSON_TYPE, INPUT, 200],
  ['POST', '/api/embed', JSON_TYPE, INPUT, 200],
  ['POST', '/api/embed', PLAIN, INPUT, 415],
  ['POST', '/api/embed', JSON_TYPE, '{"input":7}', 400],
  ['POST', '/v1/embeddings', { ...JSON_TYPE, authorization: 'Bearer wrong' }, INPUT, 401],
  ['POST', '/api/embed', PLAIN, INPUT, 401, 'without a token'],
  ['GET', '/nothing', {}, undefined, 404],
  ['POST', '/shutdown', {}, undefined, 403, 'without a token'],
  ['POST', '/shutdown', {}, undefined, BLOCKED],
  ['PUT', '/embed', JSON_TYPE, TEXTS, BLOCKED],
  ['POST', '/embed', { ...JSON_TYPE, 'x-other': '1' }, TEXTS, BLOCKED],
];

// In the page: the statuses that it reads, and whether every answer that has them shows our headers.
async function asked({ url, token, sent }) {
  const read = [];
  for (const [method, path, headers, body, , isBare] of sent) {
    const told = isBare ? headers : { authorization: `Bearer ${token}`, ...headers };
    const answer = await fetch(url + path, { method, headers: told, body }).catch(() => undefined);
    read.push(answer?.status ?? 'blocked');
    if (answer && !answer.headers.get('x-request-id')) read.push('without its id');
  }
  const options = { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"input":"a"}' };
  options.headers.authorization = `Bearer ${token}`;
  const answer = await fetch(`${url}/v1/embeddings`, options).catch(() => undefined);
  read.push(answer?.headers.get('x-sidecar-fingerprint')?.length ?? 'blocked');
  // With cookies nobody is let in.
  const included = await fetch(`${url}/health`, { credentials: 'include' }).catch(() => undefined);
  read.push(included?.status ?? 'blocked');
  return read;
}

test('a page of an allowed origin reads every answer, and others none', { skip }, async (t) => {
  const pages = http.createServer((_, answer) => {
    answer.setHeader('content-type', 'text/html');
    answer.end('<!doctype html><title>A page</title>');
  });
  pages.listen(0);
  await once(pages, 'listening');
  const { port } = pages.address();
  const allowed = `http://127.0.0.1:${port}`;
  const service = new PythonSidecarService({
    resources: bundle, port: 0, engine: 'hash', allowOrigins: [allowed],
  });
  t.after(async () => {
    await service.stopSidecar();
    pages.close();
  });
  await service.startSidecar();
  const { host, port: own, token } = await service.endpoint();
  const url = `http://${host}:${own}`;
  const page = await browser.newPage();
  t.after(() => page.close());
  const statuses = SENT.map(([, , , , status]) => status);
  await page.goto(allowed);
  const readable = await page.evaluate(asked, { url, token, sent: SENT });
  assert.deepEqual(readable, [...statuses, 16, BLOCKED]);
  await page.goto(`http://localhost:${port}`);
  const hidden = await page.evaluate(asked, { url, token, sent: SENT });
  assert.deepEqual(new Set(hidden), new Set([BLOCKED]));
  // In a frame without an origin, which may send what needs no question.
  await page.goto(allowed);
  const framed = await page.evaluate(
    ({ url: address, token: shown, sent, code }) =>
      new Promise((resolve) => {
        addEventListener('message', ({ data }) => resolve(data));
        const frame = document.createElement('iframe');
        frame.sandbox = 'allow-scripts';
        const given = JSON.stringify({ url: address, token: shown, sent });
        frame.srcdoc = `<script>(${code})(${given}).then((read) => parent.postMessage(read, '*'))</script>`;
        document.body.append(frame);
      }),
    { url, token, sent: SENT, code: asked.toString() },
  );
  assert.deepEqual(new Set(framed), new Set([BLOCKED]));
  assert.equal(service.getStatus().state, 'ready');
  const headers = { authorization: `Bearer ${token}` };
  const metrics = await (await fetch(`${url}/metrics`, { headers })).text();
  // Of each page three questions, and the body that needs none: it was refused by the service.
  assert.match(metrics, /sidecar_requests_total\{[^}]*"\/api\/embed"[^}]*"403"[^}]*\} 8/);
});
