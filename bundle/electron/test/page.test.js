import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { after, before } from 'node:test';

import { startApp } from '../example/app.js';
import { launch, obstacle, pale, spilled } from './support/browser.js';
import { PYTHON, QUICK, SCRIPT, until } from './support/service.js';

const skip = obstacle();
const kept = process.env.SIDECAR_SCREENSHOTS;
const folder = kept ?? mkdtempSync(join(tmpdir(), 'sidecar-page-'));
const bundle = process.env.SIDECAR_BUNDLE;
let browser;

before(async () => {
  mkdirSync(folder, { recursive: true });
  if (!skip) browser = await launch();
});
after(async () => {
  await browser?.close();
  if (!kept) rmSync(folder, { recursive: true, force: true });
});

async function scripted(t, behave = {}) {
  const args = ['--behave', JSON.stringify(behave)];
  const options = { pythonPath: PYTHON, scriptPath: SCRIPT, port: 0, backoff: QUICK, args };
  const app = await startApp(options);
  t.after(() => app.stop());
  return app;
}

// A page that is seen in both colour schemes, and that must not complain.
async function opened(t, { url, width = 1000, height = 860 }) {
  const page = await browser.newPage({ viewport: { width, height }, reducedMotion: 'reduce' });
  const complaints = [];
  page.on('console', (said) => said.type() === 'error' && complaints.push(said.text()));
  page.on('pageerror', (error) => complaints.push(String(error)));
  const foreign = [];
  page.on('request', (request) => {
    if (!request.url().startsWith(url) && !request.url().startsWith('data:')) foreign.push(request.url());
  });
  t.after(() => page.close());
  await page.goto(url);
  await page.waitForSelector('#documents li');
  return { page, complaints, foreign };
}

const shots = new Map();
async function pictured(page, name) {
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
    const path = join(folder, `${name}-${colorScheme}.png`);
    const bytes = await page.screenshot({ path, fullPage: true, animations: 'disabled' });
    for (const [other, known] of shots) assert.notDeepEqual(bytes, known, `${name} looks like ${other}`);
    shots.set(`${name}-${colorScheme}`, bytes);
    assert.deepEqual(await page.evaluate(pale), [], `${name}, ${colorScheme}`);
    assert.deepEqual(await page.evaluate(spilled), [], `${name}, ${colorScheme}`);
  }
}

const shown = (page, id) => page.locator(`#${id}`).isVisible();
const fact = (page, name) => page.locator(`dd[data-name="${name}"]`).textContent();

test('while it starts, the page tells how far it is', { skip }, async (t) => {
  const { url } = await scripted(t, { start: 60_000 });
  const { page, complaints, foreign } = await opened(t, { url });
  await page.waitForSelector('#steps li:nth-child(2).done');
  assert.equal(await page.locator('#steps li.done').count(), 2);
  assert.equal(await page.locator('#steps li.now').count(), 1);
  assert.equal(await page.locator('#status-text').textContent(), 'starting');
  assert.equal(await page.locator('#query').isDisabled(), true);
  assert.deepEqual([await shown(page, 'startup'), await shown(page, 'failure')], [true, false]);
  await pictured(page, 'starting');
  assert.deepEqual([complaints, foreign], [[], []]);
});

test('when it is ready, and when something is typed, the page shows it', { skip }, async (t) => {
  const { url, service } = await scripted(t);
  const { page, complaints, foreign } = await opened(t, { url });
  await page.waitForFunction(() => document.querySelector('dd[data-name="Fingerprint"]')?.textContent.length > 2);
  assert.equal(await fact(page, 'Health'), 'ok');
  assert.equal(await fact(page, 'Fingerprint'), 'c0ffee0123456789');
  assert.equal(await fact(page, 'Port'), String(service.getStatus().port));
  assert.equal(await shown(page, 'startup'), false);
  await pictured(page, 'ready');
  const before = await page.locator('#documents strong').allTextContents();
  await page.fill('#query', 'ships wait for the sea and the moon');
  await page.waitForSelector('#documents li.first');
  const numbers = (await page.locator('.similarity span').allTextContents()).map(Number);
  assert.deepEqual(numbers, [...numbers].sort((one, two) => two - one));
  assert.equal(numbers.length, before.length);
  assert.equal(await page.locator('#documents li.first strong').textContent(), 'Tides');
  assert.match(await page.locator('#hint').textContent() ?? '', /^Embedded and compared in \d+ ms\.$/);
  await pictured(page, 'ranked-by-words');
  await page.fill('#query', '');
  await page.waitForFunction(() => document.querySelector('.similarity') === null);
  assert.deepEqual(await page.locator('#documents strong').allTextContents(), before);
  assert.deepEqual([complaints, foreign], [[], []]);
});

