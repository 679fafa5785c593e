// The page that the service itself serves at /, in a browser: with the service of a bundle, which
// SIDECAR_BUNDLE names, and where states are looked at that last a moment, with a scripted one.
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { after, before } from 'node:test';

import { locate } from '../src/paths.js';
import { launch, obstacle, pale, spilled } from './support/browser.js';
import { serve } from './support/service.js';

const bundle = process.env.SIDECAR_BUNDLE;
const checkout = process.env.SIDECAR_CHECKOUT;
const skip = obstacle() || (bundle ? false : 'SIDECAR_BUNDLE names no bundle');
const skipScripted = obstacle() || (checkout ? false : 'SIDECAR_CHECKOUT names no checkout');
const kept = process.env.SIDECAR_SCREENSHOTS;
const folder = kept ?? mkdtempSync(join(tmpdir(), 'sidecar-served-'));
const TOKEN = 'a-token-of-thirty-two-characters';
const HOSTILE = '<img src=x onerror="document.body.dataset.broken=1">';
let browser;

before(async () => {
  mkdirSync(folder, { recursive: true });
  if (!skipScripted) browser = await launch();
});
after(async () => {
  await browser?.close();
  if (!kept) rmSync(folder, { recursive: true, force: true });
});

// The service of the bundle, once it is ready: where it is, and how it is killed.
async function started(t, { args = [], port = 0, token }) {
  const { pythonPath, scriptPath } = locate({ resources: bundle });
  const given = ['-I', '-B', scriptPath, '--port', String(port), ...args];
  const env = { ...process.env, ...(token ? { SIDECAR_TOKEN: token } : {}) };
  const child = spawn(pythonPath, given, { env, stdio: ['ignore', 'pipe', 'ignore'] });
  const ended = new Promise((resolve) => child.on('exit', resolve));
  const kill = async () => {
    child.kill('SIGKILL');
    await ended;
  };
  t.after(kill);
  const ready = await new Promise((resolve, reject) => {
    let text = '';
    child.stdout.on('data', (part) => {
      text += part;
      const found = /^PROGRESS:(\{"type": ?"ready".*\})$/m.exec(text);
      if (found) resolve(JSON.parse(found[1]).data);
    });
    child.on('exit', () => reject(new Error(`the service ended: ${text}`)));
  });
  return { url: `http://127.0.0.1:${ready.port}/`, port: ready.port, kill };
}

async function opened(t, url, { width = 1000, height = 900 } = {}) {
  const context = await browser.newContext({
    viewport: { width, height },
    reducedMotion: 'reduce',
    permissions: ['clipboard-read', 'clipboard-write'],
  });
  // The page asks every second, and is not to be waited for.
  await context.addInitScript(() => {
    const { setTimeout } = window;
    window.setTimeout = (task, ms) => setTimeout(task, Math.min(ms, 50));
  });
  const page = await context.newPage();
  const complaints = [];
  page.on('console', (said) => said.type() === 'error' && complaints.push(said.text()));
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('request', (request) => {
    if (!request.url().startsWith(url)) complaints.push(request.url());
  });
  t.after(() => context.close());
  await page.goto(url);
  return { page, complaints, context };
}

const inState = (page, state) => page.waitForSelector(`body[data-state="${state}"]`);
const text = (page, id) => page.locator(`#${id}`).textContent();

async function pictured(page, name) {
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
    await page.screenshot({ path: join(folder, `served-${name}-${colorScheme}.png`), fullPage: true });
    assert.deepEqual(await page.evaluate(pale), [], `${name}, ${colorScheme}`);
    assert.deepEqual(await page.evaluate(spilled), [], `${name}, ${colorScheme}`);
  }
}

const embedded = async (url, texts) => {
  const headers = { 'Content-Type': 'application/json' };
  const answer = await fetch(`${url}embed`, { method: 'POST', headers, body: JSON.stringify({ texts }) });
  return (await answer.json()).vectors;
};

test('the page of a ready service compares, reads and shows what to copy', { skip }, async (t) => {
  const { url } = await started(t, {});
  const { page, complaints } = await opened(t, url);
  await inState(page, 'ready');
  assert.match(await text(page, 'models'), /\d+ dimensions, reads \d+ tokens.*fingerprint [0-9a-f]{16}/);
  assert.match(await text(page, 'facts'), /Queued0 of [\d,]+ tokens/);

  // By the keyboard alone, from the second text on.
  await page.focus('#second');
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle), 'solid');
  await page.keyboard.press('Enter');
  await page.waitForSelector('#cosine-result:not([hidden])');
  const [one, other] = await embedded(url, ['a place for ships', 'harbour']);
  const cosine = one.reduce((sum, value, at) => sum + value * other[at], 0);
  assert.equal(await text(page, 'cosine'), cosine.toFixed(4));
  await page.waitForFunction(() => document.querySelector('#texts-chart .line').getAttribute('d').length > 20);

  await page.fill('#second', 'soup');
  assert.equal(await page.locator('#cosine-result').isVisible(), false);
  await page.keyboard.press('Control+Enter');
  await page.waitForSelector('#cosine-result:not([hidden])');
  assert.notEqual(await text(page, 'cosine'), cosine.toFixed(4));

  // A file whose name and text are HTML, chosen and then dropped.
  const file = { name: `${HOSTILE}.md`, mimeType: 'text/markdown', buffer: Buffer.from(`${HOSTILE}\n\nShips.`) };
  await page.setInputFiles('#file', file);
  await page.waitForSelector('#chunks li');
  assert.match(await text(page, 'document-note'), /^<img src=x .*: 1 chunk, [\d.]+ s\.$/);
  assert.match(await text(page, 'chunks'), /^characters 0 to \d+, \d+ tokens<img src=x/);
  await page.evaluate(([name, body]) => {
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([body], name));
    document.querySelector('h1').dispatchEvent(new DragEvent('drop', { dataTransfer, bubbles: true, cancelable: true }));
  }, [`${HOSTILE}.txt`, `${HOSTILE} dropped`]);
  await page.waitForFunction(() => document.querySelector('#chunks')?.textContent.endsWith('dropped'));
  assert.equal(await page.locator('img').count(), 0);
  assert.equal(await page.evaluate(() => document.body.dataset.broken), undefined);
  await page.setInputFiles('#file', { ...file, name: 'empty.pdf', buffer: Buffer.from('no PDF') });
  await page.waitForSelector('#document-error:not(:empty)');

  const blocks = await page.locator('#code pre').allTextContents();
  assert.equal(blocks.length, 4);
  const [curl, node] = blocks;
  const lengths = [JSON.parse(execFileSync('bash', ['-c', `${curl} --silent`])).vectors[0].length];
  const run = `${node}\nconsole.log(vectors[0].length);`;
  lengths.push(Number(execFileSync(process.execPath, ['--input-type=module', '-e', run])));
  assert.deepEqual(lengths, [one.length, one.length]);
  await page.click('#code button >> nth=2');
  await page.waitForFunction(() => document.getElementById('copied').textContent === 'Copied: Python, openai.');
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), blocks[2]);

  await pictured(page, 'ready');
  await page.setViewportSize({ width: 320, height: 700 });
  await pictured(page, 'narrow');
  // The empty PDF was refused, which the browser itself logs.
  assert.deepEqual(complaints.filter((said) => !/status of 422/.test(said)), []);
});