test('a failure is told with what helps, and tried again on request', { skip }, async (t) => {
  const last = {
    message: 'a file of the model is damaged',
    why: 'model.safetensors has another hash',
    next: 'reinstall the app',
    exit_code: 4,
  };
  const { url, service } = await scripted(t, { exit: 4, says: `${JSON.stringify(last)}\n` });
  const { page, complaints } = await opened(t, { url });
  await page.waitForSelector('[data-state="failed"]');
  assert.match(await page.locator('#failure-message').textContent() ?? '', /model\.safetensors has another hash/);
  assert.equal(await page.locator('#failure-next').textContent(), 'What helps: reinstall the app');
  assert.equal(await page.locator('#failure-code').textContent(), 'BUNDLE_DAMAGED');
  assert.equal(await page.locator('#query').isDisabled(), true);
  await pictured(page, 'failed');
  const states = [];
  service.on('status', ({ state }) => states.push(state));
  await page.click('#again');
  await until(() => states.includes('starting') && states.at(-1) === 'failed', 'it is tried again');
  assert.deepEqual(complaints, []);
});

test('on a narrow window everything has its place', { skip }, async (t) => {
  const { url } = await scripted(t);
  const { page } = await opened(t, { url, width: 420, height: 800 });
  await page.waitForSelector('[data-state="ready"]');
  await page.fill('#query', 'water and light');
  await page.waitForSelector('#documents li.first');
  await pictured(page, 'narrow');
});

test('after a crash the page is there again, and answers what stands in it', { skip }, async (t) => {
  const { url, service } = await scripted(t, [{ after: 1500, signal: 'SIGKILL' }, {}]);
  const { page } = await opened(t, { url });
  await page.waitForSelector('[data-state="ready"]');
  await page.fill('#query', 'water');
  await page.waitForSelector('#documents li.first');
  await until(() => service.getStatus().restarts === 1, 'it crashes');
  await page.waitForSelector('[data-state="ready"]');
  await page.waitForSelector('#documents li.first');
});

test('with the real sidecar, meaning decides what comes first', {
  skip: skip || (bundle ? false : 'SIDECAR_BUNDLE names no bundle'),
}, async (t) => {
  const app = await startApp({ resources: bundle, port: 0 });
  t.after(() => app.stop());
  const { page, complaints, foreign } = await opened(t, { url: app.url });
  await page.waitForSelector('[data-state="ready"]', { timeout: 120_000 });
  const firsts = { 'music for four players': 'String quartets', 'how plants feed themselves': 'Photosynthesis' };
  for (const [text, title] of Object.entries(firsts)) {
    await page.fill('#query', text);
    await page.waitForFunction((typed) => document.body.dataset.answered === typed, text);
    assert.equal(await page.locator('#documents li.first strong').textContent(), title);
  }
  await pictured(page, 'ranked');
  assert.deepEqual([complaints, foreign], [[], []]);
});

test('the page is for its own window: no key, another host or origin get nothing', async (t) => {
  const { url, service } = await scripted(t);
  await service.startSidecar();
  const { host, pathname, origin } = new URL(url);
  const status = (path, headers = {}) =>
    new Promise((resolve) => {
      http.get(`${origin}${path}`, { headers }, (answer) => {
        answer.resume();
        resolve(answer.statusCode);
      });
    });
  assert.equal(await status(pathname), 200);
  assert.equal(await status('/'), 404);
  assert.equal(await status(`${pathname.slice(0, -2)}/`), 404);
  assert.equal(await status(pathname, { host: `evil.example:${host.split(':')[1]}` }), 404);
  assert.equal(await status(pathname, { origin: 'http://evil.example' }), 404);
  assert.equal(await status(`${pathname}../../package.json`), 404);
});