test('a token opens the page, is kept nowhere, and goes to no other start', { skip }, async (t) => {
  const args = ['--engine', 'hash'];
  const first = await started(t, { args, token: TOKEN });
  const { url } = first;
  const { page, complaints, context } = await opened(t, url);
  const shown = [];
  page.on('request', (request) => shown.push(request.headers().authorization));
  await inState(page, 'unauthorised');
  await pictured(page, 'unauthorised');
  await page.fill('#token', 'another');
  await page.keyboard.press('Enter');
  await page.waitForSelector('#token-error:not(:empty)');
  await page.fill('#token', TOKEN);
  await page.keyboard.press('Enter');
  await inState(page, 'degraded');
  assert.match(await text(page, 'notices'), /Degraded: sidecar\/hash \(hash\)\. The vectors are/);
  await page.click('#compare button');
  await page.waitForSelector('#cosine-result:not([hidden])');
  await pictured(page, 'degraded');
  assert.ok(shown.includes(`Bearer ${TOKEN}`));
  const left = await page.evaluate(() => [
    document.documentElement.outerHTML,
    ...[...document.querySelectorAll('input, textarea')].map((field) => field.value),
    location.href,
    JSON.stringify([localStorage, sessionStorage, history.state]),
    ...performance.getEntries().map((entry) => entry.name),
  ]);
  assert.deepEqual(left.filter((part) => part.includes(TOKEN)), []);
  assert.deepEqual(await context.cookies(), []);
  assert.deepEqual(complaints, []);

  await first.kill();
  await inState(page, 'gone');
  shown.length = 0;
  await started(t, { args, port: first.port, token: TOKEN });
  await inState(page, 'unauthorised');
  assert.match(await text(page, 'notices'), /It was started again/);
  await page.click('#compare button');
  await page.waitForSelector('#compare-error:not(:empty)');
  assert.deepEqual(shown.filter(Boolean), []);
  await page.fill('#token', TOKEN);
  await page.keyboard.press('Enter');
  await inState(page, 'degraded');
  await page.click('#forget');
  await inState(page, 'unauthorised');
});

const TYPES = { 'index.html': 'text/html', 'page/page.css': 'text/css', 'page/page.js': 'text/javascript' };

test('the page tells what the service is doing, and why it is not ready', { skip: skipScripted }, async (t) => {
  const said = { status: 'loading', phase: 'checking', instance: 'one', version: '1.0.0', bundle: 'present', model: null };
  const info = {
    model_id: 'stub/words',
    dim: 8,
    max_tokens: 10,
    engine: 'stub',
    precision: 'float32',
    device: 'cpu',
    threads: 1,
    limits: { max_queued_tokens: 100, max_file_bytes: 10 },
  };
  let refused = 0;
  const { port } = await serve(t, (request, response) => {
    const path = request.url === '/' ? 'index.html' : request.url.slice(1);
    response.setHeader('content-type', TYPES[path] ?? 'application/json');
    if (TYPES[path]) {
      response.end(readFileSync(join(checkout, 'service/sidecar/web/page', path.split('/').at(-1))));
    } else if (path === 'health') {
      response.statusCode = said.status === 'ok' ? 200 : 503;
      response.end(JSON.stringify(said));
    } else if (path === 'info') {
      response.end(JSON.stringify(info));
    } else {
      response.end(`sidecar_texts_total 1\nsidecar_tokens_total 4\nsidecar_requests_refused_total ${refused}.0\n`);
    }
  });
  const { page } = await opened(t, `http://127.0.0.1:${port}/`);
  await inState(page, 'loading');
  assert.match(await text(page, 'notices'), /The model is loading\. Reference texts are embedded and compared/);
  await pictured(page, 'loading');
  Object.assign(said, { status: 'ok', phase: 'ready', model: 'stub/words' });
  await inState(page, 'ready');
  await page.waitForFunction(() => document.getElementById('facts').textContent.includes('Refused0'));
  refused = 3;
  await inState(page, 'full');
  assert.match(await text(page, 'notices'), /3 requests had to be refused/);
  for (const [status, words] of [['stuck', /engine is stuck/], ['dead', /thread ended/], ['stopping', /new ones are refused/]]) {
    said.status = status;
    await inState(page, status);
    assert.match(await text(page, 'notices'), words);
  }
  Object.assign(said, { status: 'ok', bundle: 'gone' });
  info.models = [{ ...info }, { ...info, model_id: 'stub/more', phase: 'failed', failure: 'model-fails' }];
  said.instance = 'two';
  await page.waitForFunction(() => /bundle is gone/.test(document.getElementById('notices').textContent));
  assert.deepEqual(await page.locator('#model option').allTextContents(), ['stub/words', 'stub/more']);
  assert.match(await text(page, 'models'), /stub\/more failed/);
  assert.match(await text(page, 'notices'), /stub\/more could not be loaded\. model-fails\. Requests try again\./);
  await page.setInputFiles('#file', { name: 'long.txt', mimeType: 'text/plain', buffer: Buffer.alloc(11) });
  await page.waitForFunction(() => /larger than/.test(document.getElementById('document-error').textContent));
});
